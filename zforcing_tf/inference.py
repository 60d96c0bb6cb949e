"""One pass of the posterior over sequences: what needs the past in the loop, all else around it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from zforcing_tf import objectives, unroll
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.distributions import normal, widened
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.emission import Emission
from zforcing_tf.objectives import Terms
from zforcing_tf.particle_filter import Choice, Cloud, Observations, particle_filter
from zforcing_tf.resampling import Resampling
from zforcing_tf.unroll import Structure


class Parts(NamedTuple):
    """The networks of a model."""

    cell: LatentCell
    emission: Emission
    auxiliary: Auxiliary | None
    backward_emission: Emission | None

    @property
    def wide_dtype(self) -> tf.DType:
        """Of densities and what comes of them: float32 at least."""
        return tf.float64 if self.cell.compute_dtype == "float64" else tf.float32

    def sequences(self, x: tf.Tensor, lengths: tf.Tensor) -> Sequences:
        """Time-major targets, inputs and mask of batch-major x [B, T, ...], lengths [B]."""
        return sequences(self.emission.first_input(tf.shape(x)[0]), x, lengths)


class Sequences(NamedTuple):
    """Time-major sequences with the input of each step; padding is zero whatever it held."""

    inputs: tf.Tensor
    """x[t] = y[t-1], behind a start frame: [T, B, D], or [T, B] int32."""
    targets: tf.Tensor
    """y, like inputs."""
    mask: tf.Tensor
    """[T, B] bool, true on valid steps."""


class Keep(NamedTuple):
    """Dropout factors on embedded inputs [T, B, E] and on features [T, B, F]."""

    inputs: tf.Tensor
    features: tf.Tensor


class Particles(NamedTuple):
    """Samples of the latents of each sequence, and what becomes of them."""

    number: int = 1
    """K; row b K + k is the k-th of sequence b."""
    weighed: bool = False
    """Whether their weights will be asked for (`Terms.log_ratio`)."""
    resampling: Resampling | None = None
    """How a particle filter draws them anew; None: each goes its own way."""
    noise: tf.Tensor | None = None
    """Standard normal, of the drawing, [T, B, resampling.noise_size(K)]."""


ONE_SAMPLE = Particles()


class Inference(NamedTuple):
    """What the pass gives, time-major; B counts samples of sequences where there are several."""

    terms: Terms
    inferred: unroll.Inferred
    parameters: tf.Tensor
    """Emission parameters, float32 at least."""
    state: Structure
    """After the last step."""
    backward_states: tf.Tensor | None = None
    resampled: tf.Tensor | None = None
    """[T, B] bool: where a particle filter drew the samples of a sequence anew, before the step."""


def sequences(first_input: tf.Tensor, x: tf.Tensor, lengths: tf.Tensor) -> Sequences:
    """Makes inputs, targets and mask.

    Args:
        first_input: of the first step, [B, D] or [B] int32; tells the dtype of frames.
        x: targets, batch-major: [B, T, D] or [B, T].
        lengths: [B] int32.
    """
    x = tf.cast(x, first_input.dtype)
    targets = tf.transpose(x, (1, 0, 2)[: x.shape.rank])
    mask = tf.transpose(tf.sequence_mask(lengths, tf.shape(x)[1]))
    mask = tf.ensure_shape(mask, targets.shape[:2])
    valid = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (x.shape.rank - 2)], 0))
    targets = tf.where(valid, targets, tf.zeros_like(targets))
    inputs = tf.concat([first_input[tf.newaxis], targets[:-1]], axis=0)
    return Sequences(inputs, targets, mask)


def infer(
    parts: Parts,
    sequences: Sequences,
    noise: tf.Tensor,
    keep: Keep | None = None,
    state: Structure = None,
    backward_state: Structure = None,
    start_is_data: bool = False,
    training: bool = False,
    particles: Particles = ONE_SAMPLE,
) -> Inference:
    """Posterior, and all terms of the objective.

    Args:
        parts: the networks.
        sequences: inputs, targets and mask.
        noise: standard normal [T, B K, Z].
        keep: dropout factors, or None.
        state: before the first step; zeros by default.
        backward_state: of an encoder before the first step that it takes; zeros by default.
        start_is_data: whether inputs[0] is a frame of the data, which the backward emission then
            predicts like the others.
        training: whether the gradient will be asked for.
        particles: samples of the latents of each sequence, and how they go on.
    """
    state, seen, backward_states = observe(parts, sequences, keep, state, backward_state, training)
    count = particles.number
    found = explain(parts, rows_of(state, count), seen, noise, training, particles)
    inferred, auxiliary, backward = found.inferred, None, None
    if parts.auxiliary is not None:
        target = over_samples(backward_states, count)
        auxiliary = parts.auxiliary(inferred.past, inferred.latent, target)
    if parts.backward_emission is not None:
        parameters = parts.backward_emission(backward_states)
        backward = parts.backward_emission.log_prob(parameters, sequences.inputs)
        if not start_is_data:
            backward = tf.concat([tf.zeros_like(backward[:1]), backward[1:]], axis=0)
        backward = over_samples(backward, count)
    mask = over_samples(sequences.mask, count)
    terms = found.terms._replace(
        auxiliary=_masked(mask, auxiliary), backward=_masked(mask, backward)
    )
    return found._replace(terms=terms, backward_states=backward_states)


def observe(
    parts: Parts,
    sequences: Sequences,
    keep: Keep | None = None,
    state: Structure = None,
    backward_state: Structure = None,
    training: bool = False,
) -> tuple[Structure, Observations, tf.Tensor | None]:
    """What is known before the loop, once for all samples of a sequence.

    Arguments are those of `infer`.

    Returns:
        The state before the first step, [B, .]; what steps read; backward states.
    """
    inputs, targets, mask = sequences
    cell, emission = parts.cell, parts.emission
    if state is None:
        state = cell.initial_state(tf.shape(mask)[1])
    given = cell.precompute(state, cell.drive(inputs, keep.inputs if keep else None), training)
    context = cell.context(given, targets, mask, backward_state, training)
    skip = emission.skip(cell, inputs)
    seen = Observations(
        given=given,
        context=context.posterior,
        skip=() if skip is None else skip,
        keep=() if keep is None else keep.features,
        targets=targets,
        mask=mask,
    )
    return state, seen, context.backward_states


def explain(
    parts: Parts,
    state: Structure,
    seen: Observations,
    noise: tf.Tensor,
    training: bool = False,
    particles: Particles = ONE_SAMPLE,
) -> Inference:
    """Samples of the latents of what was observed, and the terms of the bound.

    It may be all that was observed or a stretch of it, with the state after the one before.

    Args:
        parts: the networks.
        state: before the first step, of each sample, [B K, .].
        seen: what steps read.
        noise: standard normal [T, B K, Z].
        training: whether the gradient will be asked for.
        particles: samples of the latents of each sequence, and how they go on.
    """
    cell, emission, count = parts.cell, parts.emission, particles.number
    choice = Choice(None, None)
    if particles.resampling is not None:
        cloud = first_cloud(parts, state, seen, count)
        _, choice = filter_particles(parts, cloud, seen, noise, particles)
    state, inferred = unroll.infer(
        cell,
        state,
        seen.given,
        seen.context,
        tf.cast(noise, cell.compute_dtype),
        training,
        count,
        choice.ancestors,
    )
    prior = cell.prior(inferred.past)
    posterior = (inferred.posterior_loc, inferred.posterior_scale)
    keep, skip = (_read(v, count) for v in (seen.keep, seen.skip))
    features = inferred.features if keep is None else inferred.features * keep
    parameters = emission(features, skip)
    log_prob = emission.log_prob(parameters, over_samples(seen.targets, count))
    terms = Terms(log_prob, objectives.divergence(posterior, prior))
    if particles.weighed:
        log_q, log_p = (normal(*v).log_prob(widened(inferred.latent)) for v in (posterior, prior))
        terms = terms._replace(log_ratio=log_q - log_p)
    mask = over_samples(seen.mask, count)
    terms = Terms(*(_masked(mask, term) for term in terms))
    return Inference(terms, inferred, parameters, state, resampled=choice.resampled)


def filter_particles(
    parts: Parts, cloud: Cloud, seen: Observations, noise: tf.Tensor, particles: Particles
) -> tuple[Cloud, Choice]:
    """The particle filter alone, as for a bound, over all that was observed or a stretch of it.

    Args:
        parts: the networks.
        cloud: particles before the first step.
        seen: what steps read.
        noise: standard normal [T, B K, Z].
        particles: their number, and how they are drawn anew.
    """
    assert particles.resampling is not None and particles.noise is not None
    return particle_filter(
        parts.cell,
        parts.emission,
        cloud,
        seen,
        tf.cast(noise, parts.cell.compute_dtype),
        particles.noise,
        particles.number,
        particles.resampling,
    )


def first_cloud(
    parts: Parts, state: Structure, seen: Observations, num_particles: int | tf.Tensor
) -> Cloud:
    """Particles before the first step, from the state of each, [B K, .]."""
    return Cloud.first(state, tf.shape(seen.mask)[1], num_particles, parts.wide_dtype)


def rows_of(state: Structure, num_samples: int | tf.Tensor) -> Structure:
    """A state [B, .] as that of samples, [B K, .]."""
    return tf.nest.map_structure(lambda v: over_samples(v, num_samples, axis=0), state)


def over_samples(x: tf.Tensor, num_samples: int | tf.Tensor, axis: int = 1) -> tf.Tensor:
    """[T, B, .] as [T, B K, .], each row K times."""
    if isinstance(num_samples, int) and num_samples == 1:
        return x
    return tf.repeat(x, num_samples, axis=axis)


def _read(x: tf.Tensor | tuple[()], num_samples: int) -> tf.Tensor | None:
    return None if isinstance(x, tuple) else over_samples(x, num_samples)


def _masked(mask: tf.Tensor, term: tf.Tensor | None) -> tf.Tensor | None:
    # Selected, never multiplied: NaN * 0 is NaN.
    return None if term is None else tf.where(mask, term, tf.zeros_like(term))
