"""The backward network starts at the true end of each sequence."""

from __future__ import annotations

from typing import Any

import keras
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
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.recurrent_core import LSTMState

D, E, H, T = 3, 4, 5, 6
LENGTHS = (6, 4, 1)


def make(**own: Any) -> tuple[Encoder, Embedding]:
    encoder, embedding = Encoder(H, E, **own), Embedding(D, E)
    randomise(encoder)
    randomise(embedding, seed=2)
    return encoder, embedding


def mask() -> tf.Tensor:
    return tf.transpose(tf.sequence_mask(LENGTHS, T))


TRAINING = pytest.mark.parametrize("training", [False, True])


@TRAINING
def test_ragged_is_each_sequence_alone(training):
    encoder, embedding = make()
    y = normal(T, len(LENGTHS), D)
    states = encoder(encoder.drive(embedding, y), mask(), training=training)
    for row, length in enumerate(LENGTHS):
        alone = y[:length, row : row + 1]
        full = tf.ones((length, 1), tf.bool)
        expected = encoder(encoder.drive(embedding, alone), full, training=training)
        assert_close(states[:length, row], expected[:, 0])
        np.testing.assert_array_equal(states[length:, row], tf.zeros((T - length, H)))


def test_is_the_lstm_of_keras_run_backward():
    encoder, embedding = make()
    y = normal(T, 2, D)
    theirs = keras.layers.LSTM(H, return_sequences=True, go_backwards=True, unit_forget_bias=False)
    theirs.build((2, T, E))
    core = encoder.core
    theirs.set_weights([np.array(v) for v in (core.input_kernel, core.recurrent_kernel, core.bias)])
    expected = theirs(tf.transpose(embedding(y), (1, 0, 2)))[:, ::-1]
    states = encoder(encoder.drive(embedding, y), tf.ones((T, 2), tf.bool))
    assert_close(states, tf.transpose(expected, (1, 0, 2)))


@TRAINING
@pytest.mark.parametrize("value", [1e6, np.nan, np.inf])
def test_padding_does_not_matter(value, training):
    """Whatever the drive holds there: states and gradients stay finite, and the same."""
    encoder, embedding = make()
    y = normal(T, len(LENGTHS), D)
    valid = mask()
    start = encoder.drive(embedding, tf.where(valid[..., None], y, 0.0))
    expected = encoder(start, valid, training=training)
    dirty = tf.where(valid[..., None], start, value)
    np.testing.assert_array_equal(encoder(dirty, valid, training=training), expected)


@TRAINING
def test_gradients_come_from_valid_steps_only(training):
    encoder, embedding = make()
    y = normal(T, len(LENGTHS), D)
    variables = encoder.trainable_variables + embedding.trainable_variables

    def batch() -> tf.Tensor:
        drive = encoder.drive(embedding, y)
        states = encoder(drive, mask(), training=training)
        return tf.where(mask()[..., None], states, 0.0)

    def alone() -> list[tf.Tensor]:
        return [
            encoder(
                encoder.drive(embedding, y[:n, row : row + 1]),
                tf.ones((n, 1), tf.bool),
            )
            for row, n in enumerate(LENGTHS)
        ]

    assert_close(gradients_of(batch, variables), gradients_of(alone, variables))


def test_initial_state_stands_behind_the_end():
    """Running the second half first, and from its state the first half, is running the whole."""
    encoder, embedding = make()
    y = normal(T, 2, D)
    drive, full = encoder.drive(embedding, y), tf.ones((T, 2), tf.bool)
    state = LSTMState(normal(2, H, seed=3), normal(2, H, seed=4))
    whole = encoder(drive, full, initial_state=state)
    other = encoder(drive, full)
    assert np.abs(whole - other).max() > 1e-3
    # A sequence without a valid step passes the state on.
    empty = tf.zeros((T, 2), tf.bool)
    states = encoder(drive, empty, initial_state=state)
    np.testing.assert_array_equal(states, tf.repeat(state.h[None], T, axis=0))


@TRAINING
@pytest.mark.parametrize("window", [1, 4, 6, 9])
@pytest.mark.parametrize("lengths", [LENGTHS, (6,)])
def test_a_window_is_a_sequence_of_its_own(window, lengths, training):
    """States and their gradients: nothing of a later window is seen."""
    encoder, embedding = make(window=window)
    y, valid = normal(T, len(lengths), D), tf.transpose(tf.sequence_mask(lengths, T))
    variables = encoder.trainable_variables + embedding.trainable_variables

    def whole(training=training) -> tf.Tensor:
        return encoder.states(embedding, y, valid, training=training)[0] ** 2

    def cut() -> tf.Tensor:
        parts = []
        for start in range(0, T, window):
            part = slice(start, start + window)
            parts.append(encoder(encoder.drive(embedding, y[part]), valid[part]))
        return tf.concat(parts, axis=0) ** 2

    assert_close(whole(), cut())
    assert_close(tf.function(whole, autograph=False)(), cut())
    assert_close(gradients_of(whole, variables), gradients_of(cut, variables))


def test_windows_see_what_is_beside_them():
    encoder, embedding = make(window=4, beside_size=2)
    y, beside = normal(T, 3, D), normal(T, 3, 2, seed=7)
    states, last = encoder.states(embedding, y, mask(), beside)
    for start in (0, 4):
        part = slice(start, start + 4)
        drive = encoder.drive(embedding, y[part], beside[part])
        assert_close(states[part], encoder(drive, mask()[part]))
    assert_close(last.h, states[0])


def test_only_the_last_window_starts_from_a_given_state():
    encoder, embedding = make(window=4)
    y, full = normal(T, 2, D), tf.ones((T, 2), tf.bool)
    state = LSTMState(normal(2, H, seed=3), normal(2, H, seed=4))
    states, last = encoder.states(embedding, y, full, None, state)
    drive = encoder.drive(embedding, y)
    assert_close(states[4:], encoder(drive[4:], full[4:], initial_state=state))
    assert_close(states[:4], encoder(drive[:4], full[:4]))
    assert_close(last.h, states[0])


def test_what_runs_forward_has_no_windows():
    with pytest.raises(ValueError, match="window must be"):
        Encoder(H, E, direction="forward", window=3)


def test_round_trip():
    encoder, embedding = make()
    drive = encoder.drive(embedding, normal(T, len(LENGTHS), D))
    assert_round_trip(encoder, lambda layer: layer(drive, mask()))
