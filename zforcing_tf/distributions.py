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

from zforcing_tf.discretised_logistics import DiscretisedLogistics, rounded

tfd = tfp.distributions
Distribution: TypeAlias = Any
"""A `tfd.Distribution`; TFP comes without types."""

EmissionName = Literal[
    "bernoulli", "gaussian", "categorical", "gaussian_mixture", "discretised_logistic_mixture"
]
LOWEST_TEMPERATURE = 1e-6
"""Stands for temperature 0, where every family gives its mode."""
HIGHEST_LOG_SCALE = 5.0
"""Of a logistic over [-1, 1]: at exp(5) its ends have all but half a percent."""


def widened(x: tf.Tensor) -> tf.Tensor:
    """Raises bfloat16 and float16 to float32; distributions need it. float64 stays."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def normal(loc: tf.Tensor, scale: tf.Tensor) -> Distribution:
    """Diagonal Gaussian over the last axis."""
    return tfd.Independent(tfd.Normal(widened(loc), widened(scale)), 1)


def _gumbel(noise: tf.Tensor) -> tf.Tensor:
    """Standard Gumbel from standard normal noise, exact in both tails."""
    return -tf.math.log(-tfd.Normal(tf.zeros((), noise.dtype), 1.0).log_cdf(noise))


def _logistic(noise: tf.Tensor) -> tf.Tensor:
    """Standard logistic from standard normal noise, exact in both tails."""
    standard = tfd.Normal(tf.zeros((), noise.dtype), 1.0)
    return standard.log_cdf(noise) - standard.log_cdf(-noise)


class EmissionFamily(abc.ABC):
    """A family of distributions of a frame.

    Args:
        frame_size: D, width of a frame; number of symbols where a frame is one symbol.
        components: of a mixture.
        sample_bits: of each number, where a frame takes discrete levels.
    """

    symbols = False
    """Whether a frame is one symbol, int32, rather than a vector."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """Least and greatest number of a frame that `distribution` has a meaning for."""

    def __init__(self, frame_size: int, components: int = 1, sample_bits: int = 16) -> None:
        self.frame_size = frame_size
        self.components = components
        self.sample_bits = sample_bits

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


class DiscretisedLogisticMixture(EmissionFamily):
    """Independent numbers at 2^bits levels over [-1, 1], each with a mixture of K logistics.

    Parameters [..., 3 D K]: D K logits, then locations and log scales, both relative to a start at
    which the mixture covers [-1, 1] evenly: locations spread over it, scales 1 / (2 K). The scale
    stays above an eighth of a level, where one level holds 96% of a logistic.
    At temperature 0 a sample is the location of the component with the largest logit.
    """

    limits = (-1.0, 1.0)

    @property
    def parameter_size(self) -> int:
        return 3 * self.frame_size * self.components

    @property
    def noise_size(self) -> int:
        return self.frame_size * (self.components + 1)

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits, location and scale, [..., D, K] each."""
        shape = tf.concat([tf.shape(parameters)[:-1], [3, self.frame_size, self.components]], 0)
        logits, loc, log_scale = tf.unstack(tf.reshape(parameters, shape), axis=-3)
        k = self.components
        centre = tf.constant([(2 * i + 1) / k - 1 for i in range(k)], loc.dtype)
        lowest = math.log(0.25 / (2**self.sample_bits - 1))
        # Unlike a hard limit it lets the gradient through, so that no scale is caught below it.
        log_scale = lowest + tf.nn.softplus(log_scale - math.log(2 * k) - lowest)
        return logits, centre + loc, tf.exp(tf.minimum(log_scale, HIGHEST_LOG_SCALE))

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        mixture = DiscretisedLogistics(*self._split(widened(parameters)), bits=self.sample_bits)
        return tfd.Independent(mixture, 1)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        logits, loc, scale = self._split(parameters)
        choice_noise, noise = tf.split(noise, [-1, self.frame_size], axis=-1)
        gumbel = temperature * _gumbel(choice_noise)
        shape = tf.concat([tf.shape(gumbel)[:-1], [self.frame_size, self.components]], 0)
        choice = tf.argmax(logits + tf.reshape(gumbel, shape), axis=-1)
        chosen = tf.one_hot(choice, self.components, dtype=loc.dtype)
        loc, scale = (tf.reduce_sum(chosen * v, axis=-1) for v in (loc, scale))
        return rounded(loc + temperature * scale * _logistic(noise), self.sample_bits)

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        return self.distribution(parameters).mean()


FAMILIES: dict[EmissionName, type[EmissionFamily]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "categorical": Categorical,
    "gaussian_mixture": GaussianMixture,
    "discretised_logistic_mixture": DiscretisedLogisticMixture,
}
