"""What every layer must do, whichever it is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.model_factory import randomise

__all__ = ["assert_close", "assert_round_trip", "gradients_of", "normal", "randomise"]


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_round_trip(layer: keras.layers.Layer, call: Any) -> None:
    """A layer made from a configuration has the same configuration, and with the same weights
    gives the same results; its first weights are its own.
    """
    config = layer.get_config()
    other = type(layer).from_config(config)
    assert other.get_config() == config
    assert [v.name for v in other.variables] == [v.name for v in layer.variables]
    through_keras = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(through_keras) is type(layer)
    randomise(layer)
    for made in (other, through_keras):
        assert [v.shape for v in made.variables] == [v.shape for v in layer.variables]
        assert [v.dtype for v in made.variables] == [v.dtype for v in layer.variables]
        made.set_weights(layer.get_weights())
        for ours, expected in zip(
            tf.nest.flatten(call(made)), tf.nest.flatten(call(layer)), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)


def gradients_of(function: Any, variables: list[keras.Variable]) -> list[tf.Tensor]:
    """Of the sum of squares of all results, as dense tensors."""
    with tf.GradientTape() as tape:
        results = tf.nest.flatten(function())
        cost = tf.add_n([tf.reduce_sum(tf.square(tf.cast(r, tf.float32))) for r in results])
    gradients = tape.gradient(cost, variables, unconnected_gradients="zero")
    return [tf.convert_to_tensor(g) for g in gradients]


def assert_close(ours: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Structures of tensors; relative to the largest entry of each."""
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        limit = tolerance * max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, atol=limit, rtol=0)
