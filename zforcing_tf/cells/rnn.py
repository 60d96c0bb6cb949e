"""The plain recurrent network: no latent, and the baseline of every table."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Context, LatentCell
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.recurrent_core import CoreWeights, LSTMState, RecurrentCore, lstm
from zforcing_tf.layers.weights import SERIAL_PACKAGE, serialised
from zforcing_tf.products import Product


class RNNWeights(NamedTuple):
    """Products of the loop: `W_hh` [H, 4H], and the core's others."""

    state: Product
    core: CoreWeights


class Conditioning(NamedTuple):
    """c[t-1] and the gates' pre-activations."""

    c: tf.Tensor
    gates: tf.Tensor


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class RNNCell(LatentCell):
    """`h[t] = LSTM(e(x[t]), h[t-1])`. Prior and posterior are Gaussians of width 0.

    Args:
        embedding: e.
        core: the LSTM, made without a latent.
    """

    latent_size = 0

    def __init__(self, embedding: Embedding, core: RecurrentCore, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if core.latent_size:
            raise ValueError(
                f"the core of an RNN has no latent, this one of size {core.latent_size}"
            )
        self.embedding = embedding
        self.core = core
        self.feature_size = core.units

    def initial_state(self, batch_size: int | tf.Tensor) -> LSTMState:
        return self.core.initial_state(batch_size)

    def context(
        self,
        targets: tf.Tensor,
        mask: tf.Tensor,
        initial_state: LSTMState | None = None,
        training: bool = False,
    ) -> Context:
        return Context((), None)

    def loop_weights(self, latent_from: Literal["posterior", "prior"]) -> RNNWeights:
        state = Product(self.core.read(self.core.recurrent_kernel))
        return RNNWeights(state, self.core.loop_weights())

    def condition(self, weights: RNNWeights, state: LSTMState, drive: tf.Tensor) -> Conditioning:
        recurrent = weights.state(state.h)
        return Conditioning(state.c, RecurrentCore.gates(weights.core, recurrent, drive, None))

    def past(self, conditioning: Conditioning) -> tf.Tensor:
        return conditioning.c[:0]

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return past, past

    def posterior(
        self, weights: RNNWeights, conditioning: Conditioning, context: tuple[()]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        empty = conditioning.c[:0]
        return empty, empty

    def advance(
        self, weights: RNNWeights, conditioning: Conditioning, latent: tf.Tensor
    ) -> tuple[LSTMState, tf.Tensor]:
        state = lstm(conditioning.gates, conditioning.c)
        return state, state.h

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        parts = {"embedding": self.embedding, "core": self.core}
        return {**super().get_config(), **serialised(parts)}
