"""The matrix products of a time loop, kept apart for the sake of its gradient.

Inside a loop everything is *feature-major*, [features, batch]: with a batch of tens and thousands
of features, a product `kernel^T [N, K] x [K, B]` runs up to twice as fast on CPUs as `x [B, K]
kernel` (`benchmarks/products.py`).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def flipped(x: tf.Tensor) -> tf.Tensor:
    """Batch-major [..., B, K] to feature-major [..., K, B], or back."""
    return tf.linalg.matrix_transpose(x)


def linear(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`x kernel`, [..., N], of batch-major x [..., K] and one kernel [K, N], as a single product.

    `tf.matmul` would make the gradient of the kernel from [T, K, N], one product for each step.
    """
    if x.shape.rank == 2:
        return tf.matmul(x, kernel)
    shape = tf.shape(x)
    rows = tf.reshape(x, (tf.reduce_prod(shape[:-1]), kernel.shape[0]))
    y = tf.reshape(tf.matmul(rows, kernel), tf.concat([shape[:-1], [kernel.shape[1]]], 0))
    return tf.ensure_shape(y, [*x.shape[:-1], kernel.shape[1]])


class Product:
    """`x -> kernel^T x + bias` on feature-major x, with weights that all steps of a loop share.

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
        self._transposed = tf.transpose(kernel)  # here, once, rather than at each step

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[N, B] from [K, B]."""
        y = tf.matmul(self._transposed, x)
        return y if self.bias is None else y + self.bias[:, tf.newaxis]

    @property
    def tensors(self) -> list[tf.Tensor]:
        """Kernel and, if any, bias."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def gradients(self, x: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
        """Gradients of `tensors` over all steps.

        Args:
            x: what the product was applied to, [T, K, B].
            upstream: gradients of what it gave, [T, N, B].
        """
        columns = [
            tf.reshape(tf.transpose(v, (1, 0, 2)), (tf.shape(v)[1], -1)) for v in (x, upstream)
        ]
        gradients = [tf.matmul(*columns, transpose_b=True)]
        gradients += [] if self.bias is None else [tf.reduce_sum(columns[1], 1)]
        return [tf.ensure_shape(g, t.shape) for g, t in zip(gradients, self.tensors, strict=True)]


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
        kernel: of the product, [K, N].
        result: what it gave, [N, B]; its gradient is that of the product's output.
        inputs: where what the product is applied to is put.
        index: at which place.
    """

    def __init__(
        self,
        kernel: tf.Tensor,
        result: tf.Tensor,
        inputs: list[tf.Tensor | None],
        index: int,
    ) -> None:
        self._kernel = kernel
        self._result = result
        self._inputs = inputs
        self._index = index

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The result of before; x is what the product is applied to."""
        self._inputs[self._index] = x
        kernel = self._kernel

        @tf.custom_gradient
        def replay(x: tf.Tensor, result: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return tf.matmul(kernel, upstream), upstream

            return tf.identity(result), gradient

        return replay(x, self._result)
