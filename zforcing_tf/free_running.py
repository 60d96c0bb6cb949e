"""How far a model's own frames lead it astray: its predictions of known sequences, two ways.

The model is given the first half of a sequence, and predicts each frame of what follows: once with
the true frames before it as inputs (teacher-forced), once with frames that it has drawn itself
(free-running). Both go on from the same states, with latents from the prior and the same noise, so
the first prediction is the same, and what comes between the two is the model's own frames.

A prediction is the mean of the emission, averaged over `PATHS` draws of latents (and of frames,
where it draws them). Its error is the mean squared error of the numbers of a frame (of zeros and
ones, the Brier score); of symbols, the share of steps at which the most likely symbol is wrong. One
that stays above the error of the best constant is worth less than no model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf import inference, unroll
from zforcing_tf.data.spec import Split
from zforcing_tf.inference import Parts
from zforcing_tf.randomness import row_noise
from zforcing_tf.scoring import seeds_by_index
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.windows import cut, over_windows

Floats = npt.NDArray[np.floating]

PATHS = 8
"""Draws of the future of each sequence."""
LONGEST_HORIZON = 100
"""Steps that are predicted, at most."""
_WIDE_PARAMETERS = 4096
_FOR_FUTURE = 1 << 26


class Errors(NamedTuple):
    """Errors [H] of predictions 1 to H steps after what was given, means over sequences."""

    teacher_forced: Floats
    free_running: Floats
    constant: Floats
    """Of the one frame that is best for all these steps, known afterwards."""
    given_steps: int
    num_sequences: int


def free_running(
    model: SequenceModel, split: Split, index: npt.NDArray[np.int64], batch_size: int, seed: int
) -> Errors | None:
    """Errors over sequences of at least the median length, so that all of them have all steps.

    Half of that length is given to the model.

    Args:
        model: trained.
        split: that holds the sequences.
        index: which of them, if they are long enough.
        batch_size: draws at once.
        seed: of the noise.

    Returns:
        The errors; None where sequences of two steps are too few to have any.
    """
    median = int(np.median(split.lengths[index]))
    given = median // 2
    if not given:
        return None
    index = index[split.lengths[index] >= median]
    end = given + min(median - given, LONGEST_HORIZON)
    frame = () if model.emission.family.symbols else (model.emission.family.frame_size,)
    graph = tf.function(
        lambda x, seeds: _errors(model, x[:, :given], x[:, given:], seeds),
        input_signature=(
            tf.TensorSpec((None, end, *frame), model.frame_dtype),
            tf.TensorSpec((None, 2), tf.int32),
        ),
        autograph=False,
    )
    rows = max(1, batch_size // PATHS)
    found, futures = [], []
    for start in range(0, len(index), rows):
        chosen = index[start : start + rows]
        x = split.padded(chosen)[0][:, :end]
        seeds = np.stack([seeds_by_index(seed, path, chosen) for path in range(PATHS)], axis=1)
        found.append(np.stack(graph(np.repeat(x, PATHS, axis=0), seeds.reshape(-1, 2))))
        futures.append(x[:, given:])
    teacher_forced, own = np.concatenate(found, axis=2).mean(axis=2, dtype=np.float64)
    future = np.concatenate(futures)
    return Errors(teacher_forced, own, _constant(future), given, len(index))


def _constant(future: npt.NDArray[Any]) -> Floats:
    """Errors [H] of the best constant for frames [N, H, D], or symbols [N, H]."""
    if future.ndim == 2:
        wrong = future != np.bincount(future.reshape(-1)).argmax()
        return np.asarray(wrong.mean(axis=0, dtype=np.float64))
    mean = future.mean(axis=(0, 1), dtype=np.float64)
    return np.asarray(np.square(future - mean).mean(axis=(0, 2)))


def _errors(
    model: SequenceModel, prefix: tf.Tensor, future: tf.Tensor, seeds: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Errors [H, B], teacher-forced and free-running.

    Args:
        model: trained.
        prefix: [B PATHS, P, ...], each sequence once for each path.
        future: [B PATHS, H, ...], which follows.
        seeds: [B PATHS, 2].
    """
    cell, emission = model.cell, model.emission
    parts = Parts(cell, emission, None, None)
    state = _state_after(model, parts, prefix, seeds)
    by_time = (1, 0, 2)[: future.shape.rank]
    targets = tf.transpose(future, by_time)
    inputs = tf.concat([tf.transpose(prefix[:, -1:], by_time), targets[:-1]], axis=0)
    seeds += tf.constant([_FOR_FUTURE, 0])
    rows = tf.shape(seeds)[0]
    temperature = tf.ones((rows, 1), parts.wide_dtype)
    width = cell.latent_size + emission.noise_size

    def error(parameters: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        mean = emission.mean(parameters)
        shape = tf.concat([tf.shape(mean)[:1], [-1, PATHS], tf.shape(mean)[2:]], axis=0)
        mean = tf.reduce_mean(tf.reshape(mean, shape), axis=2)
        now = now[:, ::PATHS]
        if emission.family.symbols:
            likeliest = tf.argmax(mean, axis=-1, output_type=now.dtype)
            return tf.cast(tf.not_equal(likeliest, now), mean.dtype)
        return tf.reduce_mean(tf.square(mean - tf.cast(now, mean.dtype)), axis=-1)

    def predict(before: Any, first: tf.Tensor, end: tf.Tensor) -> tuple[Any, Any]:
        forced, own, x = before
        x = tf.ensure_shape(x, prefix[:, -1].shape)
        noise = row_noise(seeds, end - first, width, first)
        known, now = cut((inputs, targets), first, end)
        latent_noise = tf.cast(noise[..., : cell.latent_size], cell.compute_dtype)
        forced, seen = unroll.observe(cell, forced, cell.drive(known), latent_noise)
        parameters = emission(seen.features, emission.skip(cell, known))
        (own, x), drawn = unroll.generate(
            cell, emission, own, x, tf.cast(noise, temperature.dtype), temperature
        )
        return (forced, own, x), (error(parameters, now), error(drawn.parameters, now))

    # Windows are shorter where parameters of the emission are many, such as one for each word.
    widths = rows * (1 + emission.family.parameter_size // _WIDE_PARAMETERS)
    specs = (tf.TensorSpec((None, None), parts.wide_dtype),) * 2
    before = (state, state, prefix[:, -1])
    found: tuple[tf.Tensor, tf.Tensor] = over_windows(
        predict, before, tf.shape(targets)[0], widths, specs
    )[1]
    return found


def _state_after(
    model: SequenceModel, parts: Parts, prefix: tf.Tensor, seeds: tf.Tensor
) -> unroll.Structure:
    """The state after a prefix, its latents from the posterior given that alone."""
    lengths = tf.fill(tf.shape(prefix)[:1], tf.shape(prefix)[1])
    sequences = model.sequences(prefix, lengths)
    steps = sequences.mask.shape[0]
    if steps == 0:  # the first frame is given, not predicted
        return parts.cell.initial_state(tf.shape(prefix)[0])
    state, seen = inference.observe(parts, sequences)

    def explain(state: Any, first: tf.Tensor, end: tf.Tensor) -> tuple[Any, Any]:
        noise = row_noise(seeds, end - first, parts.cell.latent_size, first)
        return inference.explain(parts, state, cut(seen, first, end), noise).state, ()

    return over_windows(explain, state, tf.constant(steps), tf.shape(prefix)[0])[0]
