"""Products of the loop, and what its gradient keeps."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tests.layers.harness import assert_close, normal
from zforcing_tf import loop_gradient
from zforcing_tf.products import Product, linear
from zforcing_tf.unroll import unroll


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3), (2, 5, 4, 3), (0, 4, 3)])
def test_linear_is_matmul(shape):
    x, kernel = normal(*shape), normal(3, 2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, kernel])
        ours, theirs = linear(x, kernel), tf.matmul(x, kernel)
    assert_close(ours, theirs)
    upstream = normal(*shape[:-1], 2, seed=1)
    both = [tape.gradient(v, [x, kernel], output_gradients=upstream) for v in (ours, theirs)]
    assert_close(*both)


def test_linear_is_one_product():
    """Its gradient multiplies matrices, not a matrix for each step."""

    @tf.function(autograph=False)
    def gradient(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            y = tf.reduce_sum(linear(x, kernel))
        return tape.gradient(y, kernel)

    graph = gradient.get_concrete_function(normal(5, 4, 3), normal(3, 2)).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds and not any(kind.startswith("BatchMatMul") for kind in kinds)


def test_kernels_that_meet_one_vector():
    x, first, second, bias = normal(3, 4), normal(3, 2), normal(3, 5, seed=1), normal(2)
    results = Product(first, second, bias=bias)(x)
    assert_close(results[0], tf.matmul(first, x, transpose_a=True) + bias[:, None])
    assert_close(results[1], tf.matmul(second, x, transpose_a=True))


def test_a_tensor_with_several_names_is_kept_once(monkeypatch):
    """State, output and operand alike: values and gradients are those of the plain loop."""
    stacked = []
    loop = loop_gradient.loop

    def counted(step, state, inputs, dtypes, reverse):
        stacked.append(len(tf.nest.flatten(dtypes)))
        return loop(step, state, inputs, dtypes, reverse)

    monkeypatch.setattr(loop_gradient, "loop", counted)

    def step(product, state, x):
        (h,) = state
        z = 2.0 * x
        new = tf.tanh(product["h"](h) + product["z"](z) + x)
        return (new,), (h, new, z, z)  # the state before, the state after, one tensor twice

    kernels = [normal(3, 3, seed=i, dtype="float64") for i in range(2)]
    state, x = normal(3, 2, dtype="float64"), normal(4, 3, 2, dtype="float64")

    def run(training, reverse):
        sources = [*kernels, state, x]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            products = {"h": Product(kernels[0]), "z": Product(kernels[1], keep=[True])}
            last, outputs = unroll(
                step,
                products,
                (state,),
                x,
                (tf.float64,) * 4,
                reverse=reverse,
                training=training,
            )
            everything = [*outputs, *last]
            cost = sum(tf.reduce_sum((i + 1.0) * tf.sin(v)) for i, v in enumerate(everything))
        return everything, tape.gradient(cost, sources)

    for reverse in (False, True):
        assert_close(run(True, reverse), run(False, reverse), 1e-12)
    forward, backward = stacked[:2]
    # z; the state before each step; both products' results.
    assert forward == 1 + 1 + 2
    # The gradient of x, and one tensor that is that of both products; what these were applied to is
    # the state before the step, and z.
    assert backward == 2
