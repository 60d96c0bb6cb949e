"""What is reported: ratios of two sums, so that batches and replicas do not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

ACTIVE_VARIANCE = 0.01
"""A latent unit is active if its posterior mean varies over data by more (Burda et al. 2016)."""


class ActiveUnits:
    """Counts latent units whose posterior mean depends on the data.

    The variance is over sequences at each step, averaged over steps with the number of valid
    sequences as weight: a unit that only follows the clock tells nothing of the data.
    """

    def __init__(self) -> None:
        self._moments: npt.NDArray[np.float64] | None = None

    def update(self, means: npt.NDArray[Any], lengths: npt.NDArray[np.int32]) -> None:
        """Adds a batch: posterior means [B, T, Z], and lengths [B]."""
        valid = (np.arange(means.shape[1]) < lengths[:, None])[..., None]
        values = np.where(valid, means, 0.0).astype(np.float64)
        ones = np.broadcast_to(valid, values.shape)
        added = np.stack([ones.sum(0, np.float64), values.sum(0), np.square(values).sum(0)])
        before = added[:, :0] if self._moments is None else self._moments
        total = np.zeros((3, max(before.shape[1], added.shape[1]), added.shape[2]))
        for part in (before, added):
            total[:, : part.shape[1]] += part
        self._moments = total

    def gather(
        self,
        add: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
        num_steps: int,
        size: int,
    ) -> None:
        """Takes what several counters saw of sequences of at most `num_steps`, added by `add`."""
        own = np.zeros((3, num_steps, size))
        if self._moments is not None:
            own[:, : self._moments.shape[1]] = self._moments
        self._moments = add(own)

    def variance(self) -> npt.NDArray[np.float64]:
        """[Z], after one update at least."""
        assert self._moments is not None
        count, first, second = self._moments
        # The mean over steps, with weights `count`, of second / count - (first / count)^2.
        return (second - np.square(first) / np.maximum(count, 1)).sum(0) / count.sum(0)

    def result(self) -> int:
        """The number of units."""
        return int(np.sum(self.variance() > ACTIVE_VARIANCE))


class Ratio(keras.metrics.Metric):
    """`sum of numerators / sum of denominators`; NaN if nothing was counted."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, dtype="float32", **kwargs)
        self.numerator = self.add_variable((), "zeros", name="numerator")
        self.denominator = self.add_variable((), "zeros", name="denominator")

    def update_state(self, numerator: tf.Tensor, denominator: tf.Tensor) -> None:
        """Adds to both sums; scalars."""
        self.numerator.assign_add(tf.cast(numerator, tf.float32))
        self.denominator.assign_add(tf.cast(denominator, tf.float32))

    def result(self) -> tf.Tensor:
        """The ratio, scalar float32."""
        return self.numerator.value / self.denominator.value


class Count(keras.metrics.Metric):
    """A sum that replicas agree on: each adds the same, once."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, dtype="float32", **kwargs)
        self.total = self.add_variable((), "zeros", aggregation="only_first_replica", name="total")

    def update_state(self, amount: tf.Tensor) -> None:
        """Adds a scalar."""
        self.total.assign_add(tf.cast(amount, tf.float32))

    def result(self) -> tf.Tensor:
        """The sum, scalar float32."""
        return tf.identity(self.total.value)


def bits_per_dim(elbo_total: float, num_steps: int, frame_size: int) -> float:
    """Minus the bound in bits, for each number of a frame.

    Args:
        elbo_total: nats, summed over sequences.
        num_steps: valid steps, summed over sequences.
        frame_size: D (1 for symbols).
    """
    return -elbo_total / (num_steps * frame_size) / 0.6931471805599453
