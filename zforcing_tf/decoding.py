"""Symbols from given latents: the model's own emission in the loop, its latents decided outside.

A fourth step of the one time loop (`unroll`): the latent is neither drawn from the posterior nor
from the prior but given, and the next symbol is the model's own: the likeliest one, one drawn out
of the likeliest k, or one of a beam of whole sequences. `decoder.Decoder` makes graphs of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.products import flipped
from zforcing_tf.randomness import row_noise
from zforcing_tf.unroll import Structure, gathered, loop, repeated, unroll

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell
    from zforcing_tf.layers.emission import Emission

NEVER = -1
"""The symbol that ends a sequence where none does."""


class Decoded(NamedTuple):
    """Symbols, and how likely they are given the latents.

    Of a beam search each has an axis [W] more behind that of rows, the most likely one first.
    """

    x: npt.NDArray[np.int32]
    """[B, T]; once a sequence has ended, the symbol of the end."""
    lengths: npt.NDArray[np.int32]
    """[B], the end among them; T where it did not come."""
    log_prob: npt.NDArray[Any]
    """`sum_t log p(x[t] | x before t, z)` [B] nats, that of the end among them. Forbidden symbols
    keep their share of it. Of a beam -inf where there are fewer sequences than W."""


def _stepper(cell: LatentCell, emission: Emission) -> Callable[..., tuple[Structure, tf.Tensor]]:
    """One step with the latent given: from x and state to the next state and logits [B, V]."""
    # Made here once, as in `unroll.generate`.
    drive, emit = cell.driver(), emission.emitter(cell)

    def step(
        weights: Structure, state: Structure, x: tf.Tensor, latent: tf.Tensor, share: tf.Tensor
    ) -> tuple[Structure, tf.Tensor]:
        conditioning = cell.condition(weights, state, drive(x))
        loc, _ = cell.prior_in_loop(weights, conditioning)
        state, features = cell.advance(weights, conditioning, latent + (1 - share) * loc)
        return state, emit(features, x)

    return step


def _loop_major(cell: LatentCell, latent: tf.Tensor, share: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """[T, Z, B] and [T, 1, B]."""
    latent, share = (tf.cast(v, cell.compute_dtype) for v in (latent, share))
    return tf.transpose(latent, (1, 2, 0)), tf.transpose(share)[:, tf.newaxis]


def _without(logits: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    return tf.where(allowed, logits, tf.constant(-np.inf, logits.dtype))


def _lengths(x: tf.Tensor, end: int) -> tf.Tensor:
    """Steps up to the first end, over the last axis."""
    before = tf.math.cumprod(tf.cast(tf.not_equal(x, end), tf.int32), axis=-1)
    return tf.minimum(tf.reduce_sum(before, axis=-1) + 1, tf.shape(x)[-1])


def greedy(
    cell: LatentCell,
    emission: Emission,
    end: int,
    allowed: tf.Tensor,
    latent: tf.Tensor,
    share: tf.Tensor,
) -> Decoded:
    """The likeliest symbol at each step.

    Args:
        cell: the model.
        emission: of symbols.
        end: the symbol after which nothing follows, or `NEVER`.
        allowed: [V] bool, symbols that may be chosen.
        latent: [B, T, Z], and
        share: [B, T], as of `decoder.Given`.
    """

    def likeliest(logits: tf.Tensor, noise: tuple[()]) -> tf.Tensor:
        return tf.argmax(_without(logits, allowed), axis=-1, output_type=tf.int32)

    return _one_by_one(cell, emission, end, latent, share, (), likeliest)


def sampled(
    cell: LatentCell,
    emission: Emission,
    end: int,
    allowed: tf.Tensor,
    latent: tf.Tensor,
    share: tf.Tensor,
    k: tf.Tensor,
    seeds: tf.Tensor,
    temperature: tf.Tensor,
) -> Decoded:
    """Symbols drawn out of the k likeliest.

    Arguments are those of `greedy`, seeds [B, 2] int32 and temperature [B, 1].
    """

    def draw(logits: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        likeliest, symbols = tf.math.top_k(_without(logits, allowed), k)
        # A symbol has its own noise wherever among the k it stands: latents that hardly differ then
        # seldom lead to other symbols.
        noise = tf.gather(noise, symbols, batch_dims=1)
        chosen = emission.family.sample(likeliest, noise, temperature)
        return tf.gather(symbols, chosen, batch_dims=1)

    noise = row_noise(seeds, tf.shape(share)[1], emission.noise_size)
    return _one_by_one(cell, emission, end, latent, share, tf.cast(noise, latent.dtype), draw)


def _one_by_one(
    cell: LatentCell,
    emission: Emission,
    end: int,
    latent: tf.Tensor,
    share: tf.Tensor,
    noise: Structure,
    choose: Callable[[tf.Tensor, Structure], tf.Tensor],
) -> Decoded:
    """Each symbol chosen from its logits and from noise [T, B, .] of its own."""
    next_step = _stepper(cell, emission)

    def step(weights: Structure, before: Any, now: Any) -> tuple[Any, tf.Tensor]:
        (state, x, log_prob, ended), (latent, share, noise) = before, now
        state, logits = next_step(weights, state, x, latent, share)
        x = tf.where(ended, end, choose(logits, noise))
        own = tf.gather(tf.nn.log_softmax(logits), tf.maximum(x, 0), batch_dims=1)
        log_prob += tf.where(ended, tf.zeros_like(own), own)
        return (state, x, log_prob, tf.logical_or(ended, tf.equal(x, end))), x

    rows = tf.shape(share)[0]
    first = (
        flipped(cell.initial_state(rows)),
        emission.first_input(rows),
        tf.zeros((rows,), latent.dtype),
        tf.fill([rows], False),
    )
    inputs = (*_loop_major(cell, latent, share), noise)
    (_, _, log_prob, _), x = unroll(step, cell.loop_weights("prior"), first, inputs, tf.int32)
    x = tf.transpose(x)
    return Decoded(x, _lengths(x, end), log_prob)


def beam_searched(
    cell: LatentCell,
    emission: Emission,
    end: int,
    allowed: tf.Tensor,
    latent: tf.Tensor,
    share: tf.Tensor,
    width: tf.Tensor,
) -> Decoded:
    """The `width` likeliest sequences that a beam finds, as `Decoded`; arguments as of `greedy`."""
    next_step, size = _stepper(cell, emission), emission.family.frame_size
    rows = tf.shape(share)[0]
    # What has ended goes on in one way only, which costs nothing.
    only_end = tf.where(tf.equal(tf.range(size), end), 0.0, -np.inf)
    only_end = tf.cast(only_end, latent.dtype)

    def step(weights: Structure, before: Any, now: Any) -> tuple[Any, tuple[tf.Tensor, tf.Tensor]]:
        state, x, log_prob, ended = before
        state, logits = next_step(weights, state, x, *repeated(now, width))
        own = _without(tf.nn.log_softmax(logits), allowed)
        own = tf.reshape(own, (rows, width, size))
        own = tf.where(ended[..., tf.newaxis], only_end, own)
        every = tf.reshape(log_prob[..., tf.newaxis] + own, (rows, width * size))
        log_prob, place = tf.math.top_k(every, width)
        parent, symbol = place // size, place % size
        own_row = tf.range(rows)[:, tf.newaxis] * width + parent
        state = gathered(state, tf.reshape(own_row, [-1]))
        ended = tf.logical_or(tf.gather(ended, parent, batch_dims=1), tf.equal(symbol, end))
        return (state, tf.reshape(symbol, [-1]), log_prob, ended), (symbol, parent)

    # All start alike, so one of each row starts at all.
    alone = tf.where(tf.equal(tf.range(width), 0), 0.0, -np.inf)
    first = (
        flipped(cell.initial_state(rows * width)),
        emission.first_input(rows * width),
        tf.cast(tf.tile(alone[tf.newaxis], (rows, 1)), latent.dtype),
        tf.fill((rows, width), False),
    )
    inputs, dtypes = _loop_major(cell, latent, share), (tf.int32, tf.int32)
    (_, _, log_prob, _), chosen = unroll(step, cell.loop_weights("prior"), first, inputs, dtypes)

    def back(place: tf.Tensor, now: Any) -> tuple[tf.Tensor, tf.Tensor]:
        symbol, parent = (tf.gather(v, place, batch_dims=1) for v in now)
        return parent, symbol

    last = tf.tile(tf.range(width)[tf.newaxis], (rows, 1))
    _, x = loop(back, last, chosen, tf.int32, reverse=True)
    x = tf.transpose(x, (1, 2, 0))
    return Decoded(x, _lengths(x, end), log_prob)
