"""The auxiliary network: the latent must predict the backward state."""

from __future__ import annotations

from typing import Any, Literal

import keras
import tensorflow as tf

from zforcing_tf.distributions import normal, widened
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Auxiliary(WeightedLayer):
    """`a(b[t] | z[t] [, h[t-1]]) = N(tanh(loc_a), scale_a)`, or a squared distance in its place.

    Args:
        latent_size: Z.
        backward_size: width of b.
        hidden_size: M.
        past_size: width of h if the network sees it, else 0. (The released code calls "does not see
            it" `z_force` and feeds zeros.)
        loss: `gaussian`, or `l2` for `-sum (b - tanh(loc_a))^2`.
        initializer: of the matrices.
    """

    def __init__(
        self,
        latent_size: int,
        backward_size: int,
        hidden_size: int,
        past_size: int = 0,
        loss: Literal["gaussian", "l2"] = "gaussian",
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if loss not in ("gaussian", "l2"):
            raise ValueError(f"loss must be 'gaussian' or 'l2', not {loss!r}")
        self.latent_size = latent_size
        self.past_size = past_size
        self.loss = loss
        sizes = (past_size, latent_size) if past_size else (latent_size,)
        self.network = ConditionalGaussian(
            sizes, hidden_size, backward_size, initializer, dtype=self.dtype_policy
        )

    def call(self, past: tf.Tensor, latent: tf.Tensor, backward_states: tf.Tensor) -> tf.Tensor:
        """`log a(b | z)` (or minus the squared distance), [...], nats, float32 at least.

        The target is a constant: no gradient reaches the backward network from here but through z.

        Args:
            past: h[t-1], [..., H]; ignored unless the network sees it.
            latent: z, [..., Z].
            backward_states: b, [..., H].
        """
        inputs = (past, latent) if self.past_size else (latent,)
        loc, scale = self.network(*inputs)
        loc, target = tf.tanh(widened(loc)), widened(tf.stop_gradient(backward_states))
        if self.loss == "l2":
            return -tf.reduce_sum(tf.square(target - loc), axis=-1)
        return normal(loc, scale).log_prob(target)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        network = self.network.get_config()
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "backward_size": network["size"],
            "hidden_size": network["hidden_size"],
            "past_size": self.past_size,
            "loss": self.loss,
            "initializer": network["initializer"],
        }
