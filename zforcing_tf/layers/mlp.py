"""The small network of the paper: one hidden layer, whose first product can be shared out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product, linear


def lrelu3(x: tf.Tensor) -> tf.Tensor:
    """Leaky rectifier with slope 1/3, limited to [-3, 3]."""
    # tf.nn.leaky_relu keeps its slope in float32, whatever x is.
    return tf.clip_by_value(tf.maximum(x, x / 3.0), -3.0, 3.0)


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class MLP(WeightedLayer):
    """`lrelu3([x_0, x_1, ...] W1 + b1) W2 + b2`, for inputs that are known at different times.

    The first product is a sum of one product for each input. Inputs known before the time loop
    contribute their share there, in one large product over `[T * B, .]`; only the state's share is
    left for the loop.

    Args:
        input_sizes: width of each input, in the order of the rows of W1.
        hidden_size: M, width of the hidden layer.
        output_size: width of the output.
        initializer: of both matrices. Biases start at zero.
    """

    def __init__(
        self,
        input_sizes: Sequence[int],
        hidden_size: int,
        output_size: int,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_sizes = tuple(input_sizes)
        self.hidden_size = hidden_size
        self.output_size = output_size
        self.initializer = keras.initializers.get(initializer)
        self.kernel_1 = self.kernel(
            "kernel_1", (sum(self.input_sizes), hidden_size), self.initializer
        )
        self.bias_1 = self.vector("bias_1", hidden_size)
        self.kernel_2 = self.kernel("kernel_2", (hidden_size, output_size), self.initializer)
        self.bias_2 = self.vector("bias_2", output_size)

    def share_kernel(self, index: int) -> tf.Tensor:
        """Rows of W1 that meet input `index`: `[input_sizes[index], M]`."""
        start = sum(self.input_sizes[:index])
        return self.read(self.kernel_1)[start : start + self.input_sizes[index]]

    def share(self, index: int, x: tf.Tensor, bias: bool = False) -> tf.Tensor:
        """Share of input `index`, [..., input_sizes[index]], in the hidden layer [..., M].

        The bias belongs to one of the shares.
        """
        share = linear(x, self.share_kernel(index))
        return share + self.read(self.bias_1) if bias else share

    def first_product(self, bias: bool = True) -> Product:
        """Share of the first input, for a loop; with one input it is the first layer."""
        return Product(self.share_kernel(0), bias=self.read(self.bias_1) if bias else None)

    def head_product(self) -> Product:
        """The second layer for a loop."""
        return Product(self.read(self.kernel_2), bias=self.read(self.bias_2))

    @staticmethod
    def head(product: Product, hidden: tf.Tensor) -> tf.Tensor:
        """Output [output, B] from hidden pre-activations [M, B], in the loop."""
        return product(lrelu3(hidden))

    def call(self, *inputs: tf.Tensor) -> tf.Tensor:
        """The whole network at once, on inputs `[..., input_sizes[i]]`."""
        hidden = self.read(self.bias_1)
        for index, x in enumerate(inputs):
            hidden = self.share(index, x) + hidden
        if not self.output_size:
            # A latent of size 0. oneDNN, where it fuses product and bias, ends the process instead.
            return hidden[..., :0]
        return linear(lrelu3(hidden), self.read(self.kernel_2)) + self.read(self.bias_2)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "input_sizes": list(self.input_sizes),
            "hidden_size": self.hidden_size,
            "output_size": self.output_size,
            "initializer": keras.initializers.serialize(self.initializer),
        }
