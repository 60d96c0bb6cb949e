"""The auxiliary network: its density, and what its gradient must not reach."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.layers.harness import assert_round_trip, normal, randomise
from zforcing_tf.layers.auxiliary import Auxiliary

T, B, Z, H, M = 4, 3, 2, 5, 4
LOSSES = pytest.mark.parametrize("loss", ["gaussian", "l2"])
SEES = pytest.mark.parametrize("past_size", [0, H])


def make(loss: str = "gaussian", past_size: int = 0, **own: str) -> Auxiliary:
    layer = Auxiliary(Z, H, M, past_size, loss, **own)
    randomise(layer)
    return layer


def inputs() -> list[tf.Tensor]:
    """past, latent, backward states."""
    past, latent, states = normal(T, B, H), normal(T, B, Z, seed=1), normal(T, B, H, seed=2)
    return [past, latent, tf.tanh(states)]


@SEES
def test_gaussian(past_size):
    layer = make(past_size=past_size)
    past, latent, states = inputs()
    loc, scale = layer.network(*((past, latent) if past_size else (latent,)))
    expected = scipy.stats.norm.logpdf(states, np.tanh(loc), scale).sum(-1)
    np.testing.assert_allclose(layer(past, latent, states), expected, rtol=1e-5)


@SEES
def test_l2(past_size):
    layer = make("l2", past_size)
    past, latent, states = inputs()
    loc, _ = layer.network(*((past, latent) if past_size else (latent,)))
    expected = -((states - np.tanh(loc)) ** 2).numpy().sum(-1)
    np.testing.assert_allclose(layer(past, latent, states), expected, rtol=1e-5)


@LOSSES
@SEES
def test_gradient(loss, past_size):
    """None reaches the target; the latent gets some, the past only if it is seen."""
    layer = make(loss, past_size)
    past, latent, states = inputs()
    with tf.GradientTape() as tape:
        tape.watch([past, latent, states])
        cost = tf.reduce_sum(layer(past, latent, states))
    to_past, to_latent, to_states = tape.gradient(cost, [past, latent, states])
    assert to_states is None
    assert np.abs(to_latent).min() > 0
    assert (to_past is None) == (past_size == 0)


def test_what_is_not_seen_does_not_matter():
    layer = make()
    past, latent, states = inputs()
    other = layer(tf.fill(past.shape, np.nan), latent, states)
    np.testing.assert_array_equal(other, layer(past, latent, states))


def test_low_precision_is_raised():
    layer = make(dtype="mixed_bfloat16")
    assert layer(*inputs()).dtype == tf.float32
    assert make(dtype="float64")(*inputs()).dtype == tf.float64


def test_unknown_loss():
    with pytest.raises(ValueError, match="'l1'"):
        make("l1")


@LOSSES
@SEES
def test_round_trip(loss, past_size):
    assert_round_trip(make(loss, past_size), lambda layer: layer(*inputs()))
