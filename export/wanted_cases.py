"""Requests to signatures that not every model has, and what must be the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import FULL_SCALE, Sound, Text
from zforcing_tf.data.vocabulary import encode, tokens_of
from zforcing_tf.sequence_model import SequenceModel

from .cases import GENERATED, Arrays, Case, arrays, row_seeds
from .endpoint import Wanted, latents

_MOST_TOKENS = 64


def wanted_cases(
    model: SequenceModel, wanted: Wanted, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]
) -> Iterator[Case]:
    """Of the signatures that not every model has.

    Args:
        model: gives the answers.
        wanted: which there are.
        x: sequences of the data.
        lengths: of them.
    """
    if wanted.iwae_samples:
        inputs = {"x": x, "lengths": lengths, "seed": row_seeds(len(x))}
        iwae = model.iwae(x, lengths, wanted.iwae_samples, inputs["seed"])
        yield Case("a batch", "score_iwae", inputs, arrays(iwae=iwae))
    if wanted.spec is not None and wanted.spec.text is not None:
        yield from _text_cases(model, wanted.spec.text, wanted.lower_case, x, lengths)
    if wanted.spec is not None and wanted.spec.sound is not None:
        yield from _sound_cases(model, wanted.spec.sound, x, lengths)


def _text_cases(
    model: SequenceModel,
    text: Text,
    lower_case: bool,
    x: npt.NDArray[Any],
    lengths: npt.NDArray[np.int32],
) -> Iterator[Case]:
    sentences = [text.sentence(row[:n][:_MOST_TOKENS]) for row, n in zip(x, lengths, strict=True)]
    sentences = [one for one in sentences if tokens_of(text, one, lower_case)]
    if not sentences:  # of what a model generates, all may end at once
        return
    rows, seed = len(sentences), row_seeds(len(sentences))
    symbols = [encode(text, one, lower_case) for one in sentences]
    num_tokens = np.array([len(one) for one in symbols], np.int32)
    padded = np.zeros((rows, num_tokens.max()), np.int32)
    padded[np.arange(padded.shape[1]) < num_tokens[:, None]] = np.concatenate(symbols)
    inputs = {"text": np.array([one.encode() for one in sentences]), "seed": seed}
    scores = arrays(**model.score(padded, num_tokens, seed)._asdict())
    yield Case("sentences", "score_text", inputs, {**scores, "num_tokens": num_tokens})
    encoded = arrays(**latents(model, padded, num_tokens, seed))
    yield Case("sentences", "encode_text", inputs, {**encoded, "num_tokens": num_tokens})
    drawn = _wishes(rows)
    for signature, given in (("generate_text", {}), ("continue_text", inputs)):
        how: Any = {"prefix": padded, "prefix_lengths": num_tokens - 1} if given else {}
        made = model.generate(GENERATED, seed=seed, temperature=drawn["temperature"], **how).numpy()
        said = [text.sentence(row[:n]) for row, n in zip(made, drawn["num_steps"], strict=True)]
        expected = {"text": np.array([one.encode() for one in said])}
        yield Case("a batch", signature, {**drawn, **given}, expected)


def _sound_cases(
    model: SequenceModel, sound: Sound, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]
) -> Iterator[Case]:
    rows, seed, size = len(x), row_seeds(len(x)), x.shape[-1]
    samples = sound.samples(x).reshape(rows, -1)
    heard = sound.frames(samples.reshape(x.shape)).astype(x.dtype)
    inputs = {
        "samples": samples.astype(np.float32) / np.float32(FULL_SCALE),
        "num_samples": (lengths * size).astype(np.int32),
        "seed": seed,
    }
    scores = arrays(**model.score(heard, lengths, seed)._asdict())
    yield Case("recordings", "score_audio", inputs, {**scores, "num_frames": lengths})
    encoded = arrays(**latents(model, heard, lengths, seed))
    yield Case("recordings", "encode_audio", inputs, {**encoded, "num_frames": lengths})
    drawn = _wishes(rows)
    wanted = (drawn.pop("num_steps") * size - size // 2).astype(np.int32)
    for signature, given in (("generate_audio", {}), ("continue_audio", inputs)):
        how: Any = {"prefix": heard, "prefix_lengths": lengths} if given else {}
        made = model.generate(GENERATED, seed=seed, temperature=drawn["temperature"], **how)
        levels = sound.samples(made.numpy()).reshape(rows, -1)[:, : wanted.max()]
        levels[np.arange(levels.shape[1]) >= wanted[:, None]] = 0
        expected = {"samples": levels.astype(np.float32) / np.float32(FULL_SCALE)}
        name = "num_wanted" if given else "num_samples"
        request: Arrays = {**drawn, **given, name: wanted}
        yield Case("a batch", signature, request, {**expected, "num_samples": wanted})


def _wishes(rows: int) -> Arrays:
    num_steps = np.array([1 + (7 + 5 * row) % GENERATED for row in range(rows)], np.int32)
    temperature = np.resize(np.array([1.0, 0.5, 0.0], np.float32), rows)
    num_steps[0] = GENERATED
    return {"num_steps": num_steps, "seed": row_seeds(rows), "temperature": temperature}
