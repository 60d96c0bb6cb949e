"""The network that runs backward through a sequence, from its true end."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.recurrent_core import LSTMState, RecurrentCore, lstm
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product, flipped
from zforcing_tf.unroll import unroll


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class BackwardEncoder(WeightedLayer):
    """`b[t], cb[t] = LSTM(e(y[t]), (b[t+1], cb[t+1]))` from t = n-1 down to 0, `b[n] = cb[n] = 0`.

    So b[t] has read `y[t] ... y[n-1]`. In padding (t >= n) the state stays what it was, whatever y
    holds there. (The released code starts inside the padding.)

    Args:
        units: H.
        embedding_size: E.
        initializer: of the input kernel.
    """

    def __init__(
        self,
        units: int,
        embedding_size: int,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.core = RecurrentCore(
            units, embedding_size, initializer=initializer, dtype=self.dtype_policy
        )

    def drive(self, embedding: Embedding, targets: tf.Tensor) -> tf.Tensor:
        """The data's share of the gates, [T, B, 4H], from y [T, B, D] or [T, B] int32."""
        return self.core.drive(embedding, targets)

    def call(
        self,
        drive: tf.Tensor,
        mask: tf.Tensor,
        initial_state: LSTMState | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Backward states b, [T, B, H].

        Args:
            drive: [T, B, 4H].
            mask: [T, B] bool, true on valid steps.
            initial_state: state behind the last valid step, [B, H] each; zeros by default.
            training: whether the gradient will be asked for.
        """

        def step(product: Product, state: LSTMState, now: Any) -> tuple[LSTMState, tf.Tensor]:
            drive, valid = now
            new = lstm(drive + product(state.h), state.c)
            new = LSTMState(*(tf.where(valid, a, b) for a, b in zip(new, state, strict=True)))
            return new, new.h

        core = self.core
        state = LSTMState(*map(flipped, initial_state or core.initial_state(tf.shape(mask)[1])))
        inputs = (flipped(drive), mask[:, tf.newaxis])
        product = Product(core.read(core.recurrent_kernel))
        _, states = unroll(
            step, product, state, inputs, state.h.dtype, reverse=True, training=training
        )
        return flipped(states)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        core = self.core.get_config()
        names = ("units", "embedding_size", "initializer")
        return {**super().get_config(), **{name: core[name] for name in names}}
