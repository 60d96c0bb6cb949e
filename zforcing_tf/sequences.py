"""A batch as the time loop sees it: time-major, each frame with the one before it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Sequences(NamedTuple):
    """Time-major sequences with the input of each step; padding is zero whatever it held."""

    inputs: tf.Tensor
    """x[t] = y[t-1], behind a start frame: [T, B, D], or [T, B] int32.

    Where first frames are given, they are x[0], and T is less by 1 than that of the data."""
    targets: tf.Tensor
    """y, like inputs."""
    mask: tf.Tensor
    """[T, B] bool, true on valid steps."""


class Keep(NamedTuple):
    """Dropout factors on embedded inputs [T, B, E] and on features [T, B, F]."""

    inputs: tf.Tensor
    features: tf.Tensor


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
