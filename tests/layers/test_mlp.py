"""The small network: taken apart it is the same; its rectifier is the paper's."""

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
from zforcing_tf.layers.conditional_gaussian import LIMIT, ConditionalGaussian
from zforcing_tf.layers.mlp import MLP, lrelu3
from zforcing_tf.products import Product, flipped

SIZES, M, OUT = (3, 2), 4, 6


def make(**own: str) -> MLP:
    layer = MLP(SIZES, M, OUT, **own)
    randomise(layer)
    return layer


def inputs() -> list[tf.Tensor]:
    return [3 * normal(7, size, seed=size) for size in SIZES]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_rectifier(dtype):
    x = tf.constant([-100.0, -9.0, -4.5, -1.5, 0.0, 0.5, 3.0, 4.0], dtype)
    expected = tf.constant([-3.0, -3.0, -1.5, -0.5, 0.0, 0.5, 3.0, 3.0], dtype)
    assert lrelu3(x).dtype == dtype
    np.testing.assert_array_equal(lrelu3(x), expected)


def test_rectifier_has_slopes_one_and_a_third():
    x = tf.constant([-20.0, -3.0, 1.0, 5.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = lrelu3(x)
    np.testing.assert_allclose(tape.gradient(y, x), [0.0, 1 / 3, 1.0, 0.0], rtol=1e-6)


def test_by_formula():
    layer, x = make(), inputs()
    w1, b1, w2, b2 = (np.array(v, np.float64) for v in layer.trainable_variables)
    hidden = np.concatenate(x, axis=-1) @ w1 + b1
    hidden = np.clip(np.where(hidden >= 0, hidden, hidden / 3), -3, 3)
    assert_close(layer(*x), hidden @ w2 + b2)


def test_taken_apart_it_is_the_same():
    """As in the loop: one input's share before it, feature-major inside."""
    layer, x = make(), inputs()

    def apart() -> tf.Tensor:
        hidden = layer.share(1, x[1]) + layer.read(layer.bias_1)
        hidden = flipped(hidden) + Product(layer.share_kernel(0))(flipped(x[0]))
        return flipped(MLP.head(layer.head_product(), hidden))

    def whole() -> tf.Tensor:
        return layer(*x)

    assert_close(apart(), whole())
    variables = layer.trainable_variables
    assert_close(gradients_of(apart, variables), gradients_of(whole, variables))


def test_first_layer_of_one_input():
    layer = MLP((3,), M, OUT)
    randomise(layer)
    x = normal(5, 3)
    hidden = layer.first_product()(flipped(x))
    assert_close(flipped(MLP.head(layer.head_product(), hidden)), layer(x))


def test_first_weights_differ_between_matrices_and_layers():
    layer = MLP((4,), 4, 4, initializer="glorot_uniform")
    other = MLP((4,), 4, 4, initializer=layer.initializer)
    matrices = [layer.kernel_1, layer.kernel_2, other.kernel_1, other.kernel_2]
    assert len({np.array(m).tobytes() for m in matrices}) == 4
    np.testing.assert_array_equal(layer.bias_1, np.zeros(4))


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_round_trip(dtype):
    assert_round_trip(make(dtype=dtype), lambda layer: layer(*inputs()))


def test_conditional_gaussian_is_clipped():
    """Means and log variances beyond +-8 are 8; their gradient is zero."""
    layer = ConditionalGaussian((3,), M, 2)
    randomise(layer, scale=4.0)
    x = 10 * normal(50, 3)
    with tf.GradientTape() as tape:
        parameters = layer.mlp(x)
        loc, scale = layer(x)
    outside = np.abs(parameters) > LIMIT
    assert outside.any() and not outside.all()
    expected = np.clip(parameters, -LIMIT, LIMIT)
    np.testing.assert_array_equal(loc, expected[:, :2])
    np.testing.assert_allclose(scale, np.exp(expected[:, 2:] / 2), rtol=1e-6)
    assert np.isfinite(tape.gradient(scale, layer.trainable_variables)[0]).all()


def test_conditional_gaussian_gives_no_gradient_outside():
    layer = ConditionalGaussian((1,), 1, 1)
    for variable, value in zip(layer.trainable_variables, (1.0, 0.0, 5.0, 0.0), strict=True):
        variable.assign(tf.fill(variable.shape, value))
    x = tf.constant([[1.0], [2.0]])  # outputs of 5 and 10
    with tf.GradientTape() as tape:
        tape.watch(x)
        loc, _ = layer(x)
    np.testing.assert_array_equal(tape.gradient(loc, x), [[5.0], [0.0]])


@pytest.mark.parametrize("size", [2, 0])
def test_conditional_gaussian_round_trip(size):
    layer = ConditionalGaussian(SIZES, M, size)
    assert layer(*inputs())[0].shape == (7, size)
    assert_round_trip(layer, lambda layer: layer(*inputs()))
