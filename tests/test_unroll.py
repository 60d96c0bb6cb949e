"""The time loop, with either gradient, against a plain Python loop: values and gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf.products import Product
from zforcing_tf.unroll import unroll

B, X, S = 3, 2, 4


class State(NamedTuple):
    first: tf.Tensor
    second: tuple[tf.Tensor, ...]


class Outputs(NamedTuple):
    value: tf.Tensor
    count: tf.Tensor


DTYPES = Outputs(tf.float32, tf.int32)


def products(weights: Any) -> Any:
    matrices, bias = weights
    return {
        "recurrent": Product(matrices["recurrent"], bias=bias),
        "input": Product(matrices["input"]),
    }


def step(weights: Any, state: State, now: Any) -> tuple[State, Outputs]:
    """Uses every weight, every state and every input, none of them alike. Feature-major."""
    x, n = now
    first = tf.tanh(weights["recurrent"](state.first) + weights["input"](x))
    second = 0.5 * state.second[0] + first[:2] * x
    value = first * tf.cast(n, tf.float32) + tf.reduce_sum(second, axis=0, keepdims=True)
    return State(first, (second,)), Outputs(value, n + 1)


def problem(num_steps: int, batch_size: int = B) -> tuple[Any, State, Any]:
    generator = np.random.default_rng(num_steps)

    def normal(*shape: int) -> tf.Tensor:
        return tf.constant(generator.standard_normal(shape), tf.float32)

    weights = ({"recurrent": normal(S, S), "input": normal(X, S)}, normal(S))
    state = State(normal(S, batch_size), (normal(2, batch_size),))
    counts = tf.constant(generator.integers(0, 5, (num_steps, 1, batch_size)), tf.int32)
    return weights, state, (normal(num_steps, X, batch_size), counts)


def plain(weights: Any, state: State, inputs: Any, reverse: bool) -> tuple[State, Outputs]:
    weights = products(weights)
    x, n = inputs
    outputs: dict[int, Outputs] = {}
    for t in sorted(range(x.shape[0]), reverse=reverse):
        state, outputs[t] = step(weights, state, (x[t], n[t]))
    stacked = (tf.stack(v) for v in zip(*(outputs[t] for t in range(x.shape[0])), strict=True))
    return state, Outputs(*stacked)


def looped(weights: Any, state: State, inputs: Any, reverse: bool) -> tuple[State, Outputs]:
    return unroll(step, products(weights), state, inputs, DTYPES, reverse=reverse)


def trained(weights: Any, state: State, inputs: Any, reverse: bool) -> tuple[State, Outputs]:
    return unroll(step, products(weights), state, inputs, DTYPES, reverse=reverse, training=True)


LOOPS = pytest.mark.parametrize("loop", [looped, trained])
BOTH_WAYS = pytest.mark.parametrize("reverse", [False, True])


def values_and_gradients(loop: Any, weights: Any, state: State, inputs: Any, reverse: bool) -> Any:
    """All that comes out, and the gradients of a cost that no output is left out of."""
    sources = tf.nest.flatten((weights, state, inputs[0]))
    with tf.GradientTape() as tape:
        tape.watch(sources)
        last, outputs = loop(weights, state, inputs, reverse)
        scale = tf.range(1.0, 1.0 + tf.cast(tf.shape(outputs.value)[0], tf.float32))
        cost = tf.reduce_sum(scale[:, None, None] * tf.square(outputs.value))
        cost += sum(tf.reduce_sum(tf.sin(v)) for v in tf.nest.flatten(last))
    return (last, outputs), tape.gradient(cost, sources)


def assert_close(ours: Any, expected: Any, tolerance: float = 1e-5) -> None:
    tf.nest.assert_same_structure(ours, expected)
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
        assert a.dtype == b.dtype
        limit = tolerance * max(1.0, float(tf.reduce_max(tf.abs(tf.cast(b, tf.float32)))))
        np.testing.assert_allclose(a, b, atol=limit, rtol=0)


@LOOPS
@BOTH_WAYS
@pytest.mark.parametrize("num_steps", [1, 2, 6])
def test_is_a_python_loop(loop, num_steps, reverse):
    case = problem(num_steps)
    expected = values_and_gradients(plain, *case, reverse)
    assert_close(values_and_gradients(loop, *case, reverse), expected)


@LOOPS
@BOTH_WAYS
def test_steps_and_rows_known_at_run_time_only(loop, reverse):
    """One graph, several T and B."""
    weights, state, inputs = problem(3)
    state_specs = tf.nest.map_structure(lambda v: tf.TensorSpec([v.shape[0], None], v.dtype), state)
    input_specs = tf.nest.map_structure(
        lambda v: tf.TensorSpec([None, v.shape[1], None], v.dtype), inputs
    )

    @tf.function(input_signature=[state_specs, input_specs], autograph=False)
    def graph(state: State, inputs: Any) -> Any:
        return values_and_gradients(loop, weights, state, inputs, reverse)

    for num_steps, batch_size in ((1, 1), (4, 3), (7, 2)):
        _, state, inputs = problem(num_steps, batch_size)
        expected = values_and_gradients(plain, weights, state, inputs, reverse)
        assert_close(graph(state, inputs), expected)
    assert graph.experimental_get_tracing_count() == 1


@LOOPS
@BOTH_WAYS
def test_xla(loop, reverse):
    case = problem(6)
    expected = values_and_gradients(plain, *case, reverse)
    compiled = tf.function(
        lambda *case: values_and_gradients(loop, *case, reverse),
        autograph=False,
        jit_compile=True,
    )
    assert_close(compiled(*case), expected, 1e-4)


@LOOPS
@pytest.mark.parametrize("way", ["eager", "graph"])
def test_no_rows(loop, way):
    """A replica without a share of the batch runs the loop too, and contributes zeros."""
    case = problem(4, batch_size=0)
    run = values_and_gradients
    run = run if way == "eager" else tf.function(run, autograph=False)
    (last, outputs), gradients = run(loop, *case, False)
    assert outputs.value.shape == (4, S, 0) and last.first.shape == (S, 0)
    for gradient, source in zip(gradients[:3], tf.nest.flatten(case[0]), strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(source.shape))


def test_state_without_tensors():
    """A cell may keep no state at all."""

    def stateless(weights: Product, state: tuple[()], x: tf.Tensor) -> Any:
        return state, weights(x)

    x = tf.reshape(tf.range(6.0), (3, 1, 2))
    state, outputs = unroll(stateless, Product(tf.constant([[2.0]])), (), x, tf.float32)
    assert state == ()
    np.testing.assert_array_equal(outputs, 2 * x)
