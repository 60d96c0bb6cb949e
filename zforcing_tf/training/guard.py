"""What the training step tells of itself: which updates were skipped and why, and when to stop.

All replicas agree on it, as they sum what each of them saw with the gradients. It is no part of the
model: neither checkpoints nor exports hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

TERMS = {
    "elbo": "the bound",
    "kl": "the KL",
    "auxiliary": "the auxiliary cost",
    "backward": "the backward network's own likelihood",
    "loss": "the loss",
}
GRADIENT = "a gradient, where all terms were finite"


class Skipped(NamedTuple):
    """What is known of updates that were skipped.

    Attributes:
        in_a_row: up to now.
        total: in this process.
        step: training step of the last one, counted from 1; 0: there was none.
        terms: what was not finite then, in words.
    """

    in_a_row: int
    total: int
    step: int
    terms: list[str]


class Guard:
    """Kept by the training step, read between steps."""

    def __init__(self) -> None:
        with tf.device("CPU:0"):
            self._request = tf.Variable(0.0, trainable=False)
            self._agreed = tf.Variable(0.0, trainable=False)
            self._counts = tf.Variable([0, 0, 0], dtype=tf.int64, trainable=False)
            self._terms = tf.Variable([0.0] * len(TERMS), trainable=False)

    def seen(self, sums: Mapping[str, tf.Tensor], dtype: tf.DType) -> tf.Tensor:
        """What this replica has to tell of a step, a vector of which replicas take the sum."""
        none = tf.zeros([])
        flags = [
            tf.cast(tf.logical_not(tf.math.is_finite(sums[name])), tf.float32)
            if name in sums
            else none
            for name in TERMS
        ]
        return tf.cast(tf.stack([self._request.read_value(), *flags]), dtype)

    def all_finite(self, seen: tf.Tensor) -> tf.Tensor:
        """Whether all terms were finite on all replicas, scalar bool; of the sum of the above."""
        return tf.reduce_all(seen[1:] == 0)

    def note(self, seen: tf.Tensor, finite: tf.Tensor, step: tf.Tensor) -> None:
        """Takes what all replicas have seen of a step, the same on each of them.

        Args:
            seen: sum of the above.
            finite: scalar bool: whether the update was made.
            step: training step, counted from 1.
        """
        with tf.device("CPU:0"):
            seen = tf.cast(seen, tf.float32)
            in_a_row, total, last = tf.unstack(self._counts.read_value())
            skipped = tf.cast(tf.logical_not(finite), tf.int64)
            self._counts.assign(
                tf.stack(
                    [
                        (in_a_row + 1) * skipped,
                        total + skipped,
                        tf.where(finite, last, tf.cast(step, tf.int64)),
                    ]
                )
            )
            self._terms.assign(tf.where(finite, self._terms.read_value(), seen[1:]))
            self._agreed.assign(seen[0])

    def request_stop(self) -> None:
        """Asks all replicas to stop after the next step."""
        self._request.assign(1.0)

    @property
    def stop_agreed(self) -> bool:
        """Whether the last step's replicas know that one of them wants to stop."""
        return bool(self._agreed.numpy() > 0)

    def skipped(self) -> Skipped:
        """Of the updates so far."""
        in_a_row, total, step = (int(n) for n in self._counts.numpy())
        if not step:
            return Skipped(0, 0, 0, [])
        words = [w for w, bad in zip(TERMS.values(), self._terms.numpy(), strict=True) if bad > 0]
        # The loss is a sum of the others, and says something only where they say nothing.
        words = [w for w in words if w != TERMS["loss"]] or words
        return Skipped(in_a_row, total, step, words or [GRADIENT])
