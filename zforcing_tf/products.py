"""The matrix products of a time loop, kept apart for the sake of its gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Product:
    """`x -> x kernel + bias`, with weights that all steps of a loop share.

    Steps meet their weights through products only. So the loop's gradient knows each of them, and
    can add up the gradient of a kernel after the backward loop, in one product over all steps,
    instead of T small ones.

    Args:
        kernel: [K, N].
        bias: [N], or None.
    """

    def __init__(self, kernel: tf.Tensor, bias: tf.Tensor | None = None) -> None:
        self.kernel = kernel
        self.bias = bias

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[..., N] from [..., K]."""
        y = tf.matmul(x, self.kernel)
        return y if self.bias is None else y + self.bias

    @property
    def tensors(self) -> list[tf.Tensor]:
        """Kernel and, if any, bias."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]


class Recorder:
    """A product that keeps what it gave.

    Args:
        product: does the work.
        results: where its result is put.
        index: at which place.
    """

    def __init__(self, product: Product, results: list[tf.Tensor | None], index: int) -> None:
        self._product = product
        self._results = results
        self._index = index

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """As `Product`."""
        y = self._product(x)
        self._results[self._index] = y
        return y


class Replay:
    """A product that was computed before: it gives the result back, and passes gradients through.

    Args:
        transposed: the kernel, [N, K].
        result: what the product gave, [B, N]; its gradient is that of the product's output.
        inputs: where what the product is applied to is put.
        index: at which place.
    """

    def __init__(
        self,
        transposed: tf.Tensor,
        result: tf.Tensor,
        inputs: list[tf.Tensor | None],
        index: int,
    ) -> None:
        self._transposed = transposed
        self._result = result
        self._inputs = inputs
        self._index = index

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The result of before; x is what the product is applied to."""
        self._inputs[self._index] = x
        transposed = self._transposed

        @tf.custom_gradient
        def replay(x: tf.Tensor, result: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return tf.matmul(upstream, transposed), upstream

            return tf.identity(result), gradient

        return replay(x, self._result)
