"""Bounds against the likelihood of a Kalman filter, and the gradient of the particle filter."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import linear_gaussian_model
from tests import model_factory as factory
from tests.conformance.cases import dense_gradients, each_part_in_turn, model_of, noise_for, tensors
from tests.layers.harness import assert_close
from zforcing_tf import inference, objectives
from zforcing_tf.data.linear_gaussian import default_model
from zforcing_tf.inference import Particles
from zforcing_tf.objectives import Bound, Weights
from zforcing_tf.resampling import Resampling

COUNTS = (1, 4, 16, 64)
SEQUENCES = 100


@functools.cache
def gaps(num_steps: int, name: str, scheme: str = "systematic") -> np.ndarray:
    """Exact log-likelihood minus bound of 100 sequences for each of `COUNTS`, [counts, B] nats."""
    truth = default_model()
    x, lengths = truth.sample(SEQUENCES, (num_steps, num_steps), seed=7)
    exact = truth.log_likelihood(x, lengths)
    model = linear_gaussian_model.model(truth)
    bounds = []
    for count in COUNTS:
        if name == "iwae":
            bounds.append(model.iwae(x, lengths, count, seed=3, samples_at_once=64))
        else:
            resampling = Resampling("ess", scheme)
            bounds.append(model.fivo(x, lengths, count, seed=3, resampling=resampling))
    return exact - np.array(bounds)


CASES = [("iwae", "systematic"), ("fivo", "systematic"), ("fivo", "multinomial")]


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_bounds_lie_below_the_likelihood_and_approach_it(name, scheme):
    """100 sequences of 20 steps; each bound is below within 3 of its standard errors, and each four
    times as many samples close at least a third of the gap.
    """
    found = gaps(20, name, scheme)
    means, errors = found.mean(axis=1), found.std(axis=1, ddof=1) / SEQUENCES**0.5
    assert (means > -3 * errors).all()
    assert (means[1:] < means[:-1] * 2 / 3 + 3 * errors[1:]).all(), means
    assert means[0] > 1.0 and means[-1] < (1.5 if name == "iwae" else 0.25), means


def test_the_filter_beats_importance_weights_on_long_sequences():
    """200 steps: with 16 particles it leaves less of a gap than iwae with 64 samples."""
    iwae, fivo = gaps(200, "iwae"), gaps(200, "fivo")
    assert fivo[2].mean() < 0.25 * iwae[3].mean()
    assert fivo[3].mean() < 0.5 * fivo[2].mean()


def test_two_thousand_steps_and_128_particles():
    truth = default_model()
    x, lengths = truth.sample(2, (2000, 2000), seed=1)
    bound = linear_gaussian_model.model(truth).fivo(x, lengths, 128)
    gap = truth.log_likelihood(x, lengths) - bound
    assert (np.abs(gap) < 0.004 * 2000).all()


@each_part_in_turn("criterion", "ess", "always")
def test_gradient_of_the_filter(variant, emission, criterion):
    """That of one pass with everything in the loop, automatic, is that of training: in two passes,
    by hand. Values too; with dropout.
    """
    model, batch = model_of(variant, emission), tensors(factory.batch(emission))
    parts, count = model._parts, 4
    resampling = Resampling(criterion)
    latent = model.cell.latent_size
    noise = tf.random.stateless_normal((5, 3 * count, latent), (1, 2))
    draws = tf.random.stateless_normal((5, 3, 1), (3, 4))
    particles = Particles(count, True, resampling, draws)
    sequences = model.sequences(**batch)
    variables = [*model.cell.trainable_variables, *model.emission.trainable_variables]
    with tf.GradientTape() as tape:
        state, seen = inference.observe(parts, sequences)
        first = inference.first_cloud(parts, inference.rows_of(state, count), seen.mask, count)
        one, choice = inference.filter_particles(parts, first, seen, noise, particles)
        cost = tf.reduce_sum(one.bound)
    expected = dense_gradients(tape, cost, variables)
    with tf.GradientTape() as tape:
        terms = model.infer(sequences, noise, training=True, particles=particles)
        bound = objectives.bound_of(
            Bound("fivo", count, resampling), terms.terms, resampled=terms.resampled
        )
        cost = tf.reduce_sum(bound)
    np.testing.assert_allclose(bound, one.bound, rtol=1e-5)
    np.testing.assert_array_equal(terms.resampled, choice.resampled)
    assert (variant == "rnn") or criterion == "ess" or choice.resampled.numpy().all()
    assert_close(dense_gradients(tape, cost, variables), expected, 2e-5)


@each_part_in_turn("name", "elbo", "iwae", "fivo")
def test_training_with_samples_is_minus_the_bound(variant, emission, name):
    """Loss of several samples: weights (1, 0, 0) give minus the bound; graph and XLA as eager."""
    model, batch = model_of(variant, emission), tensors(factory.batch(emission))
    count, bound = 3, Bound(name, 3)
    noise = noise_for(model, 5, 3 * count)
    draws = tf.random.stateless_normal((5, 3, 1), (3, 4))
    resampling = bound.resampling if name == "fivo" else None
    particles = Particles(count, name != "elbo", resampling, draws)

    def run(x: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            found = model.infer(
                model.sequences(x, lengths), noise, training=True, particles=particles
            )
            loss = objectives.loss(found.terms, Weights(1.0, 0.3, 0.2), bound, found.resampled)
        return loss, dense_gradients(tape, loss, model.trainable_variables)

    eager = run(**batch)
    assert eager[0].shape == (3,)
    compiled = tf.function(run, autograph=False, jit_compile=True)
    assert_close(compiled(**batch), eager, 2e-5)
    if name == "elbo":
        alone = [model.infer(model.sequences(**batch), noise[:, k::count]) for k in range(count)]
        elbos = np.mean([objectives.elbo(one.terms) for one in alone], axis=0)
        found = model.infer(model.sequences(**batch), noise, particles=particles)
        ours = objectives.loss(found.terms, Weights(1.0, 0.0, 0.0), bound)
        np.testing.assert_allclose(ours, -elbos, rtol=1e-5)
