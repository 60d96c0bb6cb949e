"""The LSTM, its products laid open to the time loop, and how a latent enters it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product

Condition = Literal["concat", "layer_norm"]
MODULATION_LIMIT = 3.0
EPSILON = 1e-5


class LSTMState(NamedTuple):
    """Output and cell of an LSTM, [B, H] each; [H, B] in the loop."""

    h: tf.Tensor
    c: tf.Tensor


class CoreWeights(NamedTuple):
    """What the latent meets in the loop, read once before it; an unused part is None."""

    latent: Product | None
    """`[Z, 4H]`: the linear code of z merged into the gates' kernel."""
    modulation: tuple[Product, Product] | None
    """Both layers of MLP_gen of `condition="layer_norm"`."""


def lstm(gates: tf.Tensor, c: tf.Tensor) -> LSTMState:
    """The point-wise part, from pre-activations [4H, B]: input, forget, candidate, output."""
    i, f, g, o = tf.split(gates, 4, axis=0)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return LSTMState(tf.sigmoid(o) * tf.tanh(c), c)


def normalise(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Layer normalisation over an axis, variance with divisor n - 1, in float32 at least."""
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    centred = wide - tf.reduce_mean(wide, axis=axis, keepdims=True)
    divisor = tf.cast(tf.shape(x)[axis] - 1, wide.dtype)
    variance = tf.reduce_sum(tf.square(centred), axis=axis, keepdims=True) / divisor
    return tf.cast(centred * tf.math.rsqrt(variance + EPSILON), x.dtype)


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class RecurrentCore(WeightedLayer):
    """An LSTM over `[code(z), e(x)]`.

    `condition="concat"`: `gates = [code(z), e(x)] W_ih + h W_hh + b`, with `code(z) = z W_z + b_z`.
    `condition="layer_norm"`: z enters only through the recurrent layer normalisation, `gates =
    LN(e(x) W_ih) * gain + shift + LN(h W_hh) * (1 + u) + v`, `(u, v) = clip(MLP(z), -3, 3)`.

    Args:
        units: H.
        embedding_size: E, width of e(x).
        latent_size: Z; 0 for an LSTM without a latent.
        code_size: M, width of code(z) or of the hidden layer of the MLP.
        condition: how the latent enters.
        initializer: of all matrices but the recurrent one, which is orthogonal.
    """

    def __init__(
        self,
        units: int,
        embedding_size: int,
        latent_size: int = 0,
        code_size: int = 0,
        condition: Condition = "concat",
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if condition not in ("concat", "layer_norm"):
            raise ValueError(f"condition must be 'concat' or 'layer_norm', not {condition!r}")
        self.units = units
        self.embedding_size = embedding_size
        self.latent_size = latent_size
        self.code_size = code_size
        self.condition = condition
        self.initializer = keras.initializers.get(initializer)
        gates = 4 * units
        self.input_kernel = self.kernel("input_kernel", (embedding_size, gates), self.initializer)
        self.recurrent_kernel = self.kernel("recurrent_kernel", (units, gates), "orthogonal")
        if condition == "layer_norm":
            self.gain = self.vector("gain", gates, "ones")
            self.shift = self.vector("shift", gates)
            self.modulation = MLP(
                (latent_size,), code_size, 2 * gates, self.initializer, dtype=self.dtype_policy
            )
            return
        self.bias = self.vector("bias", gates)
        if latent_size:
            self.code_kernel = self.kernel(
                "code_kernel", (latent_size, code_size), self.initializer
            )
            self.code_bias = self.vector("code_bias", code_size)
            self.code_input_kernel = self.kernel(
                "code_input_kernel", (code_size, gates), self.initializer
            )

    def initial_state(self, batch_size: int | tf.Tensor) -> LSTMState:
        """Zeros, `[batch_size, H]` each."""
        zeros = tf.zeros((batch_size, self.units), self.compute_dtype)
        return LSTMState(zeros, zeros)

    def drive(self, embedding: Embedding, x: tf.Tensor, keep: tf.Tensor | None = None) -> tf.Tensor:
        """The data's share of the gates, every bias included: `[..., 4H]` from x `[..., D]`."""
        kernel = self.read(self.input_kernel)
        if self.condition == "layer_norm":
            projected = normalise(embedding.project(x, kernel, 0.0, keep))
            return projected * self.read(self.gain) + self.read(self.shift)
        bias = self.read(self.bias)
        if self.latent_size:
            code_kernel = self.read(self.code_input_kernel)
            bias += tf.linalg.matvec(code_kernel, self.read(self.code_bias), transpose_a=True)
        return embedding.project(x, kernel, bias, keep)

    def loop_weights(self) -> CoreWeights:
        """What the latent meets in the loop.

        The recurrent kernel is merged with others by the cell.
        """
        if self.condition == "layer_norm":
            mlp = self.modulation
            return CoreWeights(None, (mlp.first_product(), mlp.head_product()))
        if not self.latent_size:
            return CoreWeights(None, None)
        code_kernel, input_kernel = self.read(self.code_kernel), self.read(self.code_input_kernel)
        return CoreWeights(Product(tf.matmul(code_kernel, input_kernel)), None)

    @staticmethod
    def gates(
        weights: CoreWeights, recurrent: tf.Tensor, drive: tf.Tensor, latent: tf.Tensor | None
    ) -> tf.Tensor:
        """Pre-activations [4H, B] from `h W_hh` [4H, B], the drive [4H, B] and z [Z, B]."""
        if weights.modulation is not None:
            first, head = weights.modulation
            modulation = MLP.head(head, first(latent))
            modulation = tf.clip_by_value(modulation, -MODULATION_LIMIT, MODULATION_LIMIT)
            u, v = tf.split(modulation, 2, axis=0)
            return drive + normalise(recurrent, axis=0) * (1.0 + u) + v
        if weights.latent is not None:
            drive = drive + weights.latent(latent)
        return drive + recurrent

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "embedding_size": self.embedding_size,
            "latent_size": self.latent_size,
            "code_size": self.code_size,
            "condition": self.condition,
            "initializer": keras.initializers.serialize(self.initializer),
        }
