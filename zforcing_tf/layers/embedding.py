"""The embedding e(x) of a frame or symbol, and its products with the matrices that follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product, flipped, linear

START_SYMBOL = -1
"""Stands before the first symbol of a sequence; its embedding is zero."""


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Embedding(WeightedLayer):
    """`e(x) = x W + b` for frames, a row of the table W for symbols.

    Args:
        input_size: D, width of a frame, or number of symbols.
        size: E, width of the embedding.
        symbols: whether x holds symbols, int32, rather than frames.
        initializer: of W.
    """

    def __init__(
        self,
        input_size: int,
        size: int,
        symbols: bool = False,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_size = input_size
        self.size = size
        self.symbols = symbols
        self.initializer = keras.initializers.get(initializer)
        self.table = self.kernel("table", (input_size, size), self.initializer)
        self.bias = None if symbols else self.vector("bias", size)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[..., E]` from frames `[..., D]` or symbols `[...]` int32."""
        if self.bias is None:
            rows = tf.gather(self.read(self.table), tf.maximum(x, 0))
            return tf.where((x != START_SYMBOL)[..., tf.newaxis], rows, tf.zeros_like(rows))
        x = tf.cast(x, self.compute_dtype)
        return linear(x, self.read(self.table)) + self.read(self.bias)

    def project(
        self,
        x: tf.Tensor,
        kernel: tf.Tensor,
        bias: tf.Tensor | float,
        keep: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """`e(x) kernel + bias`, `[..., G]`, by the cheaper order of products.

        Frames narrower than the embedding meet the small product `W kernel` `[D, G]` instead of two
        large ones; the bound on D leaves out tables of symbols.

        Args:
            x: frames `[..., D]` or symbols `[...]`.
            kernel: `[E, G]`.
            bias: `[G]`.
            keep: dropout factors `[..., E]` on e(x), or None.
        """
        if self.bias is not None and keep is None and self.input_size <= self.size:
            table, own_bias = self._merged(kernel)
            return linear(tf.cast(x, self.compute_dtype), table) + (own_bias + bias)
        embedded = self(x)
        return linear(embedded if keep is None else embedded * keep, kernel) + bias

    def projector(
        self, kernel: tf.Tensor, bias: tf.Tensor | None = None
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """`project` for a loop over x: its matrices are made now, and it gives [G, B] from [B, .].

        A table of few symbols is merged with the kernel too, since a loop meets it many times.
        """
        merges = self.input_size <= self.size
        if not merges:
            product = Product(kernel, bias=bias)
            return lambda x: product(flipped(self(x)))
        table, own_bias = self._merged(kernel)
        bias = own_bias if bias is None else own_bias + bias
        if not self.symbols:
            product = Product(table, bias=bias)
            return lambda x: product(flipped(tf.cast(x, self.compute_dtype)))
        # A row of zeros stands before those of the symbols, for what stands before the first one.
        rows = tf.pad(table, [[1, 0], [0, 0]]) + bias
        return lambda x: flipped(tf.gather(rows, x - START_SYMBOL))

    def _merged(self, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`W kernel` [D, G], and the bias of e met by the kernel [G], 0 for symbols."""
        table = self.read(self.table)
        if self.bias is None:
            return tf.matmul(table, kernel), tf.zeros(kernel.shape[1:], kernel.dtype)
        merged = tf.matmul(tf.concat([table, self.read(self.bias)[tf.newaxis]], 0), kernel)
        return merged[:-1], merged[-1]

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "input_size": self.input_size,
            "size": self.size,
            "symbols": self.symbols,
            "initializer": keras.initializers.serialize(self.initializer),
        }
