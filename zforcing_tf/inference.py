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
from zforcing_tf.particle_filter import Filtered, Observations, particle_filter
from zforcing_tf.resampling import Resampling
from zforcing_tf.unroll import Structure


class Parts(NamedTuple):
    """The networks of a model."""

    cell: LatentCell
    emission: Emission
    auxiliary: Auxiliary | None
    backward_emission: Emission | None

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
    backward_states: tf.Tensor | None
    state: Structure
    """After the last step."""
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
    inputs, targets, mask = sequences
    cell, emission, count = parts.cell, parts.emission, particles.number
    state, seen, backward_states = _observe(parts, sequences, keep, state, backward_state, training)
    noise = tf.cast(noise, cell.compute_dtype)
    rows_state = tf.nest.map_structure(lambda v: over_samples(v, count, axis=0), state)
    filtered = None
    if particles.resampling is not None:
        filtered = particle_filter(
            cell, emission, rows_state, seen, noise, particles.noise, count, particles.resampling
        )
    ancestors = None if filtered is None else filtered.ancestors
    state, inferred = unroll.infer(
        cell, rows_state, seen.given, seen.context, noise, training, count, ancestors
    )

    mask, inputs, targets = (over_samples(v, count) for v in (mask, inputs, targets))
    prior = cell.prior(inferred.past)
    posterior = (inferred.posterior_loc, inferred.posterior_scale)
    features = inferred.features
    features = features if keep is None else features * over_samples(keep.features, count)
    skip = None if isinstance(seen.skip, tuple) else over_samples(seen.skip, count)
    parameters = emission(features, skip)
    terms = Terms(emission.log_prob(parameters, targets), objectives.divergence(posterior, prior))
    if particles.weighed:
        log_q, log_p = (normal(*v).log_prob(widened(inferred.latent)) for v in (posterior, prior))
        terms = terms._replace(log_ratio=log_q - log_p)
    if parts.auxiliary is not None:
        target = over_samples(backward_states, count)
        auxiliary = parts.auxiliary(inferred.past, inferred.latent, target)
        terms = terms._replace(auxiliary=auxiliary)
    if parts.backward_emission is not None:
        backward_parameters = parts.backward_emission(backward_states)
        backward = parts.backward_emission.log_prob(backward_parameters, sequences.inputs)
        if not start_is_data:
            backward = tf.concat([tf.zeros_like(backward[:1]), backward[1:]], axis=0)
        terms = terms._replace(backward=over_samples(backward, count))
    terms = Terms(*(_masked(mask, term) for term in terms))
    resampled = None if filtered is None else filtered.resampled
    return Inference(terms, inferred, parameters, backward_states, state, resampled)


def filter_particles(
    parts: Parts, sequences: Sequences, noise: tf.Tensor, particles: Particles
) -> Filtered:
    """The particle filter alone, as for a bound or a continuation; arguments as of `infer`."""
    state, seen, _ = _observe(parts, sequences)
    state = tf.nest.map_structure(lambda v: over_samples(v, particles.number, axis=0), state)
    noise = tf.cast(noise, parts.cell.compute_dtype)
    assert particles.resampling is not None and particles.noise is not None
    return particle_filter(
        parts.cell,
        parts.emission,
        state,
        seen,
        noise,
        particles.noise,
        particles.number,
        particles.resampling,
    )


def _observe(
    parts: Parts,
    sequences: Sequences,
    keep: Keep | None = None,
    state: Structure = None,
    backward_state: Structure = None,
    training: bool = False,
) -> tuple[Structure, Observations, tf.Tensor | None]:
    """What is known before the loop: the first state, what steps read, and backward states."""
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


def over_samples(x: tf.Tensor, num_samples: int, axis: int = 1) -> tf.Tensor:
    """[T, B, .] as [T, B K, .], each row K times."""
    if isinstance(num_samples, int) and num_samples == 1:
        return x
    return tf.repeat(x, num_samples, axis=axis)


def _masked(mask: tf.Tensor, term: tf.Tensor | None) -> tf.Tensor | None:
    # Selected, never multiplied: NaN * 0 is NaN.
    return None if term is None else tf.where(mask, term, tf.zeros_like(term))
