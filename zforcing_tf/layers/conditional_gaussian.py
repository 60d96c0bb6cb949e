"""A diagonal Gaussian with parameters from a small network: prior, posterior, auxiliary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer

LIMIT = 8.0
"""Means and log variances are limited to [-8, 8], as in the released code; no gradient outside."""


def loc_and_scale(parameters: tf.Tensor, axis: int = -1) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits parameters along an axis into loc and scale: clipped mean, clipped log variance."""
    loc, log_variance = tf.split(tf.clip_by_value(parameters, -LIMIT, LIMIT), 2, axis=axis)
    return loc, tf.exp(0.5 * log_variance)


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class ConditionalGaussian(WeightedLayer):
    """`N(loc, scale)` with `(loc, 2 log scale) = clip(MLP(inputs), -8, 8)`.

    The time loop takes the network apart (`mlp.share`, `mlp.head`); `call` is the same at once.

    Args:
        input_sizes: width of each input.
        hidden_size: M, width of the hidden layer.
        size: Z, width of the Gaussian.
        initializer: of both matrices.
    """

    def __init__(
        self,
        input_sizes: Sequence[int],
        hidden_size: int,
        size: int,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.mlp = MLP(input_sizes, hidden_size, 2 * size, initializer, dtype=self.dtype_policy)

    def call(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """loc and scale, `[..., Z]` each, from inputs `[..., input_sizes[i]]`."""
        return loc_and_scale(self.mlp(*inputs))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        mlp = self.mlp.get_config()
        return {
            **super().get_config(),
            "input_sizes": mlp["input_sizes"],
            "hidden_size": mlp["hidden_size"],
            "size": self.size,
            "initializer": mlp["initializer"],
        }
