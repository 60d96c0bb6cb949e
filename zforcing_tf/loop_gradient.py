"""The gradient of the time loop by hand: large products after the loop, not small ones in it.

Differentiated automatically, a loop adds up the gradient of each kernel step by step: T thin
products, and T additions over whole matrices. Here the forward loop keeps states and what its
operations ask it to keep; the backward loop computes none of these again, and yields for each
product what it was applied to and the gradient of what it gave. The gradient of a kernel is then
one product over [T B, .].

It holds for every step that meets its weights through `Product`s, each called once. What stands
between the operations is differentiated as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from zforcing_tf.products import Operation, Pointwise, Product
from zforcing_tf.unroll import Step, Structure, loop

Tensors = list[tf.Tensor]


def unroll_with_gradient(
    step: Step,
    weights: Structure,
    state: Structure,
    inputs: Structure,
    output_dtypes: Structure,
    *,
    reverse: bool = False,
) -> tuple[Structure, Structure]:
    """As `unroll.unroll`, with equal results and equal gradients. Has no second derivative."""
    operations = [w for w in tf.nest.flatten(weights) if isinstance(w, Operation)]
    tensors = [tensor for operation in operations for tensor in operation.tensors]
    flat_state, flat_inputs = tf.nest.flatten(state), tf.nest.flatten(inputs)
    differentiable = [x.dtype.is_floating for x in flat_inputs]
    dtype = flat_state[0].dtype

    @tf.custom_gradient
    def run(*arguments: tf.Tensor) -> Any:
        left = iter(arguments[: len(tensors)])
        own = [
            op.with_tensors([next(left) for _ in op.tensors]) if isinstance(op, Product) else op
            for op in operations
        ]
        state_and_inputs = list(arguments[len(tensors) :])
        first_state, all_inputs = (
            state_and_inputs[: len(flat_state)],
            state_and_inputs[len(flat_state) :],
        )

        def forward(now: Tensors, given: Tensors) -> tuple[Tensors, Any]:
            kept: list[Tensors] = [[] for _ in own]
            recorders = [_recorder(op, place) for op, place in zip(own, kept, strict=True)]
            after, outputs = step(
                _replaced(weights, recorders), *_packed(state, now, inputs, given)
            )
            return tf.nest.flatten(after), (tf.nest.flatten(outputs), now, kept)

        dtypes = (
            tf.nest.flatten(output_dtypes),
            [x.dtype for x in flat_state],
            [[dtype] * op.num_kept for op in own],
        )
        last_state, (outputs, states, kept) = loop(
            forward, first_state, all_inputs, dtypes, reverse
        )

        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
            products = [op for op in own if isinstance(op, Product)]

            def backward(d_state: Tensors, now: Any) -> tuple[Tensors, Any]:
                state_t, inputs_t, kept_t, d_outputs = now
                varied = [x for x, keep in zip(inputs_t, differentiable, strict=True) if keep]
                results = [
                    op.result(k, state_t[0]) if isinstance(op, Product) else None
                    for op, k in zip(own, kept_t, strict=True)
                ]
                applied: Tensors = []
                watched = [state_t, varied, [r for r in results if r is not None]]
                with tf.GradientTape() as tape:
                    tape.watch(watched)
                    replays = [
                        _replay(op, k, result, applied)
                        for op, k, result in zip(own, kept_t, results, strict=True)
                    ]
                    after, outputs = step(
                        _replaced(weights, replays), *_packed(state, state_t, inputs, inputs_t)
                    )
                d_state, d_inputs, d_results = tape.gradient(
                    tf.nest.flatten(after) + tf.nest.flatten(outputs),
                    watched,
                    output_gradients=list(d_state) + list(d_outputs),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                inputs_of = {id(op): x for op, x in applied}
                return d_state, (d_inputs, d_results, [inputs_of[id(op)] for op in products])

            dtypes = (
                [x.dtype for x, keep in zip(flat_inputs, differentiable, strict=True) if keep],
                [dtype] * len(products),
                [dtype] * len(products),
            )
            given = (states, all_inputs, kept, list(upstream[len(flat_state) :]))
            d_state = list(upstream[: len(flat_state)])
            d_state, (d_inputs, d_results, applied) = loop(
                backward, d_state, given, dtypes, not reverse
            )
            d_tensors = [
                d
                for product, x, d_result in zip(products, applied, d_results, strict=True)
                for d in product.gradients(x, d_result)
            ]
            left = iter(d_inputs)
            all_d_inputs = [next(left) if keep else None for keep in differentiable]
            return [*d_tensors, *d_state, *all_d_inputs]

        return [*last_state, *outputs], gradient

    results = run(*tensors, *flat_state, *flat_inputs)
    last_state, outputs = results[: len(flat_state)], results[len(flat_state) :]
    return (
        tf.nest.pack_sequence_as(state, last_state),
        tf.nest.pack_sequence_as(output_dtypes, outputs),
    )


def _recorder(operation: Operation, kept: Tensors) -> Callable[..., Any]:
    """The operation, which puts what is to be kept into `kept`."""

    def record(*inputs: tf.Tensor) -> Any:
        result, keep = operation.record(*inputs)
        kept.extend(keep)
        return result

    return record


def _replay(
    operation: Operation,
    kept: Sequence[tf.Tensor],
    result: tf.Tensor | None,
    applied: list[Any],
) -> Callable[..., Any]:
    """The operation in the backward loop; a product tells `applied` what it is applied to."""

    def replay(*inputs: tf.Tensor) -> Any:
        if isinstance(operation, Product):
            applied.append((operation, inputs[0]))
            return operation.replay(inputs[0], result)
        assert isinstance(operation, Pointwise)
        return operation.replay(inputs, kept)

    return replay


def _replaced(weights: Structure, by: Sequence[Any]) -> Structure:
    """The structure with `by` in place of its operations, in order."""
    left = iter(by)
    return tf.nest.map_structure(lambda w: next(left) if isinstance(w, Operation) else w, weights)


def _packed(state: Structure, flat_state: Any, inputs: Structure, flat_inputs: Any) -> Any:
    return (
        tf.nest.pack_sequence_as(state, list(flat_state)),
        tf.nest.pack_sequence_as(inputs, list(flat_inputs)),
    )
