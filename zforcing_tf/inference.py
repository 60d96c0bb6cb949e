"""One pass of the posterior over sequences: what needs the past in the loop, all else around it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from zforcing_tf import objectives, unroll
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.emission import Emission
from zforcing_tf.objectives import Terms
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


class Inference(NamedTuple):
    """What the pass gives, time-major."""

    terms: Terms
    inferred: unroll.Inferred
    parameters: tf.Tensor
    """Emission parameters, float32 at least."""
    backward_states: tf.Tensor | None
    state: Structure
    """After the last step."""


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
) -> Inference:
    """Posterior, and all terms of the objective.

    Args:
        parts: the networks.
        sequences: inputs, targets and mask.
        noise: standard normal [T, B, Z].
        keep: dropout factors, or None.
        state: before the first step; zeros by default.
        backward_state: of the backward network behind the last step; zeros by default.
        start_is_data: whether inputs[0] is a frame of the data, which the backward emission then
            predicts like the others.
        training: whether the gradient will be asked for.
    """
    inputs, targets, mask = sequences
    cell, emission = parts.cell, parts.emission
    if state is None:
        state = cell.initial_state(tf.shape(mask)[1])
    context = cell.context(targets, mask, backward_state, training)
    drive = cell.drive(inputs, keep.inputs if keep else None)
    noise = tf.cast(noise, cell.compute_dtype)
    state, inferred = unroll.infer(cell, state, drive, context.posterior, noise, training)

    prior = cell.prior(inferred.past)
    kl = objectives.divergence((inferred.posterior_loc, inferred.posterior_scale), prior)
    features = inferred.features * keep.features if keep else inferred.features
    parameters = emission(features, emission.skip(cell, inputs))
    log_prob = emission.log_prob(parameters, targets)
    auxiliary = backward = None
    if parts.auxiliary is not None:
        auxiliary = parts.auxiliary(inferred.past, inferred.latent, context.backward_states)
    if parts.backward_emission is not None:
        backward_parameters = parts.backward_emission(context.backward_states)
        backward = parts.backward_emission.log_prob(backward_parameters, inputs)
        if not start_is_data:
            backward = tf.concat([tf.zeros_like(backward[:1]), backward[1:]], axis=0)
    terms = Terms(log_prob, kl, auxiliary, backward)
    terms = Terms(*(_masked(mask, term) for term in terms))
    return Inference(terms, inferred, parameters, context.backward_states, state)


def _masked(mask: tf.Tensor, term: tf.Tensor | None) -> tf.Tensor | None:
    # Selected, never multiplied: NaN * 0 is NaN.
    return None if term is None else tf.where(mask, term, tf.zeros_like(term))
