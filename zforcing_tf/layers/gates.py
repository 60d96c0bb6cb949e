"""The point-wise part of LSTM and GRU, with its gradient by hand.

Kept are the gates as they act, not what they are computed from: the backward loop then holds no
exponential, and nothing of the products before the gates need be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from zforcing_tf.products import Pointwise


class LSTMState(NamedTuple):
    """Output and cell of an LSTM, [B, H] each; [H, B] in the loop."""

    h: tf.Tensor
    c: tf.Tensor


class GRUState(NamedTuple):
    """Output of a GRU, [B, H]; [H, B] in the loop."""

    h: tf.Tensor


CoreState = LSTMState | GRUState


class LSTMGates(Pointwise):
    """From pre-activations [4H, B] (input, forget, candidate, output) and c [H, B]."""

    num_kept = 4

    def record(self, *inputs: tf.Tensor) -> tuple[LSTMState, Sequence[tf.Tensor]]:
        """The state, and the four gates [H, B]."""
        i, f, g, o = tf.split(inputs[0], 4, axis=0)
        gates = (tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o))
        return self.again(inputs, gates), gates

    def again(self, inputs: Sequence[tf.Tensor], kept: Sequence[tf.Tensor]) -> LSTMState:
        """The state from c and the gates."""
        i, f, g, o = kept
        c = f * inputs[1] + i * g
        return LSTMState(o * tf.tanh(c), c)

    def gradient(
        self,
        inputs: Sequence[tf.Tensor],
        kept: Sequence[tf.Tensor],
        upstream: Sequence[tf.Tensor],
    ) -> Sequence[tf.Tensor]:
        """Of pre-activations and c, from those of h and the new c."""
        (_, c), (i, f, g, o), (d_h, d_c) = inputs, kept, upstream
        squashed = tf.tanh(f * c + i * g)
        d_c = d_c + d_h * o * (1.0 - squashed * squashed)
        d_gates = [
            d_c * g * i * (1.0 - i),
            d_c * c * f * (1.0 - f),
            d_c * i * (1.0 - g * g),
            d_h * squashed * o * (1.0 - o),
        ]
        return tf.concat(d_gates, 0), d_c * f


class GRUGates(Pointwise):
    """From both shares of the pre-activations [3H, B] (update, reset, candidate) and h [H, B].

    The reset gate acts on the product `h W_hh`, as in cuDNN and in Keras with `reset_after` (there
    with a second bias, which the other models do not have).
    """

    num_kept = 4

    def record(self, *inputs: tf.Tensor) -> tuple[GRUState, Sequence[tf.Tensor]]:
        """The state; update, reset and candidate, and what the reset gate acts on, [H, B] each."""
        update_x, reset_x, candidate_x = tf.split(inputs[0], 3, axis=0)
        update_h, reset_h, candidate_h = tf.split(inputs[1], 3, axis=0)
        reset = tf.sigmoid(reset_x + reset_h)
        candidate = tf.tanh(candidate_x + reset * candidate_h)
        kept = (tf.sigmoid(update_x + update_h), reset, candidate, candidate_h)
        return self.again(inputs, kept), kept

    def again(self, inputs: Sequence[tf.Tensor], kept: Sequence[tf.Tensor]) -> GRUState:
        """The state from h and the gates."""
        update, _, candidate, _ = kept
        return GRUState(update * inputs[2] + (1.0 - update) * candidate)

    def gradient(
        self,
        inputs: Sequence[tf.Tensor],
        kept: Sequence[tf.Tensor],
        upstream: Sequence[tf.Tensor],
    ) -> Sequence[tf.Tensor]:
        """Of both shares and h, from that of the new h."""
        (*_, h), (update, reset, candidate, candidate_h), (d_h,) = inputs, kept, upstream
        d_update = d_h * (h - candidate) * update * (1.0 - update)
        d_candidate = d_h * (1.0 - update) * (1.0 - candidate * candidate)
        d_reset = d_candidate * candidate_h * reset * (1.0 - reset)
        return (
            tf.concat([d_update, d_reset, d_candidate], 0),
            tf.concat([d_update, d_reset, d_candidate * reset], 0),
            d_h * update,
        )
