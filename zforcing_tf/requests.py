"""Checks of what a caller hands to a model, before any of it reaches a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from zforcing_tf.distributions import EmissionFamily
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import row_seeds


def checked(
    family: EmissionFamily, dtype: tf.DType, x: Any, lengths: Any, values: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sequences and their lengths as tensors.

    Args:
        family: of the model's emission; tells the width of a frame.
        dtype: that x gets.
        x: [B, T, D], or [B, T] symbols.
        lengths: [B], or None if all T steps of each row are valid.
        values: whether the values are checked too, outside of graphs.

    Raises:
        UserError: no numbers, a wrong rank, width or number of rows, a length outside of 1 to T, a
            number that the family has no density for. In a graph only what is known of the shapes
            is checked.
    """
    symbols = family.symbols
    expected = "[B, T] symbols" if symbols else f"[B, T, {family.frame_size}]"
    x = _tensor("x", x, expected)
    if x.shape.rank is not None and x.shape.rank != (2 if symbols else 3):
        raise UserError(f"x has shape {tuple(x.shape)}; this model takes {expected}")
    if symbols and not x.dtype.is_integer:
        raise UserError(f"x is {x.dtype.name}; this model takes {expected}, int32")
    if not symbols and x.shape[-1] not in (None, family.frame_size):
        raise UserError(f"frames of x have width {x.shape[-1]}; this model takes {expected}")
    if x.shape[1] == 0:
        raise UserError("x has no steps (T = 0); a sequence needs one at least")
    if lengths is None:
        lengths = tf.fill(tf.shape(x)[:1], tf.shape(x)[1])
    lengths = _tensor("lengths", lengths, "whole numbers, int32")
    if not lengths.dtype.is_integer:
        raise UserError(f"lengths are {lengths.dtype.name}; give whole numbers, int32")
    if lengths.shape.rank not in (None, 1) or not lengths.shape.is_compatible_with(x.shape[:1]):
        shape, rows = tuple(lengths.shape), x.shape[0]
        raise UserError(f"lengths have shape {shape}; x has {rows} rows: give one length each")
    given, x = x, tf.cast(x, dtype)
    if values and tf.executing_eagerly():
        _check_values(family, (given if symbols else x).numpy(), lengths.numpy())
    return x, tf.cast(lengths, tf.int32)


def checked_batch(
    family: EmissionFamily, dtype: tf.DType, batch: Any, least: int = 1
) -> tuple[tf.Tensor, tf.Tensor]:
    """x and lengths of a batch that training or evaluation is given, in a graph too.

    Args:
        family: of the model's emission.
        dtype: that x gets.
        batch: {"x": [B, T, D] or [B, T] symbols, "lengths": [B], all T steps without them}.
        least: smallest length that is possible.

    Raises:
        UserError: no such batch, or shapes that do not fit.
        InvalidArgumentError: a length outside of `least` to T, found where the graph runs.
    """
    if not isinstance(batch, Mapping) or "x" not in batch:
        raise UserError(
            f"a batch is {type(batch).__name__}; give a data set of batches "
            '{"x": [B, T, ...], "lengths": [B]}'
        )
    x, lengths = checked(family, dtype, batch["x"], batch.get("lengths"), values=False)
    steps = tf.shape(x)[1]
    possible = tf.reduce_all((lengths >= least) & (lengths <= steps))
    message = f"lengths of a batch must be {least} to its number of steps"
    with tf.control_dependencies([tf.debugging.Assert(possible, [message, steps, lengths])]):
        return tf.identity(x), tf.identity(lengths)


def check_generation(num_steps: Any, num_sequences: Any, temperature: Any, rows: Any) -> None:
    """What a caller asks to be generated.

    Args:
        num_steps: T, a whole number >= 1.
        num_sequences: B, a whole number >= 0, or None.
        temperature: scalar, [B] or [B, 2], >= 0.
        rows: B as it follows from everything.

    Raises:
        UserError: anything else. In a graph nothing is checked.
    """
    if not tf.executing_eagerly():
        return
    for name, value, least in (("num_steps", num_steps, 1), ("num_sequences", num_sequences, 0)):
        if value is None:
            continue
        number = np.asarray(value)
        if number.shape or number.dtype.kind not in "iu" or not least <= number < 2**31:
            raise UserError(f"{name} is {value}; give a whole number, {least} or more")
    temperature = np.asarray(temperature)
    numeric = temperature.dtype.kind in "iuf"
    if not numeric or not (np.isfinite(temperature) & (temperature >= 0)).all():
        raise UserError(f"temperature is {temperature}; give numbers of 0 or more")
    possible = ((), (1,), (int(rows),), (1, 2), (int(rows), 2))
    if temperature.shape not in possible:
        raise UserError(
            f"temperature has shape {temperature.shape} for {int(rows)} sequences; "
            "give one number, or one for each, or for each that of latents and that of frames"
        )


def checked_generation(
    num_steps: Any, num_sequences: Any, seed: Any, temperature: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Seeds [B, 2] int32 and temperatures [B, 2] float32 of what is to be generated.

    Args:
        num_steps: as of `check_generation`, and so errors.
        num_sequences: B; row seeds tell it as well.
        seed: scalar, or [B, 2].
        temperature: scalar, [B], or [B, 2] for latents and for frames.
    """
    row_seeds(seed, 1)  # says what is wrong with a seed
    own_seeds = len(tf.convert_to_tensor(seed).shape) == 2
    rows = tf.shape(seed)[0] if own_seeds else num_sequences
    check_generation(num_steps, num_sequences, temperature, rows)
    seeds = row_seeds(seed, num_sequences)
    temperatures = tf.cast(temperature, tf.float32)
    if temperatures.shape.rank == 1:
        temperatures = temperatures[:, tf.newaxis]
    return seeds, tf.broadcast_to(temperatures, tf.shape(seeds))


def checked_prefix(
    family: EmissionFamily, dtype: tf.DType, prefix: Any, lengths: Any, num_particles: Any
) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """What a continuation goes on from, as `checked` gives it; None and None without a prefix.

    Raises:
        UserError: as of `checked`; or particles or lengths that do not go with it.
    """
    check_counts(num_particles=num_particles)
    if num_particles > 1 and prefix is None:
        raise UserError("num_particles filters a prefix: give one, or leave num_particles at 1")
    if lengths is not None and (prefix is None or num_particles > 1):
        raise UserError("prefix_lengths go with a prefix, and with num_particles=1 alone")
    return (None, None) if prefix is None else checked(family, dtype, prefix, lengths)


def check_counts(**counts: Any) -> None:
    """UserError unless each number is whole and 1 or more."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise UserError(f"{name} is {value}; give a whole number, 1 or more")


def _tensor(name: str, value: Any, expected: str) -> tf.Tensor:
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is no rectangular array of numbers; give {expected}") from error
    dtype = tensor.dtype
    if not (dtype.is_integer or dtype.is_floating or dtype.is_bool):
        raise UserError(f"{name} holds {dtype.name}; give numbers, {expected}")
    return tensor


def _check_values(family: EmissionFamily, x: np.ndarray, lengths: np.ndarray) -> None:
    steps = x.shape[1]
    wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
    if wrong.size:
        row = wrong[0]
        raise UserError(f"lengths[{row}] is {lengths[row]}; x has {steps} steps: give 1 to {steps}")
    valid = np.arange(steps) < lengths[:, None]
    if family.symbols:
        bad = valid & ((x < 0) | (x >= family.frame_size))
        reason = f"is not a symbol of 0 to {family.frame_size - 1}"
    else:
        low, high = family.limits
        valid = valid[..., None]
        bad = valid & ~np.isfinite(x)
        reason = f"is not finite in {x.dtype.name}"
        if not bad.any():
            bad = valid & ~((x >= low) & (x <= high))
            reason = f"is not within {low:g} to {high:g}"
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(f"x{list(place)} is {x[place]}, which {reason}")
