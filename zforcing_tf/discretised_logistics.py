"""Mixtures of logistics on evenly spaced levels, the usual distribution of quantised sound.

The L = 2^bits levels lie over [-1, 1], `x[k] = 2 k / (L - 1) - 1`. Positions are counted in levels
from the middle, `x (L - 1) / 2`, so that levels are exactly ... -3/2, -1/2, 1/2, 3/2 ... and half a
level to both sides is exact too, for as many bits as float32 holds.

References:
    Salimans et al. 2017, PixelCNN++, arXiv 1701.05517. Havtorn et al. 2022, Benchmarking Generative
    Latent Variable Models for Speech, arXiv 2202.12707.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def nearest_level(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Position of the level nearest to x: a half-integer within +-(L - 1) / 2."""
    last = 0.5 * (2**bits - 1)
    return tf.clip_by_value(tf.round(_position(x, bits) - 0.5) + 0.5, -last, last)


def rounded(x: tf.Tensor, bits: int) -> tf.Tensor:
    """The value, within [-1, 1], of the level nearest to x."""
    return nearest_level(x, bits) / (0.5 * (2**bits - 1))


def _position(x: tf.Tensor, bits: int) -> tf.Tensor:
    # Not x * (L - 1) / 2: a product with a power of two is exact.
    return x * 2.0 ** (bits - 1) - 0.5 * x


class DiscretisedLogistics(tfp.distributions.Distribution):
    """Mixture of K logistics, of which each level takes what lies nearest to it; scalar events.

        P(x[k]) = sum_i w[i] (F_i(x[k] + 1 / (L - 1)) - F_i(x[k] - 1 / (L - 1)))

    with F_i = sigmoid((x - loc[i]) / scale[i]); the first and the last level take the tails. A
    number between two levels counts as the nearer one, a number outside of [-1, 1] as -1 or 1.

    Args:
        logits: of the weights w, [..., K].
        loc: [..., K].
        scale: [..., K], above 0.
        bits: base-2 logarithm of L.
        name: of the operations.
    """

    def __init__(
        self,
        logits: tf.Tensor,
        loc: tf.Tensor,
        scale: tf.Tensor,
        bits: int,
        name: str = "DiscretisedLogistics",
    ) -> None:
        parameters = dict(locals())
        self._logits, self._loc, self._scale, self._bits = logits, loc, scale, bits
        super().__init__(
            dtype=logits.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: tf.DType, num_classes: int | None = None) -> Any:
        vector = tfp.util.ParameterProperties(event_ndims=1)
        return {"logits": vector, "loc": vector, "scale": vector}

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        level = nearest_level(x, self._bits)[..., tf.newaxis]
        # In this order the distance is exact near loc, where a narrow logistic has its mass.
        distance = (level - self._loc * 2.0 ** (self._bits - 1)) + 0.5 * self._loc
        scale = self._scale * (0.5 * (2**self._bits - 1))
        # log(F(b) - F(a)) = log F(b) + log F(-a) + log(1 - exp(a - b)) never subtracts neighbours.
        below_upper_edge = tf.math.log_sigmoid((distance + 0.5) / scale)
        above_lower_edge = tf.math.log_sigmoid((0.5 - distance) / scale)
        inside = below_upper_edge + above_lower_edge + tf.math.log(-tf.math.expm1(-1.0 / scale))
        last = 0.5 * (2**self._bits - 1)
        each = tf.where(level == last, above_lower_edge, inside)
        each = tf.where(level == -last, below_upper_edge, each)
        return tf.reduce_logsumexp(tf.nn.log_softmax(self._logits) + each, axis=-1)

    def _mean(self) -> tf.Tensor:
        """That of the mixture with its tails at -1 and 1, before it is rounded to levels.

        Rounding moves it by half a level at most.
        """
        loc, scale = self._loc, self._scale
        length = scale * (tf.nn.softplus((loc + 1) / scale) - tf.nn.softplus((loc - 1) / scale))
        each = tf.clip_by_value(length - 1, -1, 1)  # it is within, but for rounding errors
        return tf.reduce_sum(tf.nn.softmax(self._logits) * each, axis=-1)

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        choice_seed, seed = tfp.random.split_seed(seed, n=2)
        choice = tfd.OneHotCategorical(logits=self._logits, dtype=self.dtype)
        chosen = choice.sample(n, seed=choice_seed)
        loc, scale = (tf.reduce_sum(chosen * v, axis=-1) for v in (self._loc, self._scale))
        return rounded(tfd.Logistic(loc, scale).sample(seed=seed), self._bits)
