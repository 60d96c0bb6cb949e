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


def flipped(structure: Any) -> Any:
    """A structure of tensors from batch-major [..., B, K] to feature-major [..., K, B], or back."""
    return tf.nest.map_structure(tf.linalg.matrix_transpose, structure)


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
        kernels: [K, N] each; those that meet the same x are multiplied as one.
        bias: [N], of the first kernel, or None.
        keep: for each kernel, whether the gradient of what follows needs the result: not where it
            goes into a `Pointwise` alone, which keeps what it needs. By default all are kept.
    """

    def __init__(
        self,
        *kernels: tf.Tensor,
        bias: tf.Tensor | None = None,
        keep: Sequence[bool] | None = None,
    ) -> None:
        self.kernels = kernels
        self.bias = bias
        self.keep = [True] * len(kernels) if keep is None else list(keep)
        self.num_kept = sum(self.keep)
        self.sizes = [kernel.shape[1] for kernel in kernels]
        self._merged = kernels[0] if len(kernels) == 1 else tf.concat(kernels, 1)
        self._transposed = tf.transpose(self._merged)  # here, once, rather than at each step

    def __call__(self, *inputs: tf.Tensor) -> Any:
        """[N, B] from [K, B]; of several kernels, a list of these."""
        results = self._results(*inputs)
        return results if len(results) > 1 else results[0]

    def _results(self, x: tf.Tensor) -> list[tf.Tensor]:
        y = tf.matmul(self._transposed, x)
        results = [y] if len(self.kernels) == 1 else tf.split(y, self.sizes, axis=0)
        if self.bias is not None:
            results[0] += self.bias[:, tf.newaxis]
        return results

    @property
    def tensors(self) -> list[tf.Tensor]:
        """Kernels and, if any, the bias."""
        return [*self.kernels, *([] if self.bias is None else [self.bias])]

    def with_tensors(self, tensors: Sequence[tf.Tensor]) -> Product:
        """The same product of other weights."""
        count = len(self.kernels)
        bias = None if self.bias is None else tensors[count]
        return Product(*tensors[:count], bias=bias, keep=self.keep)

    def record(self, *inputs: tf.Tensor) -> tuple[Any, Sequence[tf.Tensor]]:
        """The result, and what is kept of it."""
        results = self._results(*inputs)
        kept = [result for result, keep in zip(results, self.keep, strict=True) if keep]
        return results if len(results) > 1 else results[0], kept

    def results(self, kept: Sequence[tf.Tensor], like: tf.Tensor) -> list[tf.Tensor]:
        """Results for `replay`, zero where they were not kept; their batch is that of `like`."""
        left = iter(kept)
        return [
            tf.identity(next(left))
            if keep
            else tf.zeros((size, tf.shape(like)[-1]), self._merged.dtype)
            for size, keep in zip(self.sizes, self.keep, strict=True)
        ]

    def replay(self, x: tf.Tensor, results: Sequence[tf.Tensor]) -> Any:
        """`results` as if they were computed from x: gradients reach both."""

        @tf.custom_gradient
        def replay(x: tf.Tensor, *results: tf.Tensor) -> Any:
            def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                whole = upstream[0] if len(upstream) == 1 else tf.concat(upstream, 0)
                return tf.matmul(self._merged, whole), *upstream

            return [tf.identity(result) for result in results], gradient

        found = replay(x, *results)
        return found if len(found) > 1 else found[0]

    def gradients(self, x: tf.Tensor, upstream: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients of `tensors` over all steps.

        Args:
            x: what the product was applied to, [T, K, B].
            upstream: gradients of what each kernel gave, [T, N, B].
        """
        # Neither is transposed in the product: XLA then loses a fifth of its speed. Gradients of
        # results are flipped anyway where they are those of inputs too.
        columns, rows = _columns(x), [_rows(d) for d in upstream]
        gradients = [tf.matmul(columns, d) for d in rows]
        gradients += [] if self.bias is None else [tf.reduce_sum(rows[0], 0)]
        return [tf.ensure_shape(g, t.shape) for g, t in zip(gradients, self.tensors, strict=True)]


def _columns(x: tf.Tensor) -> tf.Tensor:
    """[T, K, B] as [K, T B]."""
    shape = tf.shape(x)
    return tf.reshape(tf.transpose(x, (1, 0, 2)), (shape[1], shape[0] * shape[2]))


def _rows(x: tf.Tensor) -> tf.Tensor:
    """[T, K, B] as [T B, K]."""
    shape = tf.shape(x)
    return tf.reshape(flipped(x), (shape[0] * shape[2], shape[1]))


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
