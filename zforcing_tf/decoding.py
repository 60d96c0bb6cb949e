"""From given latents to symbols: the model's own emission in the loop, its latents decided outside.

A fourth step of the one time loop (`unroll`): the latent is neither drawn from the posterior nor
from the prior but given, and the next symbol is the model's own: the likeliest one, one drawn out
of the likeliest k, or one of a beam of whole sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.errors import UserError
from zforcing_tf.products import flipped
from zforcing_tf.randomness import row_noise, row_seeds
from zforcing_tf.requests import check_counts
from zforcing_tf.unroll import Structure, gathered, loop, repeated, unroll

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell
    from zforcing_tf.layers.emission import Emission
    from zforcing_tf.sequence_model import SequenceModel

_NEVER = -1
"""The symbol that ends a sequence where none does."""


class Given(NamedTuple):
    """Latents as far as they are given: `z[t] = latent[t] + (1 - share[t]) loc_p[t]`.

    Here loc_p[t] is the prior's mean given all that is decoded so far. So latents that end go on
    with what the model expects, and a mixture is one of what each stands for, also at steps where
    only some are given.
    """

    latent: npt.NDArray[Any]
    """[B, T, Z], already multiplied by the share."""
    share: npt.NDArray[Any]
    """[B, T], 0 to 1."""

    @classmethod
    def of(cls, latents: npt.ArrayLike, num_steps: int | None = None, lengths: Any = None) -> Given:
        """Latents [B, N, Z], each given for the first `lengths` [B] steps (N), over T >= N steps.

        Raises:
            UserError: more latents than steps, or no numbers of this shape.
        """
        values = np.asarray(latents)
        if values.ndim != 3 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise UserError("latents must be finite numbers of shape [B, T, Z]: give such an array")
        rows, given, _ = values.shape
        steps = given if num_steps is None else num_steps
        if not 1 <= given <= steps:
            raise UserError(
                f"there are latents of {given} steps for {steps} steps to decode: give 1 to {steps}"
            )
        ends = np.full(rows, given) if lengths is None else np.asarray(lengths)
        share = (np.arange(steps) < ends[:, np.newaxis]).astype(np.float64)
        padded = np.pad(values.astype(np.float64), ((0, 0), (0, steps - given), (0, 0)))
        return cls(np.where(share[..., np.newaxis] > 0, padded, 0.0), share)

    def towards(self, other: Given, weight: npt.ArrayLike) -> Given:
        """`(1 - weight) self + weight other`, row by row; weight is a scalar or [B]."""
        w = np.asarray(weight, np.float64)[..., np.newaxis]
        share = (1 - w) * self.share + w * other.share
        w = w[..., np.newaxis]
        return Given((1 - w) * self.latent + w * other.latent, share)


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


class Decoder:
    """Decodes latents with a model of symbols that has them.

    Args:
        model: trained.
        end: the symbol after which nothing follows; None: there is none.
        forbidden: symbols that are never chosen.

    Raises:
        UserError: a model without a latent or of other frames, or no symbol that is allowed.
    """

    def __init__(
        self, model: SequenceModel, end: int | None = None, forbidden: Sequence[int] = ()
    ) -> None:
        cell, emission = model.cell, model.emission
        if not cell.latent_size:
            raise UserError(
                f"the model {model.name} has no latent to decode: take a run of another --model, "
                "with --latent_size above 0"
            )
        if not emission.family.symbols:
            raise UserError(
                "only latents of symbols are decoded, and this model makes frames of numbers: "
                "take a run on text"
            )
        self._latent_size, self._end = cell.latent_size, _NEVER if end is None else end
        self._num_symbols: int = emission.family.frame_size
        allowed = np.ones(self._num_symbols, bool)
        allowed[list(forbidden)] = False
        if not allowed.any():
            raise UserError("every symbol is forbidden: leave one")
        parts = (cell, emission, self._end, tf.constant(allowed))
        wide = tf.float64 if cell.compute_dtype == "float64" else tf.float32
        self._wide = wide
        latent = tf.TensorSpec((None, None, cell.latent_size), wide)
        share, number = tf.TensorSpec((None, None), wide), tf.TensorSpec((), tf.int32)
        seeds, temperature = tf.TensorSpec((None, 2), tf.int32), tf.TensorSpec((None, 1), wide)

        def graph(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
            return tf.function(
                lambda *request: function(*parts, *request),
                input_signature=(latent, share, *signature),
                autograph=False,
            )

        self._sample = graph(_sampled, number, seeds, temperature)
        self._beam_search = graph(_beam_searched, number)

    def greedy(self, given: Given) -> Decoded:
        """The likeliest symbol at each step.

        Args:
            given: the latents.

        Raises:
            UserError: they do not fit the model.
        """
        return self.sample(given, top_k=1)

    def sample(
        self, given: Given, top_k: int | None = None, temperature: Any = 1.0, seed: Any = 0
    ) -> Decoded:
        """At each step a symbol drawn from the k likeliest, in proportion to their probabilities.

        Args:
            given: the latents.
            top_k: k; None: all symbols.
            temperature: scalar or [B], 0 or more, of the drawing; 0 takes the likeliest.
            seed: scalar, or [B, 2] int32 with a seed for each row.

        Raises:
            UserError: as `greedy`, or another argument is not possible.
        """
        check_counts(top_k=self._num_symbols if top_k is None else top_k)
        k = self._num_symbols if top_k is None else min(top_k, self._num_symbols)
        latent, share = self._checked(given)
        degrees = np.asarray(temperature, np.float64)
        if degrees.shape not in ((), share.shape[:1]) or not (degrees >= 0).all():
            raise UserError(
                f"temperature is {temperature}; give a number of 0 or more, or one for each row"
            )
        degrees = np.broadcast_to(degrees, share.shape[:1])[:, np.newaxis]
        seeds = row_seeds(seed, tf.shape(share)[0])
        found = self._sample(latent, share, k, seeds, tf.cast(degrees, latent.dtype))
        return Decoded(*(values.numpy() for values in found))

    def beam_search(self, given: Given, width: int) -> Decoded:
        """The W likeliest sequences, as far as the likeliest beginnings lead to them.

        Sequences that have ended and such that have not compete by `Decoded.log_prob` as it is.

        Args:
            given: the latents.
            width: W, sequences that are followed at a time.

        Raises:
            UserError: as `greedy`, or no such width.
        """
        check_counts(width=width)
        found = self._beam_search(*self._checked(given), width)
        return Decoded(*(values.numpy() for values in found))

    def _checked(self, given: Given) -> tuple[tf.Tensor, tf.Tensor]:
        latent, share = given
        if np.shape(latent) != (*np.shape(share), self._latent_size):
            raise UserError(
                f"latents have shape {np.shape(latent)} and their shares {np.shape(share)}; give "
                f"[B, T, {self._latent_size}] and [B, T]"
            )
        return tf.cast(latent, self._wide), tf.cast(share, self._wide)


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


def _sampled(
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
    next_step = _stepper(cell, emission)

    def step(weights: Structure, before: Any, now: Any) -> tuple[Any, tf.Tensor]:
        (state, x, log_prob, ended), (latent, share, noise) = before, now
        state, logits = next_step(weights, state, x, latent, share)
        likeliest, symbols = tf.math.top_k(_without(logits, allowed), k)
        choice = emission.family.sample(likeliest, noise, temperature)
        x = tf.where(ended, end, tf.gather(symbols, choice, batch_dims=1))
        own = tf.gather(tf.nn.log_softmax(logits), tf.maximum(x, 0), batch_dims=1)
        log_prob += tf.where(ended, tf.zeros_like(own), own)
        return (state, x, log_prob, tf.logical_or(ended, tf.equal(x, end))), x

    rows, steps = tf.unstack(tf.shape(share))
    noise = tf.cast(row_noise(seeds, steps, k), latent.dtype)
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


def _beam_searched(
    cell: LatentCell,
    emission: Emission,
    end: int,
    allowed: tf.Tensor,
    latent: tf.Tensor,
    share: tf.Tensor,
    width: tf.Tensor,
) -> Decoded:
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
