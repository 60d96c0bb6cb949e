"""SRNN (Fraccaro et al. 2016): a chain of latents over a deterministic core, smoothed backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from zforcing_tf.cells.latent_cell import Context, LatentCell, LatentFrom, LatentState
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian, loc_and_scale
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE
from zforcing_tf.products import Product


class Step(NamedTuple):
    """What stands before the latent of a step, or the products that make it; () where unused."""

    core: Any  # state d[t]; the core's products
    hidden: Any  # share of d[t] in the prior's first layer
    posterior: Any = ()  # share of z[t-1] in the posterior's first layer; second layer
    prior: Any = ()  # loc and scale; second layer
    latent: Any = ()  # only as a product: z[t-1] meets both first layers


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class SRNNCell(LatentCell):
    """`d[t] = core(e(x[t]), d[t-1])`, `p(z[t] | d[t], z[t-1])`, `q(z[t] | a[t], z[t-1])`.

    a[t] has read [d, e(y)] from the end down to t (`backward_encoder`). The posterior's mean is
    added to the prior's (`res_q` of the paper). The emission sees d[t] and z[t].
    """

    carries_latent = True
    past_structure = (None, None)
    backward_encoder: Encoder
    prior_network: ConditionalGaussian

    def run_ahead(self, state: LatentState, x: Any, keep: Any = None, training: Any = False) -> Any:
        return self.core.states(self.embedding, x, state.core, keep, training)

    def given(self, ahead: Any, x: Any, keep: Any = None) -> Step:
        return Step(ahead, self.prior_network.mlp.share(0, ahead.h, bias=True))

    def context(self, ahead: Any, targets: Any, mask: Any, *how: Any) -> Context:
        states, _ = self.backward_encoder.states(self.embedding, targets, mask, ahead.h, *how)
        return Context(self.posterior_network.mlp.share(0, states, bias=True), None)

    def loop_weights(self, latent_from: LatentFrom) -> Step:
        p, q = self.prior_network.mlp, self.posterior_network.mlp
        if latent_from == "prior":
            core, latent = self.core.loop_weights(), Product(p.share_kernel(1))
            return Step(core, p.first_product(), (), p.head_product(), latent)
        latent = Product(p.share_kernel(1), q.share_kernel(1))
        return Step((), (), q.head_product(), p.head_product(), latent)

    def condition(self, weights: Step, state: LatentState, given: Any) -> Step:
        if not isinstance(given, Step):  # the drive
            core = self.core.step(weights.core, state.core, given)
            given = Step(core, weights.hidden(core.h))
        latent = weights.latent(state.latent)
        p, q = latent if isinstance(latent, list) else (latent, ())
        prior = loc_and_scale(MLP.head(weights.prior, given.hidden + p), axis=0)
        return Step(given.core, (), q, prior)

    def past(self, conditioning: Step) -> Any:
        return conditioning.prior

    def prior(self, past: Any) -> Any:
        return past

    def posterior(self, weights: Step, conditioning: Step, context: Any) -> Any:
        q = MLP.head(weights.posterior, conditioning.posterior + context)
        loc, scale = loc_and_scale(q, axis=0)
        return conditioning.prior[0] + loc, scale

    def advance(self, weights: Step, conditioning: Step, latent: Any) -> Any:
        return LatentState.after(conditioning.core, latent)
