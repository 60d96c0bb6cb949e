"""The bound, the costs that are added to it in training, and the schedules of their weights.

Equation numbers are those of Goyal et al., "Z-Forcing: Training Stochastic Recurrent Networks",
NIPS 2017.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from zforcing_tf.distributions import normal

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A weight that moves by `step` an update from `start` to `end` (KL annealing and its like).

    Attributes:
        start: weight of the first update.
        end: weight in the end.
        step: change an update, always towards `end`; 0 stays at `start`.
    """

    start: float = 1.0
    end: float = 1.0
    step: float = 0.0

    def __call__(self, update: tf.Tensor) -> tf.Tensor:
        """Weight of an update (0 for the first), scalar float32."""
        moved = tf.cast(update, tf.float32) * abs(self.step)
        if self.end >= self.start:
            return tf.minimum(self.start + moved, self.end)
        return tf.maximum(self.start - moved, self.end)

    @property
    def used(self) -> bool:
        """Whether the weight is ever other than zero."""
        return self.start != 0.0 or (self.end != 0.0 and self.step != 0.0)


class Weights(NamedTuple):
    """Weights of the terms at one update, scalars float32."""

    kl: tf.Tensor
    auxiliary: tf.Tensor
    backward: tf.Tensor


class Terms(NamedTuple):
    """Terms of the objective for each step, [T, B] nats, zero in padding.

    None: the model has no such term.
    """

    log_prob: tf.Tensor
    """log p(y[t] | h[t])"""
    kl: tf.Tensor
    """KL(q(z[t] | h, b[t]) || p(z[t] | h)), analytic"""
    auxiliary: tf.Tensor | None = None
    """log a(stop_gradient(b[t]) | z[t])"""
    backward: tf.Tensor | None = None
    """log r(x[t] | b[t])"""


def divergence(
    posterior: tuple[tf.Tensor, tf.Tensor], prior: tuple[tf.Tensor, tf.Tensor]
) -> tf.Tensor:
    """KL(q || p) [...] nats of two diagonal Gaussians given as (loc, scale) [..., Z]."""
    return tfd.kl_divergence(normal(*posterior), normal(*prior))


def elbo(terms: Terms) -> tf.Tensor:
    """The evidence lower bound of each sequence, [B] nats (equation 4)."""
    return tf.reduce_sum(terms.log_prob - terms.kl, axis=0)


def loss(terms: Terms, weights: Weights) -> tf.Tensor:
    """What training minimises, for each sequence, [B] (equation 8, with the weights of its terms).

    With the weights (1, 0, 0) this is exactly -elbo.
    """
    total = terms.log_prob - _cast(weights.kl, terms.kl) * terms.kl
    if terms.auxiliary is not None:
        total += _cast(weights.auxiliary, total) * terms.auxiliary
    if terms.backward is not None:
        total += _cast(weights.backward, total) * terms.backward
    return -tf.reduce_sum(total, axis=0)


def _cast(weight: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    return tf.cast(weight, like.dtype)
