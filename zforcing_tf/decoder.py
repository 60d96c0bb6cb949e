"""Decodes latents that are given, such as those between two sequences, with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf import decoding
from zforcing_tf.decoding import Decoded
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import row_seeds
from zforcing_tf.requests import check_counts

if TYPE_CHECKING:
    from zforcing_tf.sequence_model import SequenceModel


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
        self._latent_size = cell.latent_size
        self._num_symbols: int = emission.family.frame_size
        allowed = np.ones(self._num_symbols, bool)
        allowed[list(forbidden)] = False
        if not allowed.any():
            raise UserError("every symbol is forbidden: leave one")
        parts = (cell, emission, decoding.NEVER if end is None else end, tf.constant(allowed))
        self._wide = wide = tf.float64 if cell.compute_dtype == "float64" else tf.float32
        latent = tf.TensorSpec((None, None, cell.latent_size), wide)
        share, number = tf.TensorSpec((None, None), wide), tf.TensorSpec((), tf.int32)
        seeds, temperature = tf.TensorSpec((None, 2), tf.int32), tf.TensorSpec((None, 1), wide)

        def graph(
            function: Callable[..., Decoded], *signature: tf.TensorSpec
        ) -> Callable[..., Decoded]:
            run = tf.function(
                lambda *request: function(*parts, *request),
                input_signature=(latent, share, *signature),
                autograph=False,
            )
            return lambda *request: Decoded(*(values.numpy() for values in run(*request)))

        self._greedy = graph(decoding.greedy)
        self._sample = graph(decoding.sampled, number, seeds, temperature)
        self._beam_search = graph(decoding.beam_searched, number)

    def greedy(self, given: Given) -> Decoded:
        """The likeliest symbol at each step.

        Args:
            given: the latents.

        Raises:
            UserError: they do not fit the model.
        """
        return self._greedy(*self._checked(given))

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
        k = self._num_symbols if top_k is None else top_k
        check_counts(top_k=k)
        k = min(k, self._num_symbols)
        latent, share = self._checked(given)
        degrees = np.asarray(temperature, np.float64)
        if degrees.shape not in ((), share.shape[:1]) or not (degrees >= 0).all():
            raise UserError(
                f"temperature is {temperature}; give a number of 0 or more, or one for each row"
            )
        degrees = np.broadcast_to(degrees, share.shape[:1])[:, np.newaxis]
        seeds = row_seeds(seed, tf.shape(share)[0])
        return self._sample(latent, share, k, seeds, tf.cast(degrees, latent.dtype))

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
        return self._beam_search(*self._checked(given), width)

    def _checked(self, given: Given) -> tuple[tf.Tensor, tf.Tensor]:
        latent, share = given
        if np.shape(latent) != (*np.shape(share), self._latent_size):
            raise UserError(
                f"latents have shape {np.shape(latent)} and their shares {np.shape(share)}; give "
                f"[B, T, {self._latent_size}] and [B, T]"
            )
        return tf.cast(latent, self._wide), tf.cast(share, self._wide)
