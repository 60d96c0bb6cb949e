"""Checks inside the graph: a wrong request is answered with one sentence, and the server goes on.

Each check hands back the tensors it has checked; what is computed from these waits for the check.
What fails is an `InvalidArgumentError` (status INVALID_ARGUMENT) that holds the sentence.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from zforcing_tf.distributions import EmissionFamily

MOST_FRAMES = 100_000
"""Frames that one request may generate, rows times longest: a slip must not fill the memory."""


def sequences(
    family: EmissionFamily, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The arguments, if they are sequences that the model can read.

    Args:
        family: of the model's emission; tells which frames are possible.
        x: [B, T, D], or [B, T] int32 symbols.
        lengths: [B] int32, 1 to T.
        seed: [B, 2] int32.
    """
    x = _shaped(x, None, None, *([] if family.symbols else [family.frame_size]))
    lengths, seed = _shaped(lengths, None), _shaped(seed, None, 2)
    rows, steps = tf.shape(x)[0], tf.shape(x)[1]
    shapes = [
        _require(rows > 0, "x has no rows; send one sequence at least"),
        _require(steps > 0, "x has no steps; a sequence needs one at least"),
        _same_rows("lengths", lengths, "x", rows),
        _same_rows("seed", seed, "x", rows),
    ]
    with tf.control_dependencies(shapes):
        x, lengths = tf.identity(x), tf.identity(lengths)
    wrong, row = _first((lengths < 1) | (lengths > steps))
    sentence = "lengths[{}] is {}; x has {} steps: give 1 to {}"
    lengths_fit = _require(~wrong, sentence, row, lengths[row], steps, steps)
    valid = tf.sequence_mask(lengths, steps)
    if family.symbols:
        impossible = (x < 0) | (x >= family.frame_size)
        sentence = f"x[{{}}, {{}}] is {{}}; give symbols of 0 to {family.frame_size - 1}"
    else:
        impossible = tf.reduce_any(~tf.math.is_finite(x), axis=-1)
        sentence = "x[{}, {}] holds a number that is not finite: {}; give finite ones"
    frames_fit = [_no_frame(valid & impossible, sentence, x)]
    low, high = family.limits
    if not family.symbols and (low, high) != (-math.inf, math.inf):
        with tf.control_dependencies(frames_fit):  # what is not finite has a sentence of its own
            outside = tf.reduce_any((x < low) | (x > high), axis=-1)
        sentence = f"x[{{}}, {{}}] holds a number outside of {low:g} to {high:g}: {{}}"
        frames_fit.append(_no_frame(valid & outside, sentence, x))
    with tf.control_dependencies([lengths_fit, *frames_fit]):
        return tf.identity(x), tf.identity(lengths), tf.identity(seed)


def _no_frame(wrong: tf.Tensor, sentence: str, x: tf.Tensor) -> tf.Operation:
    """Requires that no frame is wrong [B, T]; the sentence gets the first one and its place."""
    steps = tf.shape(x)[1]
    any_wrong, place = _first(tf.reshape(wrong, [-1]))
    row, step = place // steps, place % steps
    return _require(~any_wrong, sentence, row, step, x[row, step])


def generation(
    num_steps: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The arguments, if something can be generated from them.

    Args:
        num_steps: [B] int32, at least 1; B times the largest at most `MOST_FRAMES`.
        seed: [B, 2] int32.
        temperature: [B] float32, finite, at least 0.
    """
    num_steps, temperature = _shaped(num_steps, None), _shaped(temperature, None)
    seed = _shaped(seed, None, 2)
    rows = tf.shape(num_steps)[0]
    shapes = [
        _require(rows > 0, "num_steps has no rows; ask for one sequence at least"),
        _same_rows("seed", seed, "num_steps", rows),
        _same_rows("temperature", temperature, "num_steps", rows),
    ]
    with tf.control_dependencies(shapes):
        num_steps, temperature = tf.identity(num_steps), tf.identity(temperature)
    wrong, row = _first(num_steps < 1)
    enough = _require(~wrong, "num_steps[{}] is {}; give 1 or more", row, num_steps[row])
    frames = tf.cast(rows, tf.int64) * tf.cast(tf.reduce_max(num_steps), tf.int64)
    sentence = (
        "num_steps asks for {} frames (rows times the longest); "
        f"one request gives {MOST_FRAMES} at most: send several"
    )
    few = _require(frames <= MOST_FRAMES, sentence, frames)
    wrong, row = _first(~(tf.math.is_finite(temperature) & (temperature >= 0)))
    sentence = "temperature[{}] is {}; give a finite number, 0 or more"
    warm = _require(~wrong, sentence, row, temperature[row])
    with tf.control_dependencies([enough, few, warm]):
        return tf.identity(num_steps), tf.identity(seed), tf.identity(temperature)


def _shaped(value: tf.Tensor, *shape: Any) -> tf.Tensor:
    # Not `tf.ensure_shape`, which trusts the spec of a signature; who sends requests may not.
    return tf.raw_ops.EnsureShape(input=value, shape=tf.TensorShape(shape))


def _require(condition: tf.Tensor, sentence: str, *values: tf.Tensor) -> tf.Operation:
    """Answers with a sentence, its `{}` filled with values, unless a condition holds."""
    return tf.debugging.Assert(condition, [tf.strings.format(sentence, values)])


def _same_rows(name: str, value: tf.Tensor, of: str, rows: tf.Tensor) -> tf.Operation:
    found = tf.shape(value)[0]
    sentence = f"{name} has {{}} rows and {of} has {{}}; give one to each row"
    return _require(tf.equal(found, rows), sentence, found, rows)


def _first(wrong: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether any entry of a vector is wrong, and the index of the first, int32."""
    index = tf.argmax(tf.cast(wrong, tf.int32), output_type=tf.int32)
    return tf.reduce_any(wrong), index
