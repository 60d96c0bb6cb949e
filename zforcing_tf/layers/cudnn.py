"""The LSTM of an encoder by cuDNN's kernel, which takes a whole sequence at once on a GPU.

A loop in TensorFlow starts several kernels for each step, and a GPU waits for them; an encoder
needs nothing from outside between its steps, so that the library's own loop can do it.
"""

from __future__ import annotations

import tensorflow as tf

from zforcing_tf.layers.gates import LSTMState


def lstm_states(
    inputs: tf.Tensor,
    mask: tf.Tensor,
    state: LSTMState,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    backward: bool,
) -> tf.Tensor:
    """h after each step, [T, B, H], from the end of each sequence or from its start.

    In padding it is that of `state` on the way back, and 0 on the way forth.

    Args:
        inputs: [T, B, F].
        mask: [T, B] bool, true on the valid steps that each sequence starts with.
        state: before the first step it takes, [B, H] each.
        kernel: [F, 4H], gates in the order input, forget, candidate, output.
        recurrent_kernel: [H, 4H].
        bias: [4H].
        backward: the direction.
    """
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=0)

    def turned(x: tf.Tensor) -> tf.Tensor:
        return tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1) if backward else x

    outputs, *_ = tf.raw_ops.CudnnRNNV3(
        input=turned(inputs),
        input_h=state.h[tf.newaxis],
        input_c=state.c[tf.newaxis],
        params=packed(kernel, recurrent_kernel, bias),
        sequence_lengths=lengths,
        rnn_mode="lstm",
        time_major=True,
        is_training=True,
    )
    outputs = turned(outputs)
    if not backward:
        return outputs
    return tf.where(mask[..., tf.newaxis], outputs, state.h[tf.newaxis])


def packed(kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Weights as cuDNN holds them: transposed, gate by gate, those of the inputs first.

    It adds two biases; the first one is zero here.
    """
    kernels = [*tf.split(kernel, 4, axis=1), *tf.split(recurrent_kernel, 4, axis=1)]
    flat = [tf.reshape(tf.transpose(k), [-1]) for k in kernels]
    return tf.concat([*flat, tf.zeros_like(bias), bias], axis=0)
