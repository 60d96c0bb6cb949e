"""What a time loop computes with weights, kept apart for the sake of its gradient.

Inside a loop everything is *feature-major*, [features, batch]: with a batch of tens and thousands
of features, a product `kernel^T [N, K] x [K, B]` runs up to twice as fast on CPUs as `x [B, K]
kernel` (`benchmarks/products.py`).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
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


class Operation(abc.ABC):
    """An operation of a step whose gradient is known: the loop need not differentiate it.

    `loop_gradient` runs it forward once, keeps what its gradient needs, and gives that back in the
    backward loop in place of computing it again.
    """

    num_kept = 0
    """How many tensors [., B] of each step `record` keeps."""

    @property
    def tensors(self) -> list[tf.Tensor]:
        """Weights, which all steps share."""
        return []

    @abc.abstractmethod
    def __call__(self, *inputs: tf.Tensor) -> Any:
        """The result, from feature-major inputs [., B]."""

    @abc.abstractmethod
    def record(self, *inputs: tf.Tensor) -> tuple[Any, Sequence[tf.Tensor]]:
        """The result, and what is kept of it."""


class Product(Operation):
    """`x -> kernel^T x + bias` on feature-major x, with weights that all steps of a loop share.

    Steps meet their weights through products only. So the loop's gradient knows each of them, and
    can add up the gradient of a kernel after the backward loop, in one product over all steps,
    instead of T small ones.

    Args:
        kernel: [K, N].
        bias: [N], or None.
        keep: the first so many numbers of the result are kept for the gradient of what follows, all
            by default; none of what goes into an `Operation` alone, which keeps what it needs.
    """

    def __init__(
        self, kernel: tf.Tensor, bias: tf.Tensor | None = None, keep: int | None = None
    ) -> None:
        self.kernel = kernel
        self.bias = bias
        self.keep = kernel.shape[1] if keep is None else keep
        self.num_kept = int(self.keep > 0)
        self._transposed = tf.transpose(kernel)  # here, once, rather than at each step

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        """[N, B] from [K, B]."""
        y = tf.matmul(self._transposed, *inputs)
        return y if self.bias is None else y + self.bias[:, tf.newaxis]

    @property
    def tensors(self) -> list[tf.Tensor]:
        """Kernel and, if any, bias."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def with_tensors(self, tensors: Sequence[tf.Tensor]) -> Product:
        """The same product of other weights."""
        kernel, *bias = tensors
        return Product(kernel, *bias, keep=self.keep)

    def record(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """The result [N, B] and its first numbers [keep, B]."""
        y = self(*inputs)
        return y, [y[: self.keep]] if self.num_kept else []

    def result(self, kept: Sequence[tf.Tensor], like: tf.Tensor) -> tf.Tensor:
        """The result [N, B], zero where it was not kept; its batch is that of `like`."""
        left = self.kernel.shape[1] - self.keep
        if not left:
            return tf.identity(kept[0])
        if kept:
            return tf.pad(kept[0], [[0, left], [0, 0]])
        return tf.zeros((left, tf.shape(like)[-1]), self.kernel.dtype)

    def replay(self, x: tf.Tensor, result: tf.Tensor) -> tf.Tensor:
        """`result` as if it were computed from x: gradients reach both."""

        @tf.custom_gradient
        def replay(x: tf.Tensor, result: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return tf.matmul(self.kernel, upstream), upstream

            return tf.identity(result), gradient

        return replay(x, result)

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


class Pointwise(Operation):
    """An operation without weights, whose gradient follows from what it kept and its inputs."""

    @abc.abstractmethod
    def gradient(
        self,
        inputs: Sequence[tf.Tensor],
        kept: Sequence[tf.Tensor],
        upstream: Sequence[tf.Tensor],
    ) -> Sequence[tf.Tensor]:
        """Gradients of the inputs; whichever of these it does not use is not known any more."""

    def __call__(self, *inputs: tf.Tensor) -> Any:
        """The result, from feature-major inputs [., B]."""
        return self.record(*inputs)[0]

    def replay(self, inputs: Sequence[tf.Tensor], kept: Sequence[tf.Tensor]) -> Any:
        """The result as the first time, with its gradient made from what was kept."""

        @tf.custom_gradient
        def replay(*inputs: tf.Tensor) -> Any:
            outputs = self.again(inputs, kept)

            def gradient(*upstream: tf.Tensor) -> Any:
                return self.gradient(inputs, kept, upstream)

            return outputs, gradient

        return replay(*inputs)

    @abc.abstractmethod
    def again(self, inputs: Sequence[tf.Tensor], kept: Sequence[tf.Tensor]) -> Any:
        """The result, from what was kept."""
