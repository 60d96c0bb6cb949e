"""One pass of the posterior over sequences: what needs the past in the loop, all else around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf import objectives, unroll
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.distributions import normal, widened
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.emission import Emission
from zforcing_tf.objectives import Terms
from zforcing_tf.particle_filter import Choice, Cloud, Observations, particle_filter, read
from zforcing_tf.recompute import recomputed
from zforcing_tf.resampling import Resampling
from zforcing_tf.sequences import Keep, Sequences, sequences
from zforcing_tf.unroll import Structure, Training, repeated


class Parts(NamedTuple):
    """The networks of a model."""

    cell: LatentCell
    emission: Emission
    auxiliary: Auxiliary | None
    backward_emission: Emission | None
    first_frame_given: bool = False
    """Whether sequences are scored given their first frame, from the second one on."""

    @property
    def wide_dtype(self) -> tf.DType:
        """Of densities and what comes of them: float32 at least."""
        return tf.float64 if self.cell.compute_dtype == "float64" else tf.float32

    def sequences(
        self, x: tf.Tensor, lengths: tf.Tensor, before: tf.Tensor | None = None
    ) -> Sequences:
        """Time-major targets, inputs and mask of batch-major x [B, T, ...], lengths [B].

        With `before` [B, ...], the frame before the first of x, all of x is scored.
        """
        first_input = self.emission.first_input(tf.shape(x)[0])
        if before is not None:
            return sequences(tf.cast(before, first_input.dtype), x, lengths)
        found = sequences(first_input, x, lengths)
        if not self.first_frame_given:
            return found
        return Sequences(*(values[1:] for values in found))


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
    inferred: Any = None
    """`unroll.Inferred`; None, like the next one, where training computes windows of time again."""
    parameters: tf.Tensor | None = None
    """Emission parameters, float32 at least."""
    state: Structure = None
    """After the last step. Not known where windows are computed again: the last may end in steps
    that there are not."""
    backward_states: tf.Tensor | None = None
    encoder_state: Structure = ()
    """After the last step, of an encoder that runs forward."""
    resampled: tf.Tensor | None = None
    """[T, B] bool: where a particle filter drew the samples of a sequence anew, before the step."""
    log_weights: tf.Tensor | None = None
    """Of a particle filter, after the last step, normalised, [B, K]."""


def infer(
    parts: Parts,
    sequences: Sequences,
    noise: tf.Tensor,
    keep: Keep | None = None,
    state: Structure = None,
    backward_state: Structure = None,
    start_is_data: bool | tf.Tensor = False,
    training: Training = False,
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
            predicts like the others; or of which sequences it is, [B] bool.
        training: whether the gradient will be asked for.
        particles: samples of the latents of each sequence, and how they go on.
    """
    inputs, targets, mask = sequences
    cell = parts.cell
    state = cell.initial_state(tf.shape(mask)[1]) if state is None else state
    ahead = cell.run_ahead(state, inputs, keep.inputs if keep else None, training)
    context = cell.context(ahead, targets, mask, backward_state, training)
    predicted = tf.concat([tf.logical_and(mask[:1], start_is_data), mask[1:]], axis=0)
    steps = _Steps(
        sequences,
        () if keep is None else keep,
        ahead,
        context.posterior,
        () if context.backward_states is None else context.backward_states,
        predicted,
        noise,
        () if particles.noise is None else particles.noise,
    )
    rows_state = rows_of(state, particles.number)
    if training == "recompute":
        return _infer_in_windows(parts, rows_state, steps, particles)
    found = _infer_steps(parts, rows_state, steps, training, particles)
    return found._replace(
        backward_states=context.backward_states, encoder_state=context.encoder_state
    )


class _Steps(NamedTuple):
    """What is read of each step, structures of [T, ...]; () where there is none."""

    sequences: Sequences
    keep: Keep | tuple[()]
    ahead: Structure
    context: Structure
    backward_states: tf.Tensor | tuple[()]
    predicted: tf.Tensor
    """[T, B] bool: frames that the backward emission predicts."""
    noise: tf.Tensor
    drawing: tf.Tensor | tuple[()]
    """`Particles.noise`."""


def _infer_steps(
    parts: Parts,
    state: Structure,
    steps: _Steps,
    training: Training,
    particles: Particles,
    log_weights: tf.Tensor | None = None,
) -> Inference:
    """All terms of some steps, from the state of each sample before them."""
    count, drawing = particles.number, steps.drawing
    particles = particles._replace(noise=None if isinstance(drawing, tuple) else drawing)
    keep = steps.keep or None
    seen = _seen(parts, steps.sequences, steps.ahead, steps.context, keep)
    found = explain(parts, state, seen, steps.noise, training, particles, log_weights)
    inferred, auxiliary, backward = found.inferred, None, None
    if parts.auxiliary is not None:
        target = repeated(steps.backward_states, count, axis=1)
        auxiliary = parts.auxiliary(inferred.past, inferred.latent, target)
        auxiliary = _masked(repeated(steps.sequences.mask, count, axis=1), auxiliary)
    if parts.backward_emission is not None:
        parameters = parts.backward_emission(steps.backward_states)
        backward = parts.backward_emission.log_prob(parameters, steps.sequences.inputs)
        backward = repeated(_masked(steps.predicted, backward), count, axis=1)
    return found._replace(terms=found.terms._replace(auxiliary=auxiliary, backward=backward))


def _infer_in_windows(
    parts: Parts, state: Structure, steps: _Steps, particles: Particles
) -> Inference:
    """`_infer_steps` for training on long sequences: terms alone, their gradient by recomputing."""
    filters = particles.resampling is not None
    weights: Structure = ()
    if filters:
        mask = steps.sequences.mask
        weights = first_cloud(parts, state, mask, particles.number).log_weights
    names = ["log_prob", "kl"]
    names += ["auxiliary"] * (parts.auxiliary is not None)
    names += ["backward"] * (parts.backward_emission is not None)
    names += ["log_ratio"] * particles.weighed

    def run(carried: Structure, steps: _Steps) -> tuple[Structure, Structure]:
        state, weights = carried
        before = weights if filters else None
        found = _infer_steps(parts, state, steps, True, particles, before)
        terms = [getattr(found.terms, name) for name in names]
        after = tf.stop_gradient(found.log_weights) if filters else ()
        return (found.state, after), (terms, found.resampled if filters else ())

    layers = [part for part in parts if isinstance(part, keras.layers.Layer)]
    dtypes = ([parts.wide_dtype] * len(names), tf.bool if filters else ())
    _, (terms, resampled) = recomputed(run, layers, (state, weights), steps, dtypes)
    return Inference(
        Terms(**dict(zip(names, terms, strict=True))),
        resampled=resampled if filters else None,
    )


def observe(parts: Parts, sequences: Sequences) -> tuple[Structure, Observations]:
    """What is known before the loop, once for all samples of a sequence.

    Returns:
        The state before the first step, [B, .]; what steps read.
    """
    cell = parts.cell
    state = cell.initial_state(tf.shape(sequences.mask)[1])
    ahead = cell.run_ahead(state, sequences.inputs)
    context = cell.context(ahead, sequences.targets, sequences.mask)
    return state, _seen(parts, sequences, ahead, context.posterior)


def _seen(
    parts: Parts,
    sequences: Sequences,
    ahead: Structure,
    context: Structure,
    keep: Keep | None = None,
) -> Observations:
    inputs, targets, mask = sequences
    skip = parts.emission.skip(parts.cell, inputs)
    return Observations(
        given=parts.cell.given(ahead, inputs, keep.inputs if keep else None),
        context=context,
        skip=() if skip is None else skip,
        keep=() if keep is None else keep.features,
        targets=targets,
        mask=mask,
    )


def explain(
    parts: Parts,
    state: Structure,
    seen: Observations,
    noise: tf.Tensor,
    training: Training = False,
    particles: Particles = ONE_SAMPLE,
    log_weights: tf.Tensor | None = None,
    stop_at_ends: bool = False,
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
        log_weights: of particles before the first step, [B, K]; by default they weigh the same.
        stop_at_ends: whether the state is that after the end of each sequence, rather than after
            the last step of all.
    """
    cell, emission, count = parts.cell, parts.emission, particles.number
    choice = Choice(None, None)
    if particles.resampling is not None:
        cloud = first_cloud(parts, state, seen.mask, count)
        cloud = cloud if log_weights is None else cloud._replace(log_weights=log_weights)
        cloud, choice = filter_particles(parts, cloud, seen, noise, particles)
        log_weights = cloud.log_weights
    state, inferred = unroll.infer(
        cell,
        state,
        seen.given,
        seen.context,
        tf.cast(noise, cell.compute_dtype),
        training,
        count,
        choice.ancestors,
        seen.mask if stop_at_ends else None,
    )
    prior = cell.prior(inferred.past)
    posterior = (inferred.posterior_loc, inferred.posterior_scale)
    keep, skip = (read(v, count, axis=1) for v in (seen.keep, seen.skip))
    features = inferred.features if keep is None else inferred.features * keep
    parameters = emission(features, skip)
    log_prob = emission.log_prob(parameters, repeated(seen.targets, count, axis=1))
    terms = Terms(log_prob, objectives.divergence(posterior, prior))
    if particles.weighed:
        log_q, log_p = (normal(*v).log_prob(widened(inferred.latent)) for v in (posterior, prior))
        terms = terms._replace(log_ratio=log_q - log_p)
    mask = repeated(seen.mask, count, axis=1)
    terms = Terms(*(_masked(mask, term) for term in terms))
    return Inference(
        terms, inferred, parameters, state, resampled=choice.resampled, log_weights=log_weights
    )


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
    parts: Parts, state: Structure, mask: tf.Tensor, num_particles: int | tf.Tensor
) -> Cloud:
    """Particles before the first step, from the state of each, [B K, .]; mask [T, B]."""
    return Cloud.first(state, tf.shape(mask)[1], num_particles, parts.wide_dtype)


def rows_of(state: Structure, num_samples: int | tf.Tensor) -> Structure:
    """A state [B, .] as that of samples, [B K, .]."""
    return repeated(state, num_samples, axis=0)


def _masked(mask: tf.Tensor, term: tf.Tensor | None) -> tf.Tensor | None:
    # Selected, never multiplied: NaN * 0 is NaN.
    return None if term is None else tf.where(mask, term, tf.zeros_like(term))
