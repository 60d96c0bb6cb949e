"""The bound, the costs that are added to it in training, and the schedules of their weights.

Equation numbers are those of Goyal et al., "Z-Forcing: Training Stochastic Recurrent Networks",
NIPS 2017.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from zforcing_tf.distributions import normal
from zforcing_tf.errors import UserError
from zforcing_tf.resampling import Resampling, equal_weights, weigh
from zforcing_tf.unroll import loop

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


@dataclasses.dataclass(frozen=True)
class Bound:
    """Which bound of the log-likelihood training maximises.

    Attributes:
        name: `elbo`, `iwae` or `fivo`.
        num_samples: K, samples of the latents of each sequence. The elbo is their mean, which is no
            tighter for it.
        resampling: of fivo.
    """

    name: Literal["elbo", "iwae", "fivo"] = "elbo"
    num_samples: int = 1
    resampling: Resampling = Resampling()

    def __post_init__(self) -> None:
        if self.name not in ("elbo", "iwae", "fivo") or self.num_samples < 1:
            raise UserError(
                f"a bound {self.name!r} of {self.num_samples} samples is unknown; give elbo, iwae "
                "or fivo, and 1 or more"
            )


class Weights(NamedTuple):
    """Weights of the terms at one update, scalars float32."""

    kl: tf.Tensor
    auxiliary: tf.Tensor
    backward: tf.Tensor


class Terms(NamedTuple):
    """Terms of the objective for each step, [T, B K] nats for K samples each, zero in padding.

    None: the model has no such term, or it was not asked for.
    """

    log_prob: tf.Tensor
    """log p(y[t] | h[t])"""
    kl: tf.Tensor
    """KL(q(z[t] | h, b[t]) || p(z[t] | h)), analytic"""
    auxiliary: tf.Tensor | None = None
    """log a(stop_gradient(b[t]) | z[t])"""
    backward: tf.Tensor | None = None
    """log r(x[t] | b[t])"""
    log_ratio: tf.Tensor | None = None
    """log q(z[t] | h, b[t]) - log p(z[t] | h), at the sample"""


def divergence(
    posterior: tuple[tf.Tensor, tf.Tensor], prior: tuple[tf.Tensor, tf.Tensor]
) -> tf.Tensor:
    """KL(q || p) [...] nats of two diagonal Gaussians given as (loc, scale) [..., Z]."""
    return tfd.kl_divergence(normal(*posterior), normal(*prior))


def elbo(terms: Terms) -> tf.Tensor:
    """The evidence lower bound of each sample, [B K] nats (equation 4)."""
    return tf.reduce_sum(terms.log_prob - terms.kl, axis=0)


def log_weights(terms: Terms, num_samples: int, kl_weight: tf.Tensor | float = 1.0) -> tf.Tensor:
    """`log w[t] = log p(y[t] | ..) + log p(z[t] | ..) - log q(z[t] | ..)`, [T, B, K] nats."""
    assert terms.log_ratio is not None  # asked for with the terms
    log_w = terms.log_prob - _cast(kl_weight, terms.log_ratio) * terms.log_ratio
    return tf.reshape(log_w, (tf.shape(log_w)[0], -1, num_samples))


def iwae(log_weights: tf.Tensor) -> tf.Tensor:
    """`log mean_k exp(sum_t log w_k[t])`, [B] nats (Burda et al. 2016), from [T, B, K]."""
    return log_mean(tf.reduce_sum(log_weights, axis=0))


def log_mean(log_values: tf.Tensor) -> tf.Tensor:
    """Log of the mean over the last axis."""
    count = tf.cast(tf.shape(log_values)[-1], log_values.dtype)
    return tf.reduce_logsumexp(log_values, axis=-1) - tf.math.log(count)


def fivo(log_weights: tf.Tensor, resampled: tf.Tensor) -> tf.Tensor:
    """`sum_t log (mean weight)` of a particle filter, [B] nats (Maddison et al. 2017).

    Args:
        log_weights: log w[t] along the particles that the filter followed, [T, B, N].
        resampled: where, before the step, these were drawn anew and weigh the same, [T, B] bool.
            Nowhere: the bound is `iwae`.
    """

    def step(weights: tf.Tensor, now: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        increments, resampled = now
        weights = tf.where(resampled[:, tf.newaxis], equal_weights(weights), weights)
        return weigh(weights, increments)

    first = equal_weights(log_weights[0])
    _, terms = loop(step, first, (log_weights, resampled), log_weights.dtype, reverse=False)
    return tf.reduce_sum(terms, axis=0)


def bound_of(
    bound: Bound,
    terms: Terms,
    kl_weight: tf.Tensor | float = 1.0,
    resampled: tf.Tensor | None = None,
) -> tf.Tensor:
    """The bound of each sequence, [B] nats; `resampled` [T, B] of fivo."""
    if bound.name == "elbo":
        values = tf.reduce_sum(terms.log_prob - _cast(kl_weight, terms.kl) * terms.kl, axis=0)
        return mean_over_samples(values, bound.num_samples)
    log_w = log_weights(terms, bound.num_samples, kl_weight)
    if resampled is None:
        return iwae(log_w)
    return fivo(log_w, resampled)


def mean_over_samples(values: tf.Tensor, num_samples: int) -> tf.Tensor:
    """[B] from [B K]."""
    if num_samples == 1:
        return values
    return tf.reduce_mean(tf.reshape(values, (-1, num_samples)), axis=1)


def loss(
    terms: Terms, weights: Weights, bound: Bound = Bound(), resampled: tf.Tensor | None = None
) -> tf.Tensor:
    """What training minimises, for each sequence, [B] (equation 8, with the weights of its terms).

    With the weights (1, 0, 0) this is exactly minus the bound.
    """
    total = bound_of(bound, terms, weights.kl, resampled)
    for weight, aid in ((weights.auxiliary, terms.auxiliary), (weights.backward, terms.backward)):
        if aid is not None:
            aid = mean_over_samples(tf.reduce_sum(aid, axis=0), bound.num_samples)
            total += _cast(weight, total) * aid
    return -total


def sums(
    terms: Terms, losses: tf.Tensor, mask: tf.Tensor, num_samples: int = 1
) -> dict[str, tf.Tensor]:
    """Sums over sequences (means over their samples) for metrics, and what these divide by.

    `mask` [T, B] is true on valid steps; a row without any is no sequence.
    """
    totals = {
        "elbo": elbo(terms),
        "kl": terms.kl,
        "auxiliary": terms.auxiliary,
        "backward": terms.backward,
    }
    found = {k: tf.reduce_sum(v) / num_samples for k, v in totals.items() if v is not None}
    return found | {
        "loss": tf.reduce_sum(losses),
        "sequences": tf.reduce_sum(tf.cast(mask[0], losses.dtype)),
        "steps": tf.reduce_sum(tf.cast(mask, losses.dtype)),
    }


def _cast(weight: tf.Tensor | float, like: tf.Tensor) -> tf.Tensor:
    return tf.cast(weight, like.dtype)
