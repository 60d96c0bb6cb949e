"""Adam by one kernel is Keras's Adam."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf.training.adam import Adam

SETTINGS = {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5}


def trained(kind: type[keras.optimizers.Adam], dtype: str, jit: bool | None) -> list[np.ndarray]:
    variables = [
        keras.Variable(np.arange(6.0).reshape(2, 3), dtype=dtype, name="kernel"),
        keras.Variable(np.ones(3), dtype=dtype, name="bias"),
    ]
    optimizer = kind(**SETTINGS)
    optimizer.build(variables)
    generator = np.random.default_rng(0)

    @tf.function(autograph=False, jit_compile=jit)
    def update(gradients):
        optimizer.apply(gradients, variables)

    for _ in range(5):
        update([tf.constant(generator.standard_normal(v.shape), dtype) for v in variables])
    return [v.numpy() for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("jit", [None, True])
def test_is_that_of_keras(jit):
    """Weights, moments, iterations and learning rate after five updates."""
    ours, theirs = (trained(kind, "float32", jit) for kind in (Adam, keras.optimizers.Adam))
    assert len(ours) == len(theirs) == 2 + 2 + 2 * 2
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("jit", [None, True])
def test_is_the_formula(jit):
    """In float64, where Keras rounds its constants to float32."""
    generator = np.random.default_rng(0)
    weights = [np.arange(6.0).reshape(2, 3), np.ones(3)]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    rate = float(np.float32(SETTINGS["learning_rate"]))  # a variable of Keras, in float32
    beta_1, beta_2 = SETTINGS["beta_1"], SETTINGS["beta_2"]
    for t in range(1, 6):
        scale = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        for w, m, v in zip(weights, first, second, strict=True):
            gradient = generator.standard_normal(w.shape)
            m += (1 - beta_1) * (gradient - m)
            v += (1 - beta_2) * (gradient**2 - v)
            w -= scale * m / (np.sqrt(v) + SETTINGS["epsilon"])
    for a, b in zip(trained(Adam, "float64", jit), weights, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_goes_to_disk_and_back():
    optimizer = Adam(**SETTINGS)
    found = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(found) is Adam and found.get_config() == optimizer.get_config()
