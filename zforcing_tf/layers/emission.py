"""From features to the parameters of the next frame's distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zforcing_tf.distributions import FAMILIES, EmissionName, widened
from zforcing_tf.layers.embedding import START_SYMBOL
from zforcing_tf.layers.mlp import lrelu3
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Emission(WeightedLayer):
    """From `[features, skip]` to emission parameters, float32 at least; linear or a hidden layer.

    Args:
        family: name of the distribution.
        frame_size: D, or number of symbols.
        feature_size: F, width of the features.
        skip_size: E if the emission also sees e(x[t]), else 0.
        hidden_size: width of a hidden layer, 0 for none.
        components: of a mixture.
        initializer: of the matrices.
    """

    def __init__(
        self,
        family: EmissionName,
        frame_size: int,
        feature_size: int,
        skip_size: int = 0,
        hidden_size: int = 0,
        components: int = 1,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.family = FAMILIES[family](frame_size, components)
        self.family_name = family
        self.feature_size = feature_size
        self.skip_size = skip_size
        self.hidden_size = hidden_size
        self.initializer = keras.initializers.get(initializer)
        inputs, outputs = feature_size + skip_size, self.family.parameter_size
        if hidden_size:
            self.hidden_kernel = self.kernel(
                "hidden_kernel", (inputs, hidden_size), self.initializer
            )
            self.hidden_bias = self.vector("hidden_bias", hidden_size)
        self.output_kernel = self.kernel(
            "output_kernel", (hidden_size or inputs, outputs), self.initializer
        )
        self.output_bias = self.vector("output_bias", outputs)

    @property
    def frame_dtype(self) -> tf.DType:
        """Of x: int32 for symbols, else that of the weights."""
        return tf.int32 if self.family.symbols else tf.as_dtype(self.variable_dtype)

    def first_input(self, batch_size: tf.Tensor) -> tf.Tensor:
        """What stands before the first frame: zeros [B, D], or the start symbol [B] int32."""
        if self.family.symbols:
            return tf.fill([batch_size], START_SYMBOL)
        return tf.zeros((batch_size, self.family.frame_size), self.frame_dtype)

    def skip(self, cell: LatentCell, x: tf.Tensor) -> tf.Tensor | None:
        """What `call` takes as its second argument for inputs x: e(x), or None without a skip."""
        return cell.embed(x) if self.skip_size else None

    def call(self, features: tf.Tensor, skip: tf.Tensor | None = None) -> tf.Tensor:
        """Parameters [..., P] of `family`, from features [..., F] and, if any, e(x) [..., E]."""
        x = features if skip is None else tf.concat([features, skip], axis=-1)
        if self.hidden_size:
            x = lrelu3(tf.matmul(x, self.read(self.hidden_kernel)) + self.read(self.hidden_bias))
        return widened(tf.matmul(x, self.read(self.output_kernel)) + self.read(self.output_bias))

    def log_prob(self, parameters: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """log p(x), [...] nats, of frames [..., D] or symbols [...]; a start symbol counts as 0."""
        x = tf.maximum(x, 0) if self.family.symbols else tf.cast(x, parameters.dtype)
        return self.family.distribution(parameters).log_prob(x)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "family": self.family_name,
            "frame_size": self.family.frame_size,
            "feature_size": self.feature_size,
            "skip_size": self.skip_size,
            "hidden_size": self.hidden_size,
            "components": self.family.components,
            "initializer": keras.initializers.serialize(self.initializer),
        }
