"""How the numbers of one frame depend on each other: the masked network of an emission."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zforcing_tf.layers.mlp import lrelu3
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import linear
from zforcing_tf.unroll import loop


class Rows(NamedTuple):
    """The masked weights by number of a frame, for a loop over these; entry d of each."""

    hidden: tf.Tensor
    """[D, M]: what x[d] adds to the hidden layer."""
    direct: tf.Tensor
    """[D, D, P]: what x[d] adds to the parameters of all numbers."""
    output: tf.Tensor
    """[D, M, P]: from the hidden layer to the parameters of x[d]."""


class Dense(NamedTuple):
    """The masked weights of all numbers of a frame at once."""

    from_x: tf.Tensor
    """[D, M + D P]: from x to the hidden layer and to the parameters."""
    output: tf.Tensor
    """[M, D P]: from the hidden layer to the parameters."""


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class MaskedNetwork(WeightedLayer):
    """From what is given, and from the numbers before x[d] in its frame, to the parameters of x[d].

        h    = lrelu3(given_h + sum_j x[j] W[j])                W[j, i] = 0 unless j < degree[i]
        p[d] = given_p[d] + h V[:, d] + sum_j x[j] A[j, d]      V[i, d] = 0 unless degree[i] <= d
                                                                A[j, d] = 0 unless j < d

    for d = 0 ... D-1, with M hidden units of degrees floor(i D / M): a unit of degree m sees m
    numbers and serves those behind them. Without hidden units it is linear; with logits as
    parameters, a fully visible sigmoid belief network. Biases belong to what is given.

    Args:
        frame_size: D.
        hidden_size: M, 0 for none.
        parameter_size: P, of one number.
        initializer: of the matrices.

    References:
        Germain et al. 2015, MADE: Masked Autoencoder for Distribution Estimation, arXiv 1502.03509;
        there without anything given, and with random degrees.
    """

    def __init__(
        self,
        frame_size: int,
        hidden_size: int,
        parameter_size: int,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frame_size = frame_size
        self.hidden_size = hidden_size
        self.parameter_size = parameter_size
        self.initializer = keras.initializers.get(initializer)
        outputs = frame_size * parameter_size
        self.input_kernel = self.kernel("input_kernel", (frame_size, hidden_size), self.initializer)
        self.direct_kernel = self.kernel("direct_kernel", (frame_size, outputs), self.initializer)
        self.output_kernel = self.kernel("output_kernel", (hidden_size, outputs), self.initializer)

    @property
    def given_size(self) -> int:
        """M + D P: hidden pre-activations, and the parameters of each number."""
        return self.hidden_size + self.frame_size * self.parameter_size

    def rows(self) -> Rows:
        """The weights of `draw`; made before a loop over frames, not in it."""
        return Rows(self._hidden(), self._direct(), tf.transpose(self._output(), (1, 0, 2)))

    def _hidden(self) -> tf.Tensor:
        """W [D, M], its mask applied."""
        seen = np.arange(self.frame_size)[:, np.newaxis] < self._degrees
        return _selected(seen, self.read(self.input_kernel))

    def _direct(self) -> tf.Tensor:
        """A [D, D, P], its mask applied."""
        d, p = self.frame_size, self.parameter_size
        behind = np.triu(np.ones((d, d), bool), 1)[..., np.newaxis]
        return _selected(behind, tf.reshape(self.read(self.direct_kernel), (d, d, p)))

    def _output(self) -> tf.Tensor:
        """V [M, D, P], its mask applied."""
        shape = (self.hidden_size, self.frame_size, self.parameter_size)
        served = self._degrees[:, np.newaxis] <= np.arange(self.frame_size)
        return _selected(served[..., np.newaxis], tf.reshape(self.read(self.output_kernel), shape))

    @property
    def _degrees(self) -> np.ndarray:
        return np.arange(self.hidden_size) * self.frame_size // max(self.hidden_size, 1)

    def dense(self) -> Dense:
        """The weights of `call`; made before a loop over frames, not in it."""
        d, m, p = self.frame_size, self.hidden_size, self.parameter_size
        from_x = tf.concat([self._hidden(), tf.reshape(self._direct(), (d, d * p))], axis=1)
        return Dense(from_x, tf.reshape(self._output(), (m, d * p)))

    def call(self, given: tf.Tensor, x: tf.Tensor, weights: Dense | None = None) -> tf.Tensor:
        """Parameters [..., D, P] of frames that are known, in two products.

        Args:
            given: [..., M + D P].
            x: [..., D].
            weights: `dense()`, if it was made before.
        """
        d, m, p = self.frame_size, self.hidden_size, self.parameter_size
        weights = weights or self.dense()
        hidden, parameters = tf.split(given + linear(x, weights.from_x), [m, d * p], axis=-1)
        if m:  # oneDNN may abort the process over a product with a size of zero
            parameters += linear(lrelu3(hidden), weights.output)
        return tf.reshape(parameters, tf.concat([tf.shape(x), [p]], 0))

    def draw(
        self,
        rows: Rows,
        given: tf.Tensor,
        noise: tf.Tensor,
        draw_one: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ) -> tf.Tensor:
        """A frame [..., D], number by number, each given those before it.

        Each number, once drawn, is added to what is given by one row of the weights, so a frame
        costs no more than the network does once.

        Args:
            rows: `rows()`.
            given: [..., M + D P].
            noise: [..., D N].
            draw_one: `draw_one(parameters [..., P], noise [..., N]) -> x[d] [..., 1]`.
        """
        d, m, p = self.frame_size, self.hidden_size, self.parameter_size
        leading = tf.shape(given)[:-1]
        hidden, parameters = tf.split(given, [m, d * p], axis=-1)
        parameters = tf.reshape(parameters, tf.concat([leading, [d, p]], 0))
        noise = tf.reshape(noise, tf.concat([leading, [d, tf.shape(noise)[-1] // d]], 0))
        axes = list(range(given.shape.rank + 1))
        noise = tf.transpose(noise, [axes[-2], *axes[:-2], axes[-1]])

        def step(now: Any, inputs: Any) -> tuple[Any, tf.Tensor]:
            (hidden, parameters), (place, noise) = now, inputs
            own = tf.gather(parameters, place, axis=-2)
            if m:
                own += tf.matmul(lrelu3(hidden), rows.output[place])
            x = draw_one(own, noise)
            hidden += x * rows.hidden[place]
            parameters += x[..., tf.newaxis] * rows.direct[place]
            return (hidden, parameters), x

        inputs = (tf.range(d), noise)
        _, x = loop(step, (hidden, parameters), inputs, given.dtype, reverse=False)
        x = tf.reshape(x, tf.concat([[d], leading], 0))
        x = tf.transpose(x, [*axes[1:-1], axes[0]])
        return tf.ensure_shape(x, [*given.shape[:-1], d])

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "frame_size": self.frame_size,
            "hidden_size": self.hidden_size,
            "parameter_size": self.parameter_size,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def _selected(mask: np.ndarray, kernel: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.constant(mask), kernel, tf.zeros_like(kernel))
