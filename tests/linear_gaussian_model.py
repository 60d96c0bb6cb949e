"""The linear-Gaussian model as one of the family, with its true weights: bounds have an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zforcing_tf.cells.latent_cell import Context, LatentCell
from zforcing_tf.data.linear_gaussian import LinearGaussian
from zforcing_tf.layers.emission import Emission
from zforcing_tf.products import Product
from zforcing_tf.sequence_model import SequenceModel


class Prior(NamedTuple):
    """loc and scale of the next latent, [B, K]; [K, B] in the loop."""

    loc: tf.Tensor
    scale: tf.Tensor


@keras.saving.register_keras_serializable("tests")
class LinearGaussianCell(LatentCell):
    """p is the true one; q is p(z[t] | z[t-1], y[t]) with its correlations left out, and wider."""

    past_structure = (None, None)
    latent_size = 0
    feature_size = 0

    def __init__(self, truth: LinearGaussian, spread: float = 1.2) -> None:
        super().__init__(dtype="float32")
        self.truth, self.spread = truth, spread
        self.latent_size = self.feature_size = truth.latent_size

    def initial_state(self, batch_size: Any) -> Prior:
        shape = (batch_size, self.truth.latent_size)
        return Prior(tf.zeros(shape), tf.fill(shape, self.truth.initial_scale))

    def drive(self, x: tf.Tensor, keep: Any = None) -> tf.Tensor:
        return x[..., :0]

    def context(self, given: Any, targets: tf.Tensor, *_: Any, **__: Any) -> Context:
        return Context(targets, None)

    def loop_weights(self, latent_from: str) -> Any:
        return Product(tf.constant(self.truth.transition.T, tf.float32))

    def condition(self, weights: Any, state: Prior, given: Any) -> Prior:
        return state

    def past(self, conditioning: Prior) -> Prior:
        return conditioning

    def prior(self, past: Prior) -> Prior:
        return past

    def posterior(self, weights: Any, conditioning: Prior, context: tf.Tensor) -> Any:
        emission = np.float32(self.truth.emission)
        noise = np.float32(self.truth.emission_scale**2)
        first = tf.reduce_all(conditioning.scale == self.truth.initial_scale)
        gains, deviations = [], []
        for prior_scale in (self.truth.initial_scale, self.truth.transition_scale):
            precision = np.eye(self.latent_size) / prior_scale**2 + emission.T @ emission / noise
            covariance = np.linalg.inv(precision)
            gains.append(np.float32(covariance @ emission.T / noise))
            deviations.append(np.float32(self.spread * np.sqrt(np.diag(covariance))))
        gain = tf.where(first, *gains)
        deviation = tf.where(first, *deviations)[:, tf.newaxis]
        loc = conditioning.loc + gain @ (context - emission @ conditioning.loc)
        return loc, tf.broadcast_to(deviation, tf.shape(loc))

    def advance(self, weights: Any, conditioning: Prior, latent: tf.Tensor) -> Any:
        scale = tf.fill(tf.shape(latent), self.truth.transition_scale)
        return Prior(weights(latent), scale), latent


def model(truth: LinearGaussian, spread: float = 1.2) -> SequenceModel:
    """The whole model; `score`, `iwae` and `fivo` are bounds of its exact likelihood."""
    emission = Emission("gaussian", truth.frame_size, truth.latent_size)
    size = truth.frame_size
    kernel = np.concatenate([truth.emission.T, np.zeros((truth.latent_size, size))], axis=1)
    bias = np.concatenate([np.zeros(size), np.full(size, 2 * np.log(truth.emission_scale))])
    emission.set_weights([kernel, bias])
    return SequenceModel(LinearGaussianCell(truth, spread), emission)
