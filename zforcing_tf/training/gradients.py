"""Forward and backward pass of a training step, and the forms in which it can be computed.

A batch can be taken in parts that cores work on side by side: the products of one step of a small
network are too small to be shared out among cores, but parts of a batch are independent except for
their sum, so that each core can have a loop of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from zforcing_tf import objectives
from zforcing_tf.inference import Particles
from zforcing_tf.objectives import Weights
from zforcing_tf.randomness import Rows, dropout_keep
from zforcing_tf.requests import checked_batch
from zforcing_tf.sequences import Keep
from zforcing_tf.training.carried import Start
from zforcing_tf.training.noise import TrainingNoise, training_noise

if TYPE_CHECKING:
    from zforcing_tf.sequence_model import SequenceModel

Found = tuple[list[tf.Tensor], dict[str, tf.Tensor], Any]
"""Gradients, sums by name, and where rows began somewhere, state and encoder state after them."""


def gradient_function(model: SequenceModel, enable_xla: bool, num_parts: int) -> Any:
    """`loss_and_gradients` of a model as a graph, compiled or not, of a batch in so many parts."""
    graph = tf.function(
        functools.partial(loss_and_gradients, model),
        autograph=False,
        jit_compile=enable_xla or None,
    )
    return in_parts(graph, num_parts, model.bound.num_samples)


def gradient_inputs(model: SequenceModel, batch: dict[str, tf.Tensor]) -> tuple[Any, ...]:
    """What `SequenceModel.gradients` takes of a batch at the current step.

    Data, noise, where rows begin, the number of sequences of the global batch, weights of terms.
    """
    carried = model.carried
    least = 0 if carried else 1  # a row may have come to its end
    x, lengths = checked_batch(model.emission.family, model.frame_dtype, batch, least)
    rows = Rows.of(tf.distribute.get_replica_context(), tf.shape(x)[0])
    step = model.step_counter.value
    weights = Weights(*(schedule(step) for schedule in model.schedules))
    start: Start | tuple[()] = ()
    steps, total = tf.shape(x)[1], rows.total
    if carried:
        start = carried.start(model.emission.first_input(rows.local), batch)
        total = tf.maximum(tf.math.count_nonzero(lengths, dtype=tf.int32), 1)
    elif model.first_frame_given:
        steps -= 1
    noise = training_noise(model.cell, model.bound, model.dropout, model.seed, step, rows, steps)
    return x, lengths, noise, start, total, weights


def in_parts(gradients: Callable[..., Found], num_parts: int, num_samples: int) -> Any:
    """The function that sums what `gradients` finds of each part of a batch.

    Args:
        gradients: of x [B, ...], lengths [B], noise, and what all parts share.
        num_parts: parts of nearly equal numbers of rows; some are empty where rows are fewer.
        num_samples: of the latents of each row.
    """
    if num_parts == 1:
        return gradients

    def summed(
        x: tf.Tensor,
        lengths: tf.Tensor,
        noise: TrainingNoise,
        start: Start | tuple[()],
        *shared: Any,
    ) -> Found:
        size = tf.shape(x)[0]
        ends = [size * i // num_parts for i in range(num_parts + 1)]
        found = [
            gradients(
                x[a:b],
                lengths[a:b],
                noise.of_rows(a, b, num_samples),
                tf.nest.map_structure(lambda v, a=a, b=b: v[a:b], start),
                *shared,
            )
            for a, b in itertools.pairwise(ends)
        ]
        all_gradients, all_sums, all_after = zip(*found, strict=True)
        total = [tf.add_n(of_parts) for of_parts in zip(*all_gradients, strict=True)]
        sums = {name: tf.add_n([sums[name] for sums in all_sums]) for name in all_sums[0]}
        return total, sums, tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *all_after)

    return summed


def loss_and_gradients(
    model: SequenceModel,
    x: tf.Tensor,
    lengths: tf.Tensor,
    noise: TrainingNoise,
    start: Start | tuple[()],
    total_rows: tf.Tensor,
    weights: Weights,
) -> Found:
    """Gradient of this replica's share of the mean over the global batch; sums for metrics."""
    dtype, rate, bound = tf.as_dtype(model.cell.compute_dtype), model.dropout, model.bound
    keep = noise.keep and Keep(*(dropout_keep(n, rate, dtype) for n in noise.keep))
    resampling = bound.resampling if bound.name == "fivo" else None
    weighed = bound.name != "elbo"
    particles = Particles(bound.num_samples, weighed, resampling, noise.resampling)
    place: dict[str, Any] = {}
    if start:
        place = {"state": start.state, "start_is_data": start.is_data}
        place |= {"backward_state": start.encoder_state or None}
    sequences = model.sequences(x, lengths, start.before if start else None)
    with tf.GradientTape() as tape:
        inference = model.infer(
            sequences,
            noise.latent,
            keep,
            **place,
            training="recompute" if model.recompute else True,
            particles=particles,
        )
        terms = inference.terms
        losses = objectives.loss(terms, weights, bound, inference.resampled)
        loss = tf.reduce_sum(losses) / tf.cast(total_rows, losses.dtype)
        scaled = model.optimizer.scale_loss(loss)
    variables = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # The gradient of a table of symbols comes as slices.
    gradients = [tf.convert_to_tensor(g) for g in gradients]
    sums = objectives.sums(terms, losses, sequences.mask, bound.num_samples)
    value = objectives.bound_of(bound, terms, resampled=inference.resampled)
    after = (inference.state, inference.encoder_state) if start else ()
    return gradients, sums | {"bound": tf.reduce_sum(value)}, after
