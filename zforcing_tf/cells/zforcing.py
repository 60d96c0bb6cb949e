"""Z-Forcing (Goyal et al., NIPS 2017): the posterior sees a network that ran backward."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Context, LatentCell
from zforcing_tf.layers.backward_encoder import BackwardEncoder
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian, loc_and_scale
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.recurrent_core import CoreWeights, LSTMState, RecurrentCore, lstm
from zforcing_tf.layers.weights import SERIAL_PACKAGE, serialised
from zforcing_tf.products import Product


class ZForcingWeights(NamedTuple):
    """Products of the loop: `[W_q1_h | W_hh]` [H, M + 4H] (or `W_hh` alone), head of q, core."""

    state: Product
    posterior: Product | None
    core: CoreWeights


class Conditioning(NamedTuple):
    """The state h[t-1], c[t-1] and its products."""

    state: LSTMState
    hidden: tf.Tensor
    recurrent: tf.Tensor
    drive: tf.Tensor


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class ZForcingCell(LatentCell):
    """`p(z[t] | h[t-1])`, `q(z[t] | h[t-1], b[t])`, `h[t] = LSTM([code(z[t]), e(x[t])], h[t-1])`.

    Args:
        embedding: e, shared by the core and the backward encoder.
        backward_encoder: runs over y from the end of each sequence.
        prior: a `ConditionalGaussian` of h.
        posterior: a `ConditionalGaussian` of (h, b).
        core: the forward LSTM.
    """

    def __init__(
        self,
        embedding: Embedding,
        backward_encoder: BackwardEncoder,
        prior: ConditionalGaussian,
        posterior: ConditionalGaussian,
        core: RecurrentCore,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embedding = embedding
        self.backward_encoder = backward_encoder
        self.prior_network = prior
        self.posterior_network = posterior
        self.core = core
        self.latent_size = prior.size
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
        drive = self.backward_encoder.drive(self.embedding, targets)
        states = self.backward_encoder(drive, mask, initial_state=initial_state, training=training)
        mlp = self.posterior_network.mlp
        return Context(mlp.share(1, states) + mlp.read(mlp.bias_1), states)

    def loop_weights(self, latent_from: Literal["posterior", "prior"]) -> ZForcingWeights:
        mlp = self.posterior_network.mlp
        state = self.core.read(self.core.recurrent_kernel)
        if latent_from == "prior":
            return ZForcingWeights(Product(state), None, self.core.loop_weights())
        merged = Product(tf.concat([mlp.share_kernel(0), state], axis=1))
        return ZForcingWeights(merged, mlp.head_product(), self.core.loop_weights())

    def condition(
        self, weights: ZForcingWeights, state: LSTMState, drive: tf.Tensor
    ) -> Conditioning:
        product = weights.state(state.h)
        gates = 4 * self.core.units
        return Conditioning(state, product[:-gates], product[-gates:], drive)

    def past(self, conditioning: Conditioning) -> tf.Tensor:
        return conditioning.state.h

    def prior(self, past: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loc, scale = self.prior_network(past)
        return loc, scale

    def posterior(
        self, weights: ZForcingWeights, conditioning: Conditioning, context: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        assert weights.posterior is not None  # made for the prior alone
        hidden = conditioning.hidden + context
        return loc_and_scale(MLP.head(weights.posterior, hidden), axis=0)

    def advance(
        self, weights: ZForcingWeights, conditioning: Conditioning, latent: tf.Tensor
    ) -> tuple[LSTMState, tf.Tensor]:
        gates = RecurrentCore.gates(
            weights.core, conditioning.recurrent, conditioning.drive, latent
        )
        state = lstm(gates, conditioning.state.c)
        return state, state.h

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        parts = {
            "embedding": self.embedding,
            "backward_encoder": self.backward_encoder,
            "prior": self.prior_network,
            "posterior": self.posterior_network,
            "core": self.core,
        }
        return {**super().get_config(), **serialised(parts)}
