"""Checks of what a caller hands to a model, before any of it reaches a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from zforcing_tf.distributions import EmissionFamily
from zforcing_tf.errors import UserError


def checked(
    family: EmissionFamily, dtype: tf.DType, x: Any, lengths: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sequences and their lengths as tensors.

    Args:
        family: of the model's emission; tells the width of a frame.
        dtype: that x gets.
        x: [B, T, D], or [B, T] symbols.
        lengths: [B], or None if all T steps of each row are valid.

    Raises:
        UserError: a wrong rank, width or number of rows, a length outside of 1 to T, a number that is not
            finite. In a graph only what is known of the shapes is checked.
    """
    symbols = family.symbols
    x = tf.convert_to_tensor(x)
    expected = "[B, T] symbols" if symbols else f"[B, T, {family.frame_size}]"
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
    lengths = tf.convert_to_tensor(lengths)
    if not lengths.dtype.is_integer:
        raise UserError(f"lengths are {lengths.dtype.name}; give whole numbers, int32")
    lengths = tf.cast(lengths, tf.int32)
    if lengths.shape.rank not in (None, 1) or not lengths.shape.is_compatible_with(x.shape[:1]):
        raise UserError(
            f"lengths have shape {tuple(lengths.shape)}; x has {x.shape[0]} rows: give one length each"
        )
    if tf.executing_eagerly():
        _check_values(family, x.numpy(), lengths.numpy())
    return tf.cast(x, dtype), lengths


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
        bad = valid[..., None] & ~np.isfinite(x.astype(np.float64))
        reason = "is not finite"
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(f"x{list(place)} is {x[place]}, which {reason}")
