"""The gradient of the gates by hand against that of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.harness import assert_close, normal
from zforcing_tf.layers.gates import GRUGates, LSTMGates

H, B = 3, 4


def lstm(gates, c):
    i, f, g, o = tf.split(gates, 4, axis=0)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def gru(drive, recurrent, h):
    u_x, r_x, n_x = tf.split(drive, 3, axis=0)
    u_h, r_h, n_h = tf.split(recurrent, 3, axis=0)
    u = tf.sigmoid(u_x + u_h)
    return (u * h + (1 - u) * tf.tanh(n_x + tf.sigmoid(r_x + r_h) * n_h),)


CASES = [(LSTMGates(), lstm, (4 * H, H)), (GRUGates(), gru, (3 * H, 3 * H, H))]


@pytest.mark.parametrize(("gates", "formula", "sizes"), CASES)
def test_values_and_gradient(gates, formula, sizes):
    """A replay gives what was recorded, and its gradient needs nothing but what was kept."""
    inputs = [2 * normal(n, B, seed=i, dtype="float64") for i, n in enumerate(sizes)]
    recorded, kept = gates.record(*inputs)
    assert len(kept) == gates.num_kept
    expected = formula(*inputs)
    assert_close(recorded, expected, 1e-14)
    assert_close(gates(*inputs), expected, 1e-14)
    # Pre-activations may be anything by then; only the last input, the state, is read again.
    replayed = [tf.constant(np.full(x.shape, np.nan)) for x in inputs[:-1]] + inputs[-1:]

    def gradient(function, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)
            cost = sum(tf.reduce_sum((i + 1.5) * tf.sin(v)) for i, v in enumerate(outputs))
        return outputs, tape.gradient(cost, inputs)

    assert_close(
        gradient(lambda *inputs: gates.replay(inputs, kept), replayed),
        gradient(formula, inputs),
        1e-12,
    )
