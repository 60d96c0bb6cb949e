"""What the numbers mean: densities, bounds, what reaches what, and what the aids leave alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import (
    SEEDS,
    SMOOTHING,
    dense_gradients,
    each_case,
    each_smoothing_case,
    loss_and_gradients,
    model_of,
    noise_for,
    paddings,
    tensors,
    with_padding,
)
from zforcing_tf import objectives, unroll
from zforcing_tf.objectives import Weights
from zforcing_tf.products import flipped
from zforcing_tf.resampling import Resampling
from zforcing_tf.sequence_model import SequenceModel

# One symbol has no numbers that could depend on each other.
STOCHASTIC = [name for name in factory.VARIANTS if name not in ("rnn", "autoregressive")]


def importance(model: SequenceModel, x: np.ndarray, samples: int) -> np.ndarray:
    """`log p(x, z) - log q(z)` of samples of each row, [B, samples]; sample k has seed (k, row)."""
    number, row = np.meshgrid(np.arange(samples), np.arange(len(x)))
    seeds = np.stack([number, row], -1).reshape(-1, 2).astype(np.int32)
    log_w = model.iwae(np.repeat(x, samples, axis=0), num_samples=1, seed=seeds)
    return np.reshape(log_w, (len(x), samples))


def all_sequences(emission: str, num_steps: int) -> np.ndarray:
    """Every sequence of that length that there is."""
    if emission == "categorical":
        choices = itertools.product(range(factory.VOCABULARY), repeat=num_steps)
        return np.array(list(choices), np.int32)
    size = num_steps * factory.FRAME_SIZE
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=size)), np.float32)
    return bits.reshape(-1, num_steps, factory.FRAME_SIZE)


@pytest.mark.parametrize("emission", ["bernoulli", "categorical"])
def test_rnn_is_a_distribution_of_sequences(emission):
    x = all_sequences(emission, 2)
    total = np.exp(model_of("rnn", emission).score(x).elbo.numpy().astype(np.float64)).sum()
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


@pytest.mark.parametrize("variant", STOCHASTIC)
def test_the_bound_is_below_a_distribution(variant):
    """`sum_x exp(E elbo(x)) <= sum_x p(x) = 1`, E by 100 samples each, within 5 standard errors."""
    samples = 100
    x = all_sequences("categorical", 2)
    seeds = np.stack(np.meshgrid(np.arange(samples), np.arange(len(x))), -1).reshape(-1, 2)
    model = model_of(variant, "categorical")
    scores = model.score(np.repeat(x, samples, axis=0), seed=seeds.astype(np.int32))
    elbos = scores.elbo.numpy().reshape(len(x), samples).astype(np.float64)
    bounds = np.exp(elbos.mean(axis=1))
    error = np.sqrt(((bounds * elbos.std(axis=1)) ** 2 / samples).sum())
    assert 0.1 < bounds.sum() < 1.0 + 5 * error
    assert (scores.kl_per_step.numpy() > 0).all()


@pytest.mark.parametrize("variant", STOCHASTIC)
def test_importance_weights_estimate_a_distribution(variant):
    """`sum_x E w(x) = sum_x p(x) = 1`, from 400 samples each, within 5 standard errors."""
    samples, x = 400, all_sequences("categorical", 2)
    log_w = importance(model_of(variant, "categorical"), x, samples).astype(np.float64)
    estimates = np.exp(log_w)
    error = np.sqrt((estimates.var(axis=1, ddof=1) / samples).sum())
    assert error < 0.25
    assert abs(estimates.mean(axis=1).sum() - 1.0) < 5 * error


@pytest.mark.parametrize("variant", STOCHASTIC)
def test_the_analytic_kl_is_that_of_the_samples(variant):
    """The bound with the analytic KL and its Monte-Carlo form, `iwae` with one sample, agree in the
    mean of 400 samples of each row, within 5 standard errors of their difference.
    """
    samples, x = 400, factory.frames("gaussian", 6, 4)
    model = model_of(variant, "gaussian")
    log_w = importance(model, x, samples)
    seeds = np.stack(np.meshgrid(np.arange(samples), np.arange(len(x))), -1).reshape(-1, 2)
    elbo = model.score(np.repeat(x, samples, axis=0), seed=seeds.astype(np.int32)).elbo
    difference = log_w - elbo.numpy().reshape(len(x), samples)  # the same samples
    error = difference.std(axis=1, ddof=1) / samples**0.5
    assert (np.abs(difference.mean(axis=1)) < 5 * error).all()
    one = model.iwae(x, num_samples=1, seed=seeds[::samples].astype(np.int32))
    np.testing.assert_allclose(one, log_w[:, 0], rtol=1e-5)


@pytest.mark.parametrize("variant", STOCHASTIC)
def test_bounds_rise_with_samples(variant):
    """E elbo <= E iwae(4) <= E iwae(64), over 100 draws of each of 6 rows."""
    x = factory.frames("gaussian", 6, 4)
    log_w = importance(model_of(variant, "gaussian"), x, 6400).astype(np.float64)
    means, errors = [], []
    for count in (1, 4, 64):
        draws = log_w.reshape(6, -1, count)
        values = np.log(np.mean(np.exp(draws - log_w.max()), axis=2)) + log_w.max()
        means.append(values.mean())
        errors.append(values.std() / values.size**0.5)
    assert means[0] + 3 * errors[0] < means[1]
    assert means[1] - 3 * errors[1] < means[2]


@each_case
def test_samples_at_once_change_no_bound(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    bounds = [model.iwae(**batch, num_samples=7, seed=SEEDS, samples_at_once=n) for n in (7, 3, 1)]
    for other in bounds[1:]:
        np.testing.assert_allclose(other, bounds[0], rtol=1e-5)


@each_case
def test_padding_and_batch_change_no_bound(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    bounds = {
        "iwae": lambda seed=SEEDS, **data: model.iwae(**data, num_samples=6, seed=seed),
        "fivo": lambda seed=SEEDS, **data: model.fivo(**data, num_particles=6, seed=seed),
    }
    for bound in bounds.values():
        expected = bound(**batch)
        for value in paddings(emission):
            np.testing.assert_allclose(bound(**with_padding(batch, value)), expected, rtol=1e-5)
        for row, length in enumerate(batch["lengths"]):
            alone = bound(x=batch["x"][row : row + 1, :length], seed=SEEDS[row : row + 1])
            np.testing.assert_allclose(alone[0], expected[row], rtol=1e-5)


@each_case
def test_without_drawing_anew_the_filter_is_iwae(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    never = model.fivo(**batch, num_particles=5, seed=SEEDS, resampling=Resampling("never"))
    np.testing.assert_allclose(never, model.iwae(**batch, num_samples=5, seed=SEEDS), rtol=1e-5)


@each_case
def test_the_bound_is_the_sum_of_its_parts(variant, emission):
    scores = model_of(variant, emission).score(**factory.batch(emission))
    expected = np.sum(scores.log_prob_per_step - scores.kl_per_step, axis=1)
    np.testing.assert_allclose(scores.elbo, expected, rtol=1e-6)
    kl = scores.kl_per_step.numpy()
    assert (kl >= 0).all() and (kl[0] > 0).all() == (variant != "rnn")


@pytest.mark.parametrize(
    ("name", "emission", "skip"),
    [
        ("zforcing", "gaussian", True),
        ("zforcing", "categorical", False),
        ("storn", "gaussian", False),
        ("vrnn", "categorical", True),
        ("srnn", "bernoulli", False),
    ],
)
def test_without_a_latent_each_is_the_rnn(name, emission, skip):
    """With the same weights: scores and samples."""
    settings = {"emission_skip": skip, "emission": emission}
    other = factory.build(model=name, latent_size=0, **settings)
    rnn = factory.build(model="rnn", weight_seed=2, **settings)
    for part in ("embedding", "core"):
        getattr(rnn.cell, part).set_weights(getattr(other.cell, part).get_weights())
    rnn.emission.set_weights(other.emission.get_weights())
    batch = factory.batch(emission)
    for ours, expected in zip(other.score(**batch), rnn.score(**batch), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_allclose(other.generate(5, 3), rnn.generate(5, 3), rtol=1e-5, atol=1e-6)
    assert other.encode(**batch).latent.shape == (3, 5, 0)
    noise = tf.zeros((5, 3, 0))
    gradients = loss_and_gradients(other, **tensors(batch), noise=noise)[-1]
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def parameters_for(model: SequenceModel, x: tf.Tensor, latents: tf.Tensor) -> tf.Tensor:
    """Emission parameters [T, B, P] for latents that are given."""
    inputs = model.sequences(x, tf.fill(tf.shape(x)[:1], tf.shape(x)[1])).inputs
    cell = model.cell

    def step(weights: Any, state: Any, now: Any) -> tuple[Any, tf.Tensor]:
        drive, latent = now
        return cell.advance(weights, cell.condition(weights, state, drive), latent)

    state, given = tf.nest.map_structure(
        flipped, (cell.initial_state(x.shape[0]), (cell.drive(inputs), latents))
    )
    _, features = unroll.unroll(step, cell.loop_weights("prior"), state, given, latents.dtype)
    return model.emission(flipped(features), model.emission.skip(cell, inputs))


@each_case
def test_what_a_frame_reaches(variant, emission):
    """Frame s is the input of step s + 1: for fixed latents no emission before that sees it. The
    posterior of step s does, and of the steps before it where it smooths.
    """
    model, s = model_of(variant, emission), 2
    x = factory.frames(emission, 3, 5)
    changed = x.copy()
    changed[:, s] = (x[:, s] + 1) % 2
    latents = noise_for(model, 5, 3)
    before, after = (parameters_for(model, tf.constant(v), latents) for v in (x, changed))
    np.testing.assert_array_equal(before[: s + 1], after[: s + 1])
    assert (np.abs(before - after).max(axis=(1, 2))[s + 1 :] > 1e-4).all()
    if variant == "rnn":
        return
    loc, other = (model.encode(v, seed=SEEDS).loc.numpy() for v in (x, changed))
    seen = np.abs(loc - other).max(axis=(0, 2)) > 1e-5
    assert seen[s:].all() and (seen[:s] == (variant in SMOOTHING)).all()


@each_smoothing_case
def test_the_last_frame_reaches_the_first_posterior_only_within_its_length(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission, (5, 5, 5))
    first = model.encode(**batch).loc[:, 0].numpy()
    cut = model.encode(batch["x"], [4, 4, 4]).loc[:, 0].numpy()
    assert (np.abs(first - cut).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("emission", ["bernoulli", "categorical"])
def test_without_weight_the_aids_do_nothing(emission):
    """Auxiliary weight 0 minimises exactly -elbo, with the same gradients as without the parts."""
    batch = tensors(factory.batch(emission))
    aided = factory.build(emission, **factory.AIDED)
    plain = factory.build(emission, weight_seed=2)
    shared = {
        v.path: v for v in aided.cell.trainable_variables + aided.emission.trainable_variables
    }
    own = plain.cell.trainable_variables + plain.emission.trainable_variables
    for ours, theirs in zip(own, shared.values(), strict=True):
        ours.assign(theirs)
    noise = noise_for(plain, 5, 3)
    weights = Weights(1.0, 0.0, 0.0)
    loss, terms, gradients = loss_and_gradients(aided, **batch, noise=noise, weights=weights)
    expected, fewer, plain_gradients = loss_and_gradients(
        plain, **batch, noise=noise, weights=weights
    )
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(loss, -objectives.elbo(objectives.Terms(*terms)))
    assert len(terms) == 4 and len(fewer) == 2
    by_path = {v.path: g for v, g in zip(aided.trainable_variables, gradients, strict=True)}
    by_own = {v.path: g for v, g in zip(plain.trainable_variables, plain_gradients, strict=True)}
    for ours, theirs in zip(own, shared.values(), strict=True):
        np.testing.assert_array_equal(by_path.pop(theirs.path), by_own[ours.path])
    assert by_path and all((gradient.numpy() == 0).all() for gradient in by_path.values())


def test_aids_are_in_no_bound():
    aided = factory.build("gaussian", **factory.AIDED)
    plain = factory.build("gaussian", weight_seed=2)
    plain.cell.set_weights(aided.cell.get_weights())
    plain.emission.set_weights(aided.emission.get_weights())
    batch = factory.batch("gaussian")
    np.testing.assert_array_equal(aided.score(**batch).elbo, plain.score(**batch).elbo)


def test_auxiliary_gradient_stops_at_its_target():
    """The cost alone trains its network and, through z, the posterior; no other way to b."""
    model, batch = model_of("full", "gaussian"), tensors(factory.batch("gaussian"))
    with tf.GradientTape() as tape:
        inference = model.infer(model.sequences(**batch), tf.zeros((5, 3, 2)), training=True)
        cost = tf.reduce_sum(inference.terms.auxiliary[:1])  # z[0] sees b through the posterior
    gradients = dense_gradients(tape, cost, model.trainable_variables)
    reached = {
        v.path
        for v, g in zip(model.trainable_variables, gradients, strict=True)
        if np.abs(g).max() > 0
    }
    for part in (model.auxiliary, model.cell.posterior_network, model.cell.backward_encoder):
        assert reached >= {v.path for v in part.trainable_variables if "kernel" in v.name}
    for part in (model.emission, model.backward_emission, model.cell.prior_network):
        assert not reached & {v.path for v in part.trainable_variables}
    # With the posterior held, nothing of the backward encoder is reached any more.
    before = model.cell.posterior_network.get_weights()
    model.cell.posterior_network.set_weights([np.zeros_like(w) for w in before])
    with tf.GradientTape() as tape:
        inference = model.infer(model.sequences(**batch), tf.zeros((5, 3, 2)), training=True)
        cost = tf.reduce_sum(inference.terms.auxiliary)
    variables = model.cell.backward_encoder.trainable_variables
    gradients = dense_gradients(tape, cost, variables)
    model.cell.posterior_network.set_weights(before)
    assert all(np.abs(gradient).max() == 0 for gradient in gradients)
