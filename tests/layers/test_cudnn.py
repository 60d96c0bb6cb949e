"""What is handed to cuDNN, and what is made of its answer; the kernel itself needs a GPU.

In its place stands the operation as NVIDIA documents it, in NumPy.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.rnn import _standardize_cudnn_weights

from tests.layers.harness import assert_close, normal, randomise
from zforcing_tf.layers import cudnn
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.gates import LSTMState

T, B, D, E, H, M = 5, 3, 2, 4, 3, 2
LENGTHS = np.array([5, 3, 1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def documented(calls):
    """CudnnRNNV3 with sequence lengths: zero behind the end of each sequence."""

    def run(input, input_h, input_c, params, sequence_lengths, rnn_mode, time_major, is_training):
        assert rnn_mode == "lstm" and time_major and is_training
        calls.append(params)
        width, units = input.shape[-1], input_h.shape[-1]
        sizes = [units * width] * 4 + [units * units] * 4 + [units] * 8
        pieces = np.split(params.numpy(), np.cumsum(sizes)[:-1])
        w = [p.reshape(units, width) for p in pieces[:4]]
        r = [p.reshape(units, units) for p in pieces[4:8]]
        b = [pieces[8 + i] + pieces[12 + i] for i in range(4)]
        outputs = np.zeros((*input.shape[:2], units))
        for row, length in enumerate(sequence_lengths.numpy()):
            h, c = input_h[0, row].numpy(), input_c[0, row].numpy()
            for t in range(length):
                i, f, g, o = (w[k] @ input[t, row].numpy() + r[k] @ h + b[k] for k in range(4))
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                outputs[t, row] = h
        return tf.constant(outputs), None, None, None, None

    return run


@pytest.mark.parametrize("direction", ["backward", "forward"])
@pytest.mark.parametrize("beside_size", [0, M])
def test_is_the_loop(direction, beside_size, monkeypatch):
    calls = []
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", documented(calls))
    embedding = Embedding(D, E, dtype="float64")
    own = {"direction": direction, "beside_size": beside_size, "dtype": "float64"}
    loop, library = (Encoder(H, E, cudnn=by_cudnn, **own) for by_cudnn in (False, True))
    for layer in (embedding, loop, library):
        randomise(layer)
    y, beside = (normal(T, B, n, seed=n, dtype="float64") for n in (D, M))
    mask = tf.transpose(tf.sequence_mask(LENGTHS, T))
    state = LSTMState(normal(B, H, dtype="float64"), normal(B, H, seed=1, dtype="float64"))
    asked = (embedding, y, mask, beside if beside_size else None, state)
    (ours, _), (expected, _) = library.states(*asked, True), loop.states(*asked, True)
    if direction == "forward":  # nobody reads what stands in padding
        ours, expected = (tf.where(mask[..., None], v, 0.0) for v in (ours, expected))
    assert_close(ours, expected, 1e-12)
    assert len(calls) == 1
    library.states(*asked, False)  # what is exported must run without a GPU
    library.states(*asked, "recompute")
    assert len(calls) == 1


def test_weights_are_packed_as_keras_packs_them():
    kernel, recurrent, bias = normal(E, 4 * H), normal(H, 4 * H, seed=1), normal(4 * H, seed=2)
    expected = _standardize_cudnn_weights(
        weights=tf.split(kernel, 4, axis=1) + tf.split(recurrent, 4, axis=1),
        biases=tf.split(tf.concat([tf.zeros_like(bias), bias], 0), 8),
        shape=tf.constant([-1]),
        transpose_weights=True,
    )
    np.testing.assert_array_equal(cudnn.packed(kernel, recurrent, bias), expected)
