"""The LSTM against Keras's own, and against formulas where a latent enters."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.harness import assert_close, assert_round_trip, normal, randomise
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.recurrent_core import (
    EPSILON,
    LSTMState,
    RecurrentCore,
    normalise,
)
from zforcing_tf.products import flipped

D, E, H, M, Z, T, B = 3, 4, 5, 4, 2, 6, 3


def make(latent_size: int = 0, condition: str = "concat", **own: str) -> RecurrentCore:
    core = RecurrentCore(H, E, latent_size, M, condition, **own)
    randomise(core)
    return core


def embedding(**own: str) -> Embedding:
    layer = Embedding(D, E, **own)
    randomise(layer, seed=2)
    return layer


def run(core: RecurrentCore, drive: tf.Tensor, latents: tf.Tensor | None) -> tf.Tensor:
    """Outputs h [T, B, H] by a Python loop over the core's own methods, feature-major inside."""
    weights, outputs = core.loop_weights(), []
    state = tf.nest.map_structure(flipped, core.initial_state(B))
    for t in range(T):
        latent = None if latents is None else flipped(latents[t])
        beside, recurrent = core.meet(weights, state)
        assert beside.shape == (0, B)
        state = core.advance(weights, state, recurrent, flipped(drive[t]), latent)
        outputs.append(flipped(state.h))
    return tf.stack(outputs)


@pytest.mark.parametrize("latent_size", [0, Z])
def test_concat_is_the_lstm_of_keras(latent_size):
    """On [code(z), e(x)], in the same order of gates, with no bias of its own for forgetting."""
    core, e = make(latent_size), embedding()
    x, z = normal(T, B, D), normal(T, B, Z, seed=1)
    inputs, kernel = e(x), np.array(core.input_kernel)
    if latent_size:
        code = z @ np.array(core.code_kernel) + np.array(core.code_bias)
        inputs = tf.concat([code, inputs], axis=-1)
        kernel = np.concatenate([core.code_input_kernel, kernel])
    theirs = keras.layers.LSTM(H, return_sequences=True, unit_forget_bias=False)
    theirs.build((B, T, inputs.shape[-1]))
    theirs.set_weights([kernel, np.array(core.recurrent_kernel), np.array(core.bias)])
    expected = tf.transpose(theirs(tf.transpose(inputs, (1, 0, 2))), (1, 0, 2))
    assert_close(run(core, core.drive(e, x), z if latent_size else None), expected)


@pytest.mark.parametrize("latent_size", [0, Z])
def test_gru_is_the_gru_of_keras(latent_size):
    """With `reset_after` and without its second bias."""
    core, e = make(latent_size, kind="gru"), embedding()
    x, z = normal(T, B, D), normal(T, B, Z, seed=1)
    inputs, kernel = e(x), np.array(core.input_kernel)
    if latent_size:
        code = z @ np.array(core.code_kernel) + np.array(core.code_bias)
        inputs = tf.concat([code, inputs], axis=-1)
        kernel = np.concatenate([core.code_input_kernel, kernel])
    theirs = keras.layers.GRU(H, return_sequences=True, reset_after=True)
    theirs.build((B, T, inputs.shape[-1]))
    bias = np.stack([np.array(core.bias), np.zeros(3 * H)])
    theirs.set_weights([kernel, np.array(core.recurrent_kernel), bias])
    expected = tf.transpose(theirs(tf.transpose(inputs, (1, 0, 2))), (1, 0, 2))
    assert_close(run(core, core.drive(e, x), z if latent_size else None), expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_run_is_step_by_step(kind, training):
    core, e = make(kind=kind), embedding()
    drive = core.drive(e, normal(T, B, D))
    states = core.run(drive, core.initial_state(B), training=training)
    assert_close(states.h, run(core, drive, None))


def test_what_stands_beside_the_state_is_its_own_product():
    core = make()
    beside = normal(H, 7, seed=3)
    weights, plain = core.loop_weights(beside), core.loop_weights()
    state = tf.nest.map_structure(lambda v: flipped(normal(*v.shape)), core.initial_state(B))
    given, recurrent = core.meet(weights, state)
    assert_close(flipped(given), flipped(state.h) @ beside)
    assert_close(recurrent, core.meet(plain, state)[1])


def numpy_normalise(x: np.ndarray) -> np.ndarray:
    variance = x.var(axis=-1, ddof=1, keepdims=True)
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + EPSILON)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normalise_is_the_formula(scale):
    x = scale * normal(T, B, 7, dtype="float64").numpy() + 3 * scale
    np.testing.assert_allclose(normalise(tf.constant(x)), numpy_normalise(x), rtol=1e-10)
    feature_major = normalise(flipped(tf.constant(x)), axis=-2)
    np.testing.assert_allclose(flipped(feature_major), numpy_normalise(x), rtol=1e-10)
    assert normalise(tf.zeros((2, 7), tf.bfloat16)).dtype == tf.bfloat16
    np.testing.assert_array_equal(normalise(tf.zeros((2, 7))), tf.zeros((2, 7)))


def test_normalise_of_low_precision_is_computed_in_float32():
    x = tf.cast(100 + normal(B, 7), tf.bfloat16)
    exact = numpy_normalise(tf.cast(x, tf.float64).numpy())
    np.testing.assert_allclose(tf.cast(normalise(x), tf.float64), exact, rtol=2**-8)


def test_layer_norm_is_the_formula():
    """`LN(e(x) W_ih) * gain + shift + LN(h W_hh) * (1 + u) + v`, in float64."""
    core, e = make(Z, "layer_norm", dtype="float64"), embedding(dtype="float64")
    randomise(core.modulation, seed=5, scale=2.0)  # some of u and v beyond 3
    x, z = normal(T, B, D, dtype="float64"), 2 * normal(T, B, Z, seed=1, dtype="float64")

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    gain, shift, w_ih, w_hh = (
        np.array(v) for v in (core.gain, core.shift, core.input_kernel, core.recurrent_kernel)
    )
    h = c = np.zeros((B, H))
    expected = []
    modulations = np.array(core.modulation(z))
    assert (np.abs(modulations) > 3).any()
    for t in range(T):
        u, v = np.split(np.clip(modulations[t], -3, 3), 2, axis=-1)
        gates = numpy_normalise(e(x[t]).numpy() @ w_ih) * gain + shift
        gates = gates + numpy_normalise(h @ w_hh) * (1 + u) + v
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    assert_close(run(core, core.drive(e, x), z), np.stack(expected), 1e-10)


def test_layer_norm_has_the_weights_of_the_release_only():
    core = make(Z, "layer_norm")
    names = {v.name for v in core.trainable_variables}
    assert names == {
        *("input_kernel", "recurrent_kernel", "gain", "shift"),
        *("kernel_1", "bias_1", "kernel_2", "bias_2"),
    }


def test_recurrent_kernel_starts_orthogonal_and_biases_at_zero():
    core = RecurrentCore(H, E, Z, M)
    kernel = np.array(core.recurrent_kernel)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(H), atol=1e-5)
    np.testing.assert_array_equal(core.bias, np.zeros(4 * H))


def test_initial_state_is_zero():
    state = make(dtype="mixed_bfloat16").initial_state(tf.constant(2))
    assert isinstance(state, LSTMState)
    for part in state:
        assert part.dtype == tf.bfloat16
        np.testing.assert_array_equal(part, tf.zeros((2, H), tf.bfloat16))


def test_unknown_condition_and_kind():
    with pytest.raises(ValueError, match="'add'"):
        RecurrentCore(H, E, Z, M, "add")
    with pytest.raises(ValueError, match="'elman'"):
        RecurrentCore(H, E, kind="elman")


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("condition", ["concat", "layer_norm"])
def test_round_trip(condition, kind, dtype):
    e, x, z = embedding(dtype=dtype), normal(T, B, D), normal(T, B, Z, seed=1)

    def call(core: RecurrentCore) -> tf.Tensor:
        return run(core, core.drive(e, x), tf.cast(z, core.compute_dtype))

    assert_round_trip(make(Z, condition, kind=kind, dtype=dtype), call)
