"""How layers of this package make and read their weights."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

SERIAL_PACKAGE = "zforcing_tf"
"""Name under which Keras registers the layers."""


class WeightedLayer(keras.layers.Layer):
    """A layer whose methods, not only its `call`, read weights in the compute dtype.

    The time loop calls methods of layers (`share`, `head`, `gates`) outside of `Layer.__call__`,
    where Keras does not cast variables by itself. All sizes are constructor arguments, so weights
    are made at once.
    """

    def kernel(self, name: str, shape: tuple[int, int], initializer: Any) -> keras.Variable:
        """Adds a matrix `[in, out]`; a size of zero is allowed (a latent of size 0)."""
        if 0 in shape:
            initializer = "zeros"  # initialisers divide by the size
        elif isinstance(initializer, keras.initializers.Initializer):
            initializer = initializer.clone()  # an instance gives the same numbers at each call
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def vector(self, name: str, size: int, initializer: str = "zeros") -> keras.Variable:
        """Adds a vector `[size]`."""
        return self.add_weight(name=name, shape=(size,), initializer=initializer)

    def read(self, variable: keras.Variable) -> tf.Tensor:
        """The variable as a tensor of the compute dtype."""
        return tf.cast(tf.convert_to_tensor(variable.value), self.compute_dtype)

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: weights were made by the constructor."""
        self.built = True


def initializer(name: str, recurrent_size: int) -> keras.initializers.Initializer:
    """The initialiser of all matrices but the recurrent ones, which are orthogonal.

    Args:
        name: `uniform`, U(-1/sqrt(H), 1/sqrt(H)) as in the released code, or `normal`, N(0, 0.01^2)
            as in the code of the paper's experiments.
        recurrent_size: H.
    """
    if name == "uniform":
        limit = recurrent_size**-0.5
        return keras.initializers.RandomUniform(-limit, limit)
    if name == "normal":
        return keras.initializers.RandomNormal(stddev=0.01)
    raise ValueError(f"initializer must be 'uniform' or 'normal', not {name!r}")


def serialised(parts: dict[str, Any]) -> dict[str, Any]:
    """Layers among the constructor arguments, as Keras stores them."""
    return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}


def deserialised(config: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `serialised` for a whole `get_config`."""
    return {
        name: keras.saving.deserialize_keras_object(value)
        if isinstance(value, dict) and "class_name" in value and name != "dtype"
        else value
        for name, value in config.items()
    }
