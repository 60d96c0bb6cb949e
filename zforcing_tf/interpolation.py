"""Sentences between two sentences: the latents of whole sequences mixed, and decoded again.

As in the paper each of the two is stood for by the best of many samples of its posterior, and what
is mixed is linear, step by step: at the weight w the latents `(1 - w) z_first + w z_second`.

Sentences differ in length, on which the paper is silent. Here the latent of a step that a sentence
does not have counts as the prior's mean given what is decoded so far: at weight 0 and 1 the end
points are decoded from their own latents, and go on as the model expects if they have not ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf import tables
from zforcing_tf.data.description import Text
from zforcing_tf.data.spec import Split
from zforcing_tf.data.vocabulary import Encoder, tokens_of
from zforcing_tf.decoder import Decoder, Given
from zforcing_tf.decoding import Decoded
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import SAMPLE_STEP
from zforcing_tf.requests import check_counts
from zforcing_tf.sentences import line, printable
from zforcing_tf.sequence_model import SequenceModel

_FOR_SYMBOLS = 1 << 27
"""Noise of drawn symbols must not be that of latents."""


class EndPoint(NamedTuple):
    """A sentence, and the latents that stand for it."""

    symbols: npt.NDArray[np.int32]
    """[N], the end among them."""
    latents: npt.NDArray[np.float64]
    """[N, Z]"""
    log_weight: float
    """log p(x, z) - log q(z | x), nats."""


class Interpolation(NamedTuple):
    """Sentences between two."""

    first: EndPoint
    second: EndPoint
    weights: npt.NDArray[np.float64]
    """Of the second, [points], from 0 to 1."""
    decoded: dict[str, Decoded]
    """By the name of the way of decoding, a row for each weight."""


def end_point(
    model: SequenceModel,
    symbols: npt.NDArray[np.int32],
    num_samples: int = 200,
    seed: tuple[int, int] = (0, 0),
    samples_at_once: int = 50,
) -> EndPoint:
    """The best of many samples of the posterior: the one of the greatest importance weight.

    Args:
        model: with a latent.
        symbols: of a sentence, [N], the end among them.
        num_samples: samples.
        seed: of a row; sample k is that of `SequenceModel.iwae`.
        samples_at_once: bounds the memory; changes no result but by rounding.
    """
    check_counts(num_samples=num_samples, samples_at_once=samples_at_once)
    first = np.arange(num_samples, dtype=np.int64) * SAMPLE_STEP + seed[0]
    # Goes round beyond 32 bits, as the seeds of `iwae` do.
    seeds = np.stack([first, np.full(num_samples, seed[1])], axis=1).astype(np.int32)
    log_weights = []
    for start in range(0, num_samples, samples_at_once):
        some = seeds[start : start + samples_at_once]
        x = np.tile(symbols, (len(some), 1))
        log_weights.append(model.iwae(x, num_samples=1, seed=some).numpy())
    every = np.concatenate(log_weights)
    best = int(np.argmax(every))
    latents = model.encode(symbols[np.newaxis], seed=seeds[best : best + 1]).latent[0]
    return EndPoint(symbols, latents.numpy().astype(np.float64), float(every[best]))


def interpolate(
    decoder: Decoder,
    first: EndPoint,
    second: EndPoint,
    num_steps: int,
    num_points: int = 11,
    top_k: int = 10,
    beam: int = 10,
    seed: tuple[int, int] = (0, 0),
) -> Interpolation:
    """Decodes latents between those of two sentences in three ways.

    Args:
        decoder: of the model.
        first: at the weight 0.
        second: at the weight 1.
        num_steps: of the longest sentence decoded, its end among them.
        num_points: weights, evenly spaced, both ends among them.
        top_k: of how many symbols one is drawn.
        beam: width.
        seed: of the drawing, whose noise all points share, so that a sentence differs from the one
            before for its latents alone.
    """
    weights = np.linspace(0.0, 1.0, num_points)
    ends = (Given.of(end.latents[np.newaxis], num_steps) for end in (first, second))
    here, there = (Given(*(np.repeat(v, num_points, axis=0) for v in end)) for end in ends)
    given = here.towards(there, weights)
    own = np.array([(seed[0] + _FOR_SYMBOLS, seed[1])]).astype(np.int32)
    ways: dict[str, Callable[[], Decoded]] = {
        "argmax": lambda: decoder.greedy(given),
        f"top-{top_k}": lambda: decoder.sample(given, top_k, seed=np.repeat(own, num_points, 0)),
        f"beam-{beam}": lambda: _likeliest(decoder.beam_search(given, beam)),
    }
    return Interpolation(first, second, weights, {name: way() for name, way in ways.items()})


def _likeliest(beams: Decoded) -> Decoded:
    return Decoded(*(values[:, 0] for values in beams))


def pairs_of(
    split: Split, text: Text, num_pairs: int, max_steps: int, seed: int
) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Pairs of different sentences of a split, by chance; fewer if there are fewer that are fit.

    Fit are those of at most `max_steps` steps that have a word and no unknown one.

    Raises:
        UserError: fewer than two are fit.
    """
    possible = np.flatnonzero((split.lengths > 1) & (split.lengths <= max_steps))
    found: list[npt.NDArray[np.int32]] = []
    for index in np.random.default_rng(seed).permutation(possible):
        symbols = split.padded([index])[0][0]
        if text.unknown not in symbols:
            found.append(symbols)
        if len(found) == 2 * num_pairs:
            break
    if len(found) < 2:
        raise UserError(
            f"the {split.name} split has {len(found)} sentences of 2 to {max_steps} steps without "
            "unknown words, and a pair needs two: raise --max_steps, or give --first and --second"
        )
    return list(zip(found[0::2], found[1::2], strict=False))


def symbols_of(
    sentence: str, text: Text, max_steps: int, lower_case: bool = True
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Symbols of a user's sentence, the end behind them, and its tokens that are not known.

    Args:
        sentence: split into tokens as the data were.
        text: what symbols stand for.
        max_steps: the most that are possible.
        lower_case: whether it is turned into lower case first.

    Raises:
        UserError: no token, or too many.
    """
    tokens = tokens_of(text, sentence, lower_case)
    if not tokens:
        raise UserError("a sentence to go from or to is empty: give one word at least")
    if len(tokens) + 1 > max_steps:
        raise UserError(
            f"the sentence {sentence!r} has {len(tokens) + 1} steps, its end among them: give one "
            f"of at most {max_steps}, or raise --max_steps"
        )
    encoder = Encoder(text)
    return encoder(tokens), encoder.unknown(tokens)


def columns(found: Interpolation, text: Text) -> list[tables.Column]:
    """A table of the sentences, a line for each weight."""
    decimals = 1 if 10 % (len(found.weights) - 1) == 0 else 2
    weights = [f"{weight:.{decimals}f}" for weight in found.weights]
    written = [tables.Column("weight", "weight", weights)]
    for name, decoded in found.decoded.items():
        written.append(tables.Column(name, name, [line(x, text) for x in decoded.x]))
    return written


def as_text(found: Interpolation, text: Text) -> str:
    """The sentences for a terminal."""
    return f"{_ends(found, text, printable)}\n\n{tables.as_text(columns(found, text))}"


def as_markdown(found: Sequence[Interpolation], text: Text, heading: str) -> str:
    """All pairs as one page of Markdown."""
    pages = [heading]
    for number, each in enumerate(found, start=1):
        escaped = [
            tables.Column(c.name, c.title, [_literal(str(value)) for value in c.values])
            for c in columns(each, text)
        ]
        pages += [f"## Pair {number}", _ends(each, text, _literal), tables.as_markdown(escaped)]
    return "\n\n".join(pages) + "\n"


def _ends(found: Interpolation, text: Text, written: Callable[[str], str]) -> str:
    lines = [
        f"{name}: {written(text.sentence(end.symbols))} (log weight {end.log_weight:.1f} nats)"
        for name, end in (("first", found.first), ("second", found.second))
    ]
    return "\n\n".join(lines) if written is _literal else "\n".join(lines)


def _literal(sentence: str) -> str:
    """With all that Markdown would take for its own as it is; tables see to bars."""
    return "".join(f"\\{c}" if c in "\\`*_<>[]#~$" else c for c in printable(sentence))
