"""The particle filter: the posterior proposes, weights decide who goes on.

It runs in the one time loop, with prior and emission inside it, for who goes on at a step depends
on how well the frames before it were explained. Nothing here asks for a gradient: training takes
only the choice from here (`Choice.ancestors`), and goes through `unroll.infer` again along it, so
that the gradient is that of the fast loop and all else happens after it, in large products. The
choice itself counts as a constant (Maddison et al. 2017, who drop its score-function terms too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from zforcing_tf.distributions import normal, widened
from zforcing_tf.products import flipped
from zforcing_tf.resampling import Resampling, equal_weights, weigh
from zforcing_tf.unroll import Structure, gathered, repeated, unroll

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell
    from zforcing_tf.layers.emission import Emission


class Observations(NamedTuple):
    """What the filter reads at each step, structures of [T, B, .]."""

    given: Structure
    """`cell.given(ahead, x)`."""
    context: Structure
    """`Context.posterior`."""
    skip: tf.Tensor | tuple[()]
    """e(x), if the emission sees it."""
    keep: tf.Tensor | tuple[()]
    """Dropout factors on features, if any."""
    targets: tf.Tensor
    mask: tf.Tensor
    """[T, B] bool; steps that are not valid change no weight."""


def read(x: tf.Tensor | tuple[()], samples: int | tf.Tensor, axis: int) -> tf.Tensor | None:
    """`repeated`, of what `Observations` may lack: None then."""
    return None if isinstance(x, tuple) else repeated(x, samples, axis)


class Cloud(NamedTuple):
    """Particles after the steps that were filtered so far."""

    state: Structure
    """Of each particle, [B N, .]; row b N + i is particle i of sequence b."""
    log_weights: tf.Tensor
    """Normalised, [B, N]."""
    bound: tf.Tensor
    """`sum_t log p(y[t] | y before t)`, estimated, [B] nats."""

    @classmethod
    def first(cls, state: Structure, num_sequences: Any, particles: Any, dtype: Any) -> Cloud:
        """Before any step: all weigh the same."""
        weights = equal_weights(tf.zeros((num_sequences, particles), dtype))
        return cls(state, weights, tf.zeros((num_sequences,), dtype))


class Choice(NamedTuple):
    """Who went on at each step."""

    ancestors: tf.Tensor | None
    """[T, B N] int32: the row of the step before that each row goes on from; None: itself."""
    resampled: tf.Tensor | None
    """[T, B] bool: where, before the step, particles were drawn anew; None: nowhere."""


def particle_filter(
    cell: LatentCell,
    emission: Emission,
    cloud: Cloud,
    observations: Observations,
    noise: tf.Tensor,
    resampling_noise: tf.Tensor,
    particles: int,
    resampling: Resampling,
) -> tuple[Cloud, Choice]:
    """Filters some steps.

    Args:
        cell: the model; its posterior proposes.
        emission: of the model.
        cloud: before the first of these steps.
        observations: what is known of the sequences.
        noise: standard normal, of the latents, [T, B N, Z].
        resampling_noise: standard normal, [T, B, resampling.noise_size(N)].
        particles: N.
        resampling: when and how particles are drawn anew.

    Returns:
        The cloud after the last step, and who went on at each.
    """
    log_prob_of = emission.scorer()

    def step(weights: Structure, before: Any, now: Any) -> tuple[Any, Any]:
        (state, log_weights), (seen, noise, draws) = before, now
        resampled = resampling.needed(log_weights)[:, tf.newaxis]
        own = tf.range(tf.shape(log_weights)[1])[tf.newaxis]
        ancestors = tf.where(resampled, resampling.draw(log_weights, draws), own)
        first = tf.range(tf.shape(log_weights)[0])[:, tf.newaxis] * particles
        ancestors = tf.reshape(first + ancestors, [-1])
        log_weights = tf.where(resampled, equal_weights(log_weights), log_weights)

        state = gathered(state, ancestors)
        given, context = repeated((seen.given, seen.context), particles)
        conditioning = cell.condition(weights, state, given)
        q = cell.posterior(weights, conditioning, context)
        latent = q[0] + q[1] * noise
        state, features = cell.advance(weights, conditioning, latent)
        p = cell.prior(flipped(cell.past(conditioning)))
        features, latent, q = flipped((features, latent, q))
        skip, keep = (read(v, particles, axis=0) for v in (seen.skip, seen.keep))
        targets = repeated(seen.targets, particles, axis=0)
        features = features if keep is None else features * keep
        log_prob = log_prob_of(emission(features, skip), targets)
        latent = widened(latent)
        increments = log_prob + normal(*p).log_prob(latent) - normal(*q).log_prob(latent)
        increments = tf.reshape(increments, tf.shape(log_weights))
        valid = seen.mask[:, tf.newaxis]
        increments = tf.where(valid, increments, tf.zeros_like(increments))
        log_weights, total = weigh(log_weights, increments)
        return (state, log_weights), (total, ancestors, resampled[:, 0])

    dtype = cloud.log_weights.dtype
    loop_major = observations._replace(
        given=flipped(observations.given), context=flipped(observations.context)
    )
    (state, log_weights), (totals, ancestors, resampled) = unroll(
        step,
        cell.loop_weights("posterior"),
        (flipped(cloud.state), cloud.log_weights),
        (loop_major, flipped(noise), resampling_noise),
        (dtype, tf.int32, tf.bool),
    )
    bound = cloud.bound + tf.reduce_sum(totals, axis=0)
    return Cloud(flipped(state), log_weights, bound), Choice(ancestors, resampled)
