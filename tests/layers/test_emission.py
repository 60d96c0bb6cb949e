"""The emission: linear or with a hidden layer, with or without the skip."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.harness import assert_close, assert_round_trip, normal, randomise
from zforcing_tf.distributions import FAMILIES
from zforcing_tf.layers.emission import Emission

D, F, E, K = 3, 5, 4, 2
SHAPES = pytest.mark.parametrize(("skip_size", "hidden_size"), [(0, 0), (E, 0), (0, 6), (E, 6)])


def make(family: str = "gaussian", skip_size: int = 0, hidden_size: int = 0, **own: str):
    layer = Emission(family, D, F, skip_size, hidden_size, K, **own)
    randomise(layer)
    return layer


def inputs(skip_size: int) -> list[tf.Tensor]:
    features = 2 * normal(7, 2, F)
    return [features, 2 * normal(7, 2, E, seed=1)] if skip_size else [features]


@SHAPES
def test_by_formula(skip_size, hidden_size):
    layer, given = make(skip_size=skip_size, hidden_size=hidden_size), inputs(skip_size)
    x = np.concatenate(given, axis=-1)
    weights = {v.name: np.array(v) for v in layer.trainable_variables}
    assert len(weights) == (4 if hidden_size else 2)
    if hidden_size:
        x = x @ weights["hidden_kernel"] + weights["hidden_bias"]
        x = np.clip(np.where(x > 0, x, x / 3), -3, 3)
    assert_close(layer(*given), x @ weights["output_kernel"] + weights["output_bias"])


@pytest.mark.parametrize("family", FAMILIES)
def test_gives_the_parameters_of_its_family(family):
    layer = make(family)
    parameters = layer(normal(7, 2, F))
    assert parameters.shape == (7, 2, layer.family.parameter_size)
    x = tf.zeros((7, 2), tf.int32) if layer.family.symbols else tf.zeros((7, 2, D))
    log_prob = layer.log_prob(parameters, x)
    np.testing.assert_array_equal(log_prob, layer.family.distribution(parameters).log_prob(x))
    assert layer.family.distribution(parameters).batch_shape == (7, 2)


def test_start_symbol_counts_as_the_first():
    """It is never scored; its log probability must be a number all the same."""
    layer = make("categorical")
    parameters = layer(normal(2, F))
    start, first = (layer.log_prob(parameters, tf.constant([s, s])) for s in (-1, 0))
    np.testing.assert_array_equal(start, first)


@pytest.mark.parametrize(
    ("dtype", "made"),
    [("float32", "float32"), ("mixed_bfloat16", "float32"), ("float64", "float64")],
)
@SHAPES
def test_dtype_and_round_trip(skip_size, hidden_size, dtype, made):
    layer, given = make("bernoulli", skip_size, hidden_size, dtype=dtype), inputs(skip_size)
    assert layer(*given).dtype == made
    frames = tf.ones((7, 2, D), tf.float32)
    assert layer.log_prob(layer(*given), frames).dtype == made
    assert_round_trip(layer, lambda layer: layer(*given))
