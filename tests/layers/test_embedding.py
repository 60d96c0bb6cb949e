"""The embedding: both orders of its products are the same function."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.harness import (
    assert_close,
    assert_round_trip,
    gradients_of,
    normal,
    randomise,
)
from zforcing_tf.layers.embedding import START_SYMBOL, Embedding

D, E, G = 3, 4, 6


def make(input_size: int = D, symbols: bool = False, **own: str) -> Embedding:
    layer = Embedding(input_size, E, symbols, **own)
    randomise(layer)
    return layer


def inputs(input_size: int, symbols: bool) -> tf.Tensor:
    if symbols:
        return tf.constant([[START_SYMBOL, 0], [2, 1], [2, 2]])
    return normal(5, 2, input_size)


CASES = pytest.mark.parametrize(
    ("input_size", "symbols"),
    [(D, False), (E, False), (E + 3, False), (D, True), (E + 3, True)],
    ids=["narrow", "square", "wide", "symbols", "many symbols"],
)


@CASES
def test_project_is_the_product_of_the_embedding(input_size, symbols):
    """Values, and gradients of table, bias and kernel."""
    layer = make(input_size, symbols)
    x = inputs(input_size, symbols)
    kernel, bias = tf.Variable(normal(E, G, seed=1)), tf.Variable(normal(G, seed=2))
    variables = [*layer.trainable_variables, kernel, bias]

    def projected() -> tf.Tensor:
        return layer.project(x, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))

    def plain() -> tf.Tensor:
        return tf.matmul(layer(x), tf.convert_to_tensor(kernel)) + bias

    assert_close(projected(), plain())
    assert_close(gradients_of(projected, variables), gradients_of(plain, variables))


@CASES
def test_the_projector_of_a_loop_projects(input_size, symbols):
    """Many symbols, too, which are not merged; with a bias and without."""
    layer = make(input_size, symbols)
    x, kernel, bias = inputs(input_size, symbols)[:, 1], normal(E, G, seed=1), normal(G, seed=2)
    ours = layer.projector(kernel, bias)(x)
    assert_close(ours, tf.transpose(layer.project(x, kernel, bias)))
    assert_close(layer.projector(kernel)(x), tf.transpose(layer.project(x, kernel, 0.0)))
    if symbols:
        start = layer.projector(kernel, bias)(tf.fill([2], START_SYMBOL))
        assert_close(start, tf.repeat(bias[:, tf.newaxis], 2, axis=1))


@CASES
def test_project_with_dropout(input_size, symbols):
    layer = make(input_size, symbols)
    x = inputs(input_size, symbols)
    kernel = normal(E, G, seed=1)
    keep = tf.cast(normal(*x.shape[:2], E, seed=3) > 0, tf.float32) * 2.0
    expected = tf.matmul(layer(x) * keep, kernel) + 0.5
    assert_close(layer.project(x, kernel, 0.5, keep), expected)


def test_frames_by_formula():
    layer = make()
    x = normal(5, 2, D)
    assert_close(layer(x), x @ np.array(layer.table) + np.array(layer.bias))
    assert_close(layer(x)[2, 1], layer(x[2, 1][tf.newaxis])[0])


def test_symbols_are_rows_of_the_table():
    layer = make(symbols=True)
    table = np.array(layer.table)
    np.testing.assert_array_equal(layer(tf.constant([[2, 0, 1]])), table[None, [2, 0, 1]])
    assert layer.bias is None


def test_start_symbol_embeds_to_zero_and_has_no_gradient():
    layer = make(symbols=True)
    start = tf.constant([START_SYMBOL, START_SYMBOL])
    np.testing.assert_array_equal(layer(start), tf.zeros((2, E)))
    with tf.GradientTape() as tape:
        projected = layer.project(start, normal(E, G), tf.ones(G))
    np.testing.assert_array_equal(projected, tf.ones((2, G)))
    gradient = tf.convert_to_tensor(tape.gradient(projected, layer.trainable_variables)[0])
    np.testing.assert_array_equal(gradient, tf.zeros((D, E)))


def test_gradient_of_the_table_is_dense_when_asked():
    layer = make(symbols=True)
    with tf.GradientTape() as tape:
        cost = tf.reduce_sum(layer(tf.constant([1, 1, 2])))
    gradient = tf.convert_to_tensor(tape.gradient(cost, layer.trainable_variables)[0])
    np.testing.assert_array_equal(gradient, np.repeat([[0.0], [2.0], [1.0]], E, axis=1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
@pytest.mark.parametrize("symbols", [False, True])
def test_round_trip_and_dtype(dtype, symbols):
    layer = make(symbols=symbols, dtype=dtype)
    x = inputs(D, symbols)
    assert layer(x).dtype == layer.compute_dtype
    assert_round_trip(layer, lambda layer: layer(x))
