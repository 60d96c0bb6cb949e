"""STORN (Bayer, Osendorfer 2014): latents without a past, seen by a network that runs forward."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Conditioning, Context, LatentCell, LatentFrom, Weights
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.weights import SERIAL_PACKAGE


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class STORNCell(LatentCell):
    """`p(z[t]) = N(0, I)`, `q(z[t] | a[t])`, `h[t] = core([code(z[t]), e(x[t])], h[t-1])`.

    a[t] has read `y[0] ... y[t]`. So the posterior is known before the loop, as a whole.

    Args:
        embedding: e, shared by the core and the encoder.
        forward_encoder: runs over y from the start, and gives a.
        posterior_network: of a.
        core: takes the latent.
    """

    forward_encoder: Encoder

    def context(self, ahead: Any, targets: Any, mask: Any, *how: Any) -> Context:
        states, last = self.forward_encoder.states(self.embedding, targets, mask, None, *how)
        return Context(self.posterior_network(states), None, last)

    def initial_encoder_state(self, batch_size: int | tf.Tensor) -> Any:
        return self.forward_encoder.core.initial_state(batch_size)

    def loop_weights(self, latent_from: LatentFrom) -> Weights:
        return Weights(self.core.loop_weights())

    def past(self, conditioning: Conditioning) -> tf.Tensor:
        return conditioning.hidden

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.concat([tf.shape(past)[:-1], [self.latent_size]], 0)
        return tf.zeros(shape, past.dtype), tf.ones(shape, past.dtype)

    def posterior(
        self, weights: Weights, conditioning: Conditioning, context: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return context
