"""Z-Forcing (Goyal et al., NIPS 2017): the posterior sees a network that ran backward."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Conditioning, Context, LatentCell, LatentFrom, Weights
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian, loc_and_scale
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class ZForcingCell(LatentCell):
    """`p(z[t] | h[t-1])`, `q(z[t] | h[t-1], b[t])`, `h[t] = core([code(z[t]), e(x[t])], h[t-1])`.

    Args:
        embedding: e, shared by the core and the backward encoder.
        backward_encoder: runs over y from the end of each sequence.
        prior_network: of h.
        posterior_network: of (h, b).
        core: takes the latent.
    """

    backward_encoder: Encoder
    prior_network: ConditionalGaussian

    def context(self, ahead: Any, targets: Any, mask: Any, *how: Any) -> Context:
        states, _ = self.backward_encoder.states(self.embedding, targets, mask, None, *how)
        return Context(self.posterior_network.mlp.share(1, states, bias=True), states)

    def loop_weights(self, latent_from: LatentFrom) -> Weights:
        prior = latent_from == "prior"
        mlp = (self.prior_network if prior else self.posterior_network).mlp
        bias = mlp.read(mlp.bias_1) if prior else None  # the posterior's is in its context
        core = self.core.loop_weights(mlp.share_kernel(0), bias=bias)  # h meets [W_1_h | W_hh]
        return Weights(core, head=mlp.head_product())

    def past(self, conditioning: Conditioning) -> tf.Tensor:
        return conditioning.state.h

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loc, scale = self.prior_network(past)
        return loc, scale

    def prior_in_loop(
        self, weights: Weights, conditioning: Conditioning
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return loc_and_scale(MLP.head(weights.head, conditioning.hidden), axis=0)

    def posterior(
        self, weights: Weights, conditioning: Conditioning, context: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return loc_and_scale(MLP.head(weights.head, conditioning.hidden + context), axis=0)
