"""Weights of particles over time, and when and how particles are drawn anew.

A particle filter follows N samples of the latents of each sequence. A step multiplies the weight of
each by `w[t] = p(y[t] | ..) p(z[t] | ..) / q(z[t] | ..)`; the mean of the weights, step by step,
estimates the likelihood. Where few particles hold most of the weight they are drawn anew, in
proportion to it, and weigh the same again.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from zforcing_tf.errors import UserError

Criterion = Literal["ess", "always", "never"]
Scheme = Literal["systematic", "multinomial"]


@dataclasses.dataclass(frozen=True)
class Resampling:
    """When and how particles are drawn anew.

    Attributes:
        criterion: `ess`, where the effective sample size is below N / 2; `always`; `never`.
        scheme: `systematic`, one uniform number for all particles of a sequence, or `multinomial`,
            one for each.
    """

    criterion: Criterion = "ess"
    scheme: Scheme = "systematic"

    def __post_init__(self) -> None:
        for name, kind in (("criterion", Criterion), ("scheme", Scheme)):
            if (value := getattr(self, name)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise UserError(f"the {name} of resampling is {value!r}; give one of {known}")

    def noise_size(self, particles: int) -> int:
        """Numbers that one step of one sequence takes."""
        return 1 if self.scheme == "systematic" else particles

    def needed(self, log_weights: tf.Tensor) -> tf.Tensor:
        """Where particles are to be drawn anew, [B] bool, by normalised log weights [B, N]."""
        if self.criterion == "never":
            return tf.zeros(tf.shape(log_weights)[:1], tf.bool)
        if self.criterion == "always":
            return tf.ones(tf.shape(log_weights)[:1], tf.bool)
        log_size = -tf.reduce_logsumexp(2.0 * log_weights, axis=1)
        half = tf.cast(tf.shape(log_weights)[1], log_weights.dtype) / 2.0
        return log_size < tf.math.log(half)

    def draw(self, log_weights: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Which particle each of the new ones goes on from, [B, N] int32 of 0 to N-1.

        Args:
            log_weights: normalised, [B, N].
            noise: standard normal, [B, noise_size].
        """
        particles = tf.shape(log_weights)[1]
        uniform = 0.5 * tf.math.erfc(-tf.cast(noise, log_weights.dtype) * math.sqrt(0.5))
        if self.scheme == "systematic":
            first = tf.cast(tf.range(particles), log_weights.dtype)
            uniform = (first + uniform) / tf.cast(particles, log_weights.dtype)
        # Below 1, or it would fall behind the last particle that has any weight.
        below = np.nextafter(1, 0, dtype=uniform.dtype.as_numpy_dtype)
        uniform = tf.minimum(uniform, below)
        ends = tf.cumsum(tf.exp(log_weights), axis=1)
        # Divided by the last, which rounding leaves beside 1.
        drawn = tf.searchsorted(ends / ends[:, -1:], uniform, side="right")
        return tf.minimum(drawn, particles - 1)


DEFAULT = Resampling()


def equal_weights(like: tf.Tensor) -> tf.Tensor:
    """Normalised log weights of particles that weigh the same, shaped [B, N] as those."""
    return tf.zeros_like(like) - tf.math.log(tf.cast(tf.shape(like)[1], like.dtype))


def weigh(log_weights: tf.Tensor, increments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights after a step, and the log of their mean [B]: `log sum_i weights[i] w[i]`.

    Args:
        log_weights: before it, normalised, [B, N].
        increments: log w[t], [B, N].

    Returns:
        Normalised log weights [B, N]: they never grow with time, so float32 does for any number of
        steps. And the step's term of the bound, [B] nats.
    """
    joint = log_weights + increments
    # Not `joint - total`, which rounds by the size of both.
    return tf.nn.log_softmax(joint, axis=1), tf.reduce_logsumexp(joint, axis=1)
