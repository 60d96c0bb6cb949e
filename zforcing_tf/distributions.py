"""Emission families: parameter tensors -> TFP distributions, float32 at least.

A family also draws from its distribution by *transforming standard normal noise that it is given*,
so that noise can be drawn before the time loop, row by row from a seed of its own, and so that a
sample moves smoothly as its temperature falls. Tests hold the samples against the distributions.
"""

from __future__ import annotations

import abc
import math
from typing import Any, Literal, TypeAlias

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions
Distribution: TypeAlias = Any
"""A `tfd.Distribution`; TFP comes without types."""

EmissionName = Literal["bernoulli", "gaussian", "categorical", "gaussian_mixture"]
LOWEST_TEMPERATURE = 1e-6
"""Stands for temperature 0, where every family gives its mode."""


def widened(x: tf.Tensor) -> tf.Tensor:
    """Raises bfloat16 and float16 to float32; distributions need it. float64 stays."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def normal(loc: tf.Tensor, scale: tf.Tensor) -> Distribution:
    """Diagonal Gaussian over the last axis."""
    return tfd.Independent(tfd.Normal(widened(loc), widened(scale)), 1)


def _gumbel(noise: tf.Tensor) -> tf.Tensor:
    """Standard Gumbel from standard normal noise, exact in both tails."""
    return -tf.math.log(-tfd.Normal(tf.zeros((), noise.dtype), 1.0).log_cdf(noise))


class EmissionFamily(abc.ABC):
    """A family of distributions of a frame.

    Args:
        frame_size: D, width of a frame; number of symbols where a frame is one symbol.
        components: of a mixture.
    """

    symbols = False
    """Whether a frame is one symbol, int32, rather than a vector."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """Least and greatest number of a frame that `distribution` has a meaning for."""

    def __init__(self, frame_size: int, components: int = 1) -> None:
        self.frame_size = frame_size
        self.components = components

    @property
    @abc.abstractmethod
    def parameter_size(self) -> int:
        """Number of parameters of one frame."""

    @property
    @abc.abstractmethod
    def noise_size(self) -> int:
        """Number of standard normals that one sample takes."""

    @abc.abstractmethod
    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Distribution of frames from parameters [..., parameter_size]; batch shape [...]."""

    @abc.abstractmethod
    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """A frame [..., D] (symbol [...] int32) from standard normal noise [..., noise_size].

        Args:
            parameters: [..., parameter_size].
            noise: [..., noise_size].
            temperature: [..., 1] or scalar; 1 samples the distribution, 0 gives its mode.
        """

    @abc.abstractmethod
    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        """Expected frame [..., D]; for symbols the probabilities [..., V]."""


class Bernoulli(EmissionFamily):
    """Independent binary dimensions; parameters are logits [..., D].

    A number between 0 and 1 counts as a probability: its log_prob is the expectation.
    """

    limits = (0.0, 1.0)

    @property
    def parameter_size(self) -> int:
        return self.frame_size

    @property
    def noise_size(self) -> int:
        return self.frame_size

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        logits = widened(parameters)
        return tfd.Independent(tfd.Bernoulli(logits=logits, dtype=logits.dtype), 1)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        # P(n <= ndtri(p)) = p; compared on the scale of p, where nothing is infinite. Equality
        # counts: noise beyond 5.4 gives a uniform of exactly 1 in float32, and so does a large
        # logit.
        probability = tf.sigmoid(parameters / tf.maximum(temperature, LOWEST_TEMPERATURE))
        uniform = 0.5 * tf.math.erfc(-noise * 0.5**0.5)
        return tf.cast(uniform <= probability, parameters.dtype)

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(parameters)


class Gaussian(EmissionFamily):
    """Independent real numbers; parameters are means and log variances [..., 2 D], unlimited."""

    @property
    def parameter_size(self) -> int:
        return 2 * self.frame_size

    @property
    def noise_size(self) -> int:
        return self.frame_size

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        loc, log_variance = tf.split(widened(parameters), 2, axis=-1)
        return normal(loc, tf.exp(0.5 * log_variance))

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        loc, log_variance = tf.split(parameters, 2, axis=-1)
        return loc + temperature * tf.exp(0.5 * log_variance) * noise

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        return tf.split(parameters, 2, axis=-1)[0]


class Categorical(EmissionFamily):
    """One symbol out of V = frame_size; parameters are logits [..., V]."""

    symbols = True

    @property
    def parameter_size(self) -> int:
        return self.frame_size

    @property
    def noise_size(self) -> int:
        return self.frame_size

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        return tfd.Categorical(logits=widened(parameters))

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        perturbed = parameters + temperature * _gumbel(noise)
        return tf.argmax(perturbed, axis=-1, output_type=tf.int32)

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(parameters)


class GaussianMixture(EmissionFamily):
    """Mixture over whole frames of K diagonal Gaussians.

    Parameters [..., K (1 + 2 D)]: K logits, then K means and K log variances of D each.
    At temperature 0 a sample is the mean of the component with the largest logit.
    """

    @property
    def parameter_size(self) -> int:
        return self.components * (1 + 2 * self.frame_size)

    @property
    def noise_size(self) -> int:
        return self.components + self.frame_size

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits [..., K], loc and scale [..., K, D]."""
        logits, rest = tf.split(parameters, [self.components, -1], axis=-1)
        shape = tf.concat([tf.shape(rest)[:-1], [2, self.components, self.frame_size]], 0)
        loc, log_variance = tf.unstack(tf.reshape(rest, shape), axis=-3)
        return logits, loc, tf.exp(0.5 * log_variance)

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        logits, loc, scale = self._split(widened(parameters))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), normal(loc, scale))

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        logits, loc, scale = self._split(parameters)
        choice_noise, frame_noise = tf.split(noise, [self.components, self.frame_size], axis=-1)
        choice = tf.argmax(logits + temperature * _gumbel(choice_noise), axis=-1)
        chosen = tf.one_hot(choice, self.components, dtype=loc.dtype)[..., tf.newaxis]
        loc, scale = (tf.reduce_sum(chosen * v, axis=-2) for v in (loc, scale))
        return loc + temperature * scale * frame_noise

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        return self.distribution(parameters).mean()


FAMILIES: dict[EmissionName, type[EmissionFamily]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "categorical": Categorical,
    "gaussian_mixture": GaussianMixture,
}
