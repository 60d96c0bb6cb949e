"""Checks inside the graph: a wrong request is answered with one sentence, and the server goes on.

Each check hands back the tensors it has checked; what is computed from these waits for the check.
What fails is an `InvalidArgumentError` (status INVALID_ARGUMENT) that holds the sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from zforcing_tf.distributions import EmissionFamily

from .limits import MOST_FRAMES

GENERATION = (
    tf.TensorSpec((None,), tf.int32, name="num_steps"),
    tf.TensorSpec((None, 2), tf.int32, name="seed"),
    tf.TensorSpec((None,), tf.float32, name="temperature"),
)
"""Specs of num_steps, seed and temperature."""
LONGEST_STREAM = 2**31 - 2
"""Steps that `state_step` can count."""


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
    num_steps: tf.Tensor,
    seed: tf.Tensor,
    temperature: tf.Tensor,
    name: str = "num_steps",
    per_frame: int = 1,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The arguments, if something can be generated from them.

    Args:
        num_steps: [B] int32, at least 1; B times the largest at most `MOST_FRAMES`.
        seed: [B, 2] int32.
        temperature: [B] float32, finite, at least 0.
        name: of the first argument, for the client.
        per_frame: how many of what it counts a frame has.
    """
    num_steps, temperature = _shaped(num_steps, None), _shaped(temperature, None)
    seed = _shaped(seed, None, 2)
    rows = tf.shape(num_steps)[0]
    shapes = [
        _require(rows > 0, f"{name} has no rows; ask for one sequence at least"),
        _same_rows("seed", seed, name, rows),
        _same_rows("temperature", temperature, name, rows),
    ]
    with tf.control_dependencies(shapes):
        num_steps, temperature = tf.identity(num_steps), tf.identity(temperature)
    wrong, row = _first(num_steps < 1)
    enough = _require(~wrong, f"{name}[{{}}] is {{}}; give 1 or more", row, num_steps[row])
    frames = tf.cast(rows, tf.int64) * -(-tf.cast(tf.reduce_max(num_steps), tf.int64) // per_frame)
    sentence = (
        f"{name} asks for {{}} frames (rows times the longest); "
        f"one request gives {MOST_FRAMES} at most: send several"
    )
    few = _require(frames <= MOST_FRAMES, sentence, frames)
    with tf.control_dependencies([enough, few, _warm(temperature)]):
        return tf.identity(num_steps), tf.identity(seed), tf.identity(temperature)


def _warm(temperature: tf.Tensor) -> tf.Operation:
    wrong, row = _first(~(tf.math.is_finite(temperature) & (temperature >= 0)))
    sentence = "temperature[{}] is {}; give a finite number, 0 or more"
    return _require(~wrong, sentence, row, temperature[row])


def continuation(
    x: tf.Tensor, num_steps: tf.Tensor, steps_name: str = "num_steps", x_name: str = "x"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both, each checked by itself already, if they have as many rows."""
    fits = _same_rows(steps_name, num_steps, x_name, tf.shape(x)[0])
    with tf.control_dependencies([fits]):
        return tf.identity(x), tf.identity(num_steps)


def texts(text: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The arguments, if they are texts [B] in UTF-8 with a seed [B, 2] each."""
    text, seed = _shaped(text, None), _shaped(seed, None, 2)
    rows = tf.shape(text)[0]
    some = _require(rows > 0, "text has no rows; send one text at least")
    with tf.control_dependencies([some, _same_rows("seed", seed, "text", rows)]):
        text, seed = tf.identity(text), tf.identity(seed)
    sound = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
    wrong, row = _first(tf.not_equal(sound, text))
    with tf.control_dependencies([_require(~wrong, "text[{}] is not in UTF-8", row)]):
        return tf.identity(text), seed


def some_tokens(tokens: tf.RaggedTensor) -> tf.RaggedTensor:
    """The tokens of texts, if each has one at least, and all together are not too many."""
    lengths = tokens.row_lengths()
    wrong, row = _first(tf.equal(lengths, 0))
    some = _require(~wrong, "text[{}] holds no token; send some text", row)
    frames = tf.shape(lengths, tf.int64)[0] * tf.reduce_max(lengths)
    sentence = (
        "text holds {} tokens (rows times the longest); "
        f"one request takes {MOST_FRAMES} at most: send several"
    )
    with tf.control_dependencies([some, _require(frames <= MOST_FRAMES, sentence, frames)]):
        return tokens.with_flat_values(tf.identity(tokens.flat_values))


def recordings(
    samples: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor, frame_size: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The arguments, if they are recordings of a frame at least.

    Args:
        samples: [B, N] float32, of -1 to 1.
        num_samples: [B] int32, `frame_size` to N.
        seed: [B, 2] int32.
        frame_size: samples of a frame.
    """
    samples, num_samples = _shaped(samples, None, None), _shaped(num_samples, None)
    seed = _shaped(seed, None, 2)
    rows, most = tf.shape(samples)[0], tf.shape(samples)[1]
    shapes = [
        _require(rows > 0, "samples has no rows; send one recording at least"),
        _same_rows("num_samples", num_samples, "samples", rows),
        _same_rows("seed", seed, "samples", rows),
    ]
    with tf.control_dependencies(shapes):
        samples, num_samples = tf.identity(samples), tf.identity(num_samples)
    wrong, row = _first((num_samples < frame_size) | (num_samples > most))
    sentence = (
        "num_samples[{}] is {}; samples has {} in a row and a frame takes "
        f"{frame_size}: give {frame_size} to {{}}"
    )
    long_enough = _require(~wrong, sentence, row, num_samples[row], most, most)
    valid = tf.sequence_mask(num_samples, most)
    # NaN by itself: the graph's optimizer takes `not (a <= b)` for `a > b`.
    outside = tf.math.is_nan(samples) | (tf.abs(samples) > 1)
    wrong, place = _first(tf.reshape(valid & outside, [-1]))
    row, step = place // tf.maximum(most, 1), place % tf.maximum(most, 1)
    with tf.control_dependencies([long_enough]):
        value = tf.identity(samples)[row, step]
    sentence = "samples[{}, {}] is {}; give numbers of -1 to 1"
    with tf.control_dependencies([_require(~wrong, sentence, row, step, value)]):
        samples = tf.where(valid, samples, tf.zeros_like(samples))  # NaN has no nearest level
        return samples, tf.identity(num_samples), tf.identity(seed)


def sessions(session: tf.Tensor) -> tf.Tensor:
    """The number of rows of `session` [B], which must have one at least; scalar int32."""
    rows = tf.shape(_shaped(session, None))[0]
    some = _require(rows > 0, "session has no rows; send a number for each stream")
    with tf.control_dependencies([some]):
        return tf.identity(rows)


def frames(
    family: EmissionFamily, x: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The arguments, if they are the next frames of streams.

    Args:
        family: of the model's emission; tells which frames are possible.
        x: [B, D], or [B] int32 symbols.
        seed: [B, 2] int32.
        temperature: [B] float32, finite, at least 0.
    """
    x = _shaped(x, None, *([] if family.symbols else [family.frame_size]))
    temperature = _shaped(temperature, None)
    ones = tf.ones(tf.shape(x)[:1], tf.int32)
    alone, _, seed = sequences(family, x[:, tf.newaxis], ones, seed)
    fits = _same_rows("temperature", temperature, "x", tf.shape(x)[0])
    with tf.control_dependencies([fits]):
        temperature = tf.identity(temperature)
    with tf.control_dependencies([_warm(temperature)]):
        return alone[:, 0], seed, tf.identity(temperature)


def state(
    named: Mapping[str, tf.Tensor],
    widths: Mapping[str, tuple[int, ...]],
    rows: tf.Tensor,
    fingerprint: int,
) -> dict[str, tf.Tensor]:
    """The tensors of a state by name, if they are those of streams of this model.

    Args:
        named: `state_model` [B] int64, `state_step` [B] int32, and [B, .] for each of `widths`.
        widths: shapes of the others without B; numbers among them must be finite.
        rows: B, of the frames that come with it.
        fingerprint: of this model.
    """
    shaped = {name: _shaped(value, None, *widths.get(name, ())) for name, value in named.items()}
    fits = [_same_rows(name, value, "x", rows) for name, value in sorted(shaped.items())]
    with tf.control_dependencies(fits):
        shaped = {name: tf.identity(value) for name, value in shaped.items()}
    begin = "begin anew with initial_state"
    model, step = shaped["state_model"], shaped["state_step"]
    wrong, row = _first(tf.not_equal(model, tf.constant(fingerprint, tf.int64)))
    sound = [_require(~wrong, f"state_model[{{}}] is not that of this model; {begin}", row)]
    wrong, row = _first((step < 0) | (step >= LONGEST_STREAM))
    sentence = f"state_step[{{}}] is {{}}, which no stream has; {begin}"
    sound.append(_require(~wrong, sentence, row, step[row]))
    for name in widths:
        if shaped[name].dtype.is_floating and shaped[name].shape.rank == 2:
            wrong, row = _first(~tf.reduce_all(tf.math.is_finite(shaped[name]), axis=-1))
            sentence = f"{name}[{{}}] holds a number that is not finite; {begin}"
            sound.append(_require(~wrong, sentence, row))
    with tf.control_dependencies(sound):
        return {name: tf.identity(value) for name, value in shaped.items()}


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
