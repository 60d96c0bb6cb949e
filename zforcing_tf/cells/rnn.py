"""The plain recurrent network: no latent, and the baseline of every table."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Conditioning, Context, LatentCell, LatentFrom, Weights
from zforcing_tf.layers.weights import SERIAL_PACKAGE


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class RNNCell(LatentCell):
    """`h[t] = core(e(x[t]), h[t-1])`. Prior and posterior are Gaussians of width 0.

    Args:
        embedding: e.
        core: made without a latent.
    """

    latent_size = 0

    def context(self, ahead: Any, targets: Any, mask: Any, *how: Any) -> Context:
        return Context((), None)

    def loop_weights(self, latent_from: LatentFrom) -> Weights:
        return Weights(self.core.loop_weights())

    def past(self, conditioning: Conditioning) -> tf.Tensor:
        return conditioning.hidden

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return past, past

    def posterior(
        self, weights: Weights, conditioning: Conditioning, context: tuple[()]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return conditioning.hidden, conditioning.hidden
