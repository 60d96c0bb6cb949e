"""VRNN (Chung et al. 2015): the core moves before the latent, which sees the frame itself."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Context, LatentCell, LatentFrom, LatentState, Weights
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian, loc_and_scale
from zforcing_tf.layers.gates import CoreState
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class VRNNCell(LatentCell):
    """`h[t] = core([code(z[t-1]), e(x[t])], h[t-1])`, `p(z[t] | h[t])`, `q(z[t] | h[t], e(y[t]))`.

    The emission sees h[t] and z[t].

    Args:
        embedding: e.
        prior_network: of h.
        posterior_network: of (h, e(y)).
        core: takes the latent of the step before.
    """

    carries_latent = True
    prior_network: ConditionalGaussian

    def context(self, ahead: Any, targets: Any, mask: Any, *how: Any) -> Context:
        mlp = self.posterior_network.mlp
        hidden = self.embedding.project(targets, mlp.share_kernel(1), mlp.read(mlp.bias_1))
        return Context(hidden, None)

    def loop_weights(self, latent_from: LatentFrom) -> Weights:
        prior = latent_from == "prior"
        mlp = (self.prior_network if prior else self.posterior_network).mlp
        first = mlp.first_product(bias=prior)  # the posterior's is in its context
        return Weights(self.core.loop_weights(), first, mlp.head_product())

    def condition(self, weights: Weights, state: LatentState, given: tf.Tensor) -> CoreState:
        return self.core.step(weights.core, state.core, given, state.latent)

    def past(self, conditioning: CoreState) -> tf.Tensor:
        return conditioning.h

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loc, scale = self.prior_network(past)
        return loc, scale

    def prior_in_loop(
        self, weights: Weights, conditioning: CoreState
    ) -> tuple[tf.Tensor, tf.Tensor]:
        hidden = weights.hidden(conditioning.h)
        return loc_and_scale(MLP.head(weights.head, hidden), axis=0)

    def posterior(
        self, weights: Weights, conditioning: CoreState, context: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        hidden = weights.hidden(conditioning.h) + context
        return loc_and_scale(MLP.head(weights.head, hidden), axis=0)

    def advance(
        self, weights: Weights, conditioning: CoreState, latent: tf.Tensor
    ) -> tuple[LatentState, tf.Tensor]:
        return LatentState.after(conditioning, latent)
