"""What a trained model answers, as one graph each for every shape of a request.

Rows are independent: of their batch, and of what padding holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from zforcing_tf import inference, objectives, unroll
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.inference import Inference, Parts
from zforcing_tf.layers.emission import Emission
from zforcing_tf.randomness import row_noise


class Scores(NamedTuple):
    """The bound and its parts.

    elbo [B] nats per sequence; the others [B, T] nats, zero in padding.
    """

    elbo: tf.Tensor
    log_prob_per_step: tf.Tensor
    kl_per_step: tf.Tensor


class Latents(NamedTuple):
    """Posterior of the latents: loc, scale and one sample, [B, T, Z] each, zero in padding."""

    loc: tf.Tensor
    scale: tf.Tensor
    latent: tf.Tensor


class Answers:
    """Graphs over a cell and its emission; `SequenceModel` checks requests and hands them on.

    Args:
        cell: what happens in a step.
        emission: distribution of the next frame.
    """

    def __init__(self, cell: LatentCell, emission: Emission) -> None:
        self._cell = cell
        # Nothing asks for the terms of training: a graph would keep what they capture.
        self._parts = Parts(cell, emission, None, None)
        family = emission.family
        frame = () if family.symbols else (family.frame_size,)
        x = tf.TensorSpec((None, None, *frame), emission.frame_dtype)
        lengths = tf.TensorSpec((None,), tf.int32)
        seeds = tf.TensorSpec((None, 2), tf.int32)
        num_steps, temperature = tf.TensorSpec((), tf.int32), tf.TensorSpec((None,), tf.float32)

        def graph(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
            return tf.function(function, input_signature=signature, autograph=False)

        self.score = graph(self._score, x, lengths, seeds)
        self.encode = graph(self._encode, x, lengths, seeds)
        self.reconstruct = graph(self._reconstruct, x, lengths, seeds)
        self.generate = graph(self._generate, num_steps, seeds, temperature)
        self.go_on = graph(self._generate, num_steps, seeds, temperature, x)

    def _infer(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Inference:
        noise = row_noise(seeds, tf.shape(x)[1], self._cell.latent_size)
        return inference.infer(self._parts, self._parts.sequences(x, lengths), noise)

    def _score(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Scores:
        terms = self._infer(x, lengths, seeds).terms
        parts = (tf.transpose(terms.log_prob), tf.transpose(terms.kl))
        return Scores(objectives.elbo(terms), *parts)

    def _encode(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Latents:
        inferred = self._infer(x, lengths, seeds).inferred
        latents = (inferred.posterior_loc, inferred.posterior_scale, inferred.latent)
        return Latents(*(_batch_major(v, lengths) for v in latents))

    def _reconstruct(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        parameters = self._infer(x, lengths, seeds).parameters
        return _batch_major(self._parts.emission.mean(parameters), lengths)

    def _generate(
        self,
        num_steps: tf.Tensor,
        seeds: tf.Tensor,
        temperature: tf.Tensor,
        prefix: tf.Tensor | None = None,
    ) -> tf.Tensor:
        cell, emission = self._cell, self._parts.emission
        batch_size = tf.shape(seeds)[0]
        state, x = cell.initial_state(batch_size), emission.first_input(batch_size)
        if prefix is not None:
            lengths = tf.fill([batch_size], tf.shape(prefix)[1])
            # The prefix's noise must not be that of what follows it.
            state = self._infer(prefix, lengths, seeds + tf.constant([1 << 30, 0])).state
            x = tf.cast(prefix[:, -1], x.dtype)
        noise = row_noise(seeds, num_steps, cell.latent_size + emission.noise_size)
        dtype = tf.float64 if cell.compute_dtype == "float64" else tf.float32
        noise, temperature = tf.cast(noise, dtype), tf.cast(temperature, dtype)[:, tf.newaxis]
        _, generated = unroll.generate(cell, emission, state, x, noise, temperature)
        x = generated.x
        return tf.transpose(x, (1, 0) if x.shape.rank == 2 else (1, 0, 2))


def _batch_major(x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """[T, B, .] -> [B, T, .], zero in padding."""
    x = tf.transpose(x, (1, 0, 2))
    mask = tf.sequence_mask(lengths, tf.shape(x)[1])[..., tf.newaxis]
    return tf.where(mask, x, tf.zeros_like(x))
