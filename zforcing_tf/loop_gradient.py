"""The gradient of the time loop by hand: large products after the loop, not small ones in it.

Differentiated automatically, a loop adds up the gradient of each kernel step by step: T thin
products, and T additions over whole matrices. Here the forward loop keeps states and the results of
its products; the backward loop recomputes only what is point-wise between them, and yields for each
product what it was applied to and the gradient of what it gave. The gradient of a kernel is then
one product over [T B, .].

It holds for every step that meets its weights through `Product`s, each called once.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from zforcing_tf.products import Product, Recorder, Replay
from zforcing_tf.unroll import Step, Structure, loop


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
    products = [w for w in tf.nest.flatten(weights) if isinstance(w, Product)]
    tensors = [tensor for product in products for tensor in product.tensors]
    flat_state, flat_inputs = tf.nest.flatten(state), tf.nest.flatten(inputs)
    differentiable = [x.dtype.is_floating for x in flat_inputs]
    dtype = flat_state[0].dtype

    @tf.custom_gradient
    def run(*arguments: tf.Tensor) -> Any:
        state_and_inputs = arguments[len(tensors) :]
        first_state = list(state_and_inputs[: len(flat_state)])
        all_inputs = list(state_and_inputs[len(flat_state) :])
        own = _with_tensors(weights, arguments[: len(tensors)])

        def forward(now: list[Any], given: Any) -> tuple[list[Any], Any]:
            record: list[tf.Tensor | None] = [None] * len(products)
            recorders = _replaced(own, lambda product, i: Recorder(product, record, i))
            after, outputs = step(recorders, *_packed(state, now, inputs, given))
            return tf.nest.flatten(after), (tf.nest.flatten(outputs), now, record)

        dtypes = (
            tf.nest.flatten(output_dtypes),
            [x.dtype for x in flat_state],
            [dtype] * len(products),
        )
        last_state, (outputs, states, results) = loop(
            forward, first_state, all_inputs, dtypes, reverse
        )

        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
            kernels = [w.kernel for w in tf.nest.flatten(own) if isinstance(w, Product)]

            def backward(d_state: list[Any], now: Any) -> tuple[list[Any], Any]:
                state_t, inputs_t, results_t, d_outputs = now
                varied = [x for x, keep in zip(inputs_t, differentiable, strict=True) if keep]
                applied: list[tf.Tensor | None] = [None] * len(products)
                with tf.GradientTape() as tape:
                    tape.watch([state_t, varied, results_t])
                    replays = _replaced(
                        own, lambda _, i: Replay(kernels[i], results_t[i], applied, i)
                    )
                    after, outputs = step(replays, *_packed(state, state_t, inputs, inputs_t))
                d_state, d_inputs, d_results = tape.gradient(
                    tf.nest.flatten(after) + tf.nest.flatten(outputs),
                    [state_t, varied, results_t],
                    output_gradients=list(d_state) + list(d_outputs),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                return d_state, (d_inputs, d_results, applied)

            dtypes = (
                [x.dtype for x, keep in zip(flat_inputs, differentiable, strict=True) if keep],
                [dtype] * len(products),
                [dtype] * len(products),
            )
            given = (states, all_inputs, results, list(upstream[len(flat_state) :]))
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


def _replaced(weights: Structure, make: Any) -> Structure:
    """The structure with `make(product, index)` for each of its products."""
    count = iter(range(len(tf.nest.flatten(weights))))
    return tf.nest.map_structure(
        lambda w: make(w, next(count)) if isinstance(w, Product) else w, weights
    )


def _with_tensors(weights: Structure, tensors: Any) -> Structure:
    left = iter(tensors)
    return _replaced(weights, lambda product, _: Product(*(next(left) for _ in product.tensors)))


def _packed(state: Structure, flat_state: Any, inputs: Structure, flat_inputs: Any) -> Any:
    return (
        tf.nest.pack_sequence_as(state, list(flat_state)),
        tf.nest.pack_sequence_as(inputs, list(flat_inputs)),
    )
