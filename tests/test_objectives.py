"""Schedules, the divergence, the bound and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf import objectives
from zforcing_tf.distributions import normal
from zforcing_tf.errors import UserError
from zforcing_tf.objectives import Schedule, Terms, Weights

T, B, Z = 4, 3, 2


def some_terms(optional: bool = True, dtype: str = "float32") -> Terms:
    generator = np.random.default_rng(0)
    terms = [tf.constant(generator.standard_normal((T, B)), dtype) for _ in range(4)]
    return Terms(*terms) if optional else Terms(*terms[:2])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule(0.25, 1.0, 0.25), [0.25, 0.5, 0.75, 1, 1, 1]),
        (Schedule(1.0, 0.0, 0.5), [1, 0.5, 0, 0]),
        (Schedule(0.0, 1.0, 0.75), [0, 0.75, 1, 1]),  # the last step is shorter
        (Schedule(0.5, 2.0, 0.0), [0.5, 0.5, 0.5]),
        (Schedule(1.0, 0.0, -0.5), [1, 0.5, 0, 0]),  # always towards the end
        (Schedule(0.0, 0.0), [0, 0]),
    ],
)
def test_schedule(schedule, expected):
    weights = [schedule(tf.constant(update, tf.int64)) for update in range(len(expected))]
    assert all(weight.dtype == tf.float32 and weight.shape == () for weight in weights)
    np.testing.assert_array_equal(weights, np.float32(expected))


@pytest.mark.parametrize(("start", "end"), [(0.2, 1.0), (0.1, 0.7), (0.0005, 0.025), (0.7, 0.1)])
def test_schedule_ends_exactly_and_never_passes_its_end(start, end):
    schedule = Schedule(start, end, 5e-5)
    updates = tf.constant(np.arange(0, 40_000, 7), tf.int64)
    weights = schedule(updates).numpy()
    assert weights[0] == np.float32(start) and weights[-1] == np.float32(end)
    assert (np.sign(end - start) * np.diff(weights) >= 0).all()
    low, high = sorted((np.float32(start), np.float32(end)))
    assert weights.min() >= low and weights.max() <= high
    np.testing.assert_allclose(weights[40], start + np.sign(end - start) * 280 * 5e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "used"),
    [
        (Schedule(0.0, 0.0), False),
        (Schedule(0.0, 1.0, 0.0), False),
        (Schedule(0.0, 1.0, 0.1), True),
        (Schedule(1.0, 0.0, 0.1), True),
        (Schedule(1.0, 1.0), True),
        (Schedule(1.0, 0.0, 0.0), True),
    ],
)
def test_used(schedule, used):
    assert schedule.used == used


def gaussians() -> list[tuple[tf.Tensor, tf.Tensor]]:
    generator = np.random.default_rng(1)
    loc_q, loc_p = generator.standard_normal((2, T, B, Z))
    scale_q, scale_p = np.exp(generator.standard_normal((2, T, B, Z)) / 2)
    pairs = ((loc_q, scale_q), (loc_p, scale_p))
    return [(tf.constant(loc), tf.constant(scale)) for loc, scale in pairs]


def test_divergence_is_the_closed_form():
    (loc_q, scale_q), (loc_p, scale_p) = ((v.numpy() for v in pair) for pair in gaussians())
    ratio = (scale_q / scale_p) ** 2
    expected = 0.5 * (ratio + ((loc_q - loc_p) / scale_p) ** 2 - 1 - np.log(ratio)).sum(-1)
    kl = objectives.divergence(*gaussians())
    assert kl.shape == (T, B)
    np.testing.assert_allclose(kl, expected, rtol=1e-10)
    assert (kl.numpy() > 0).all()


def test_divergence_is_zero_between_equals_and_without_a_latent():
    q, _ = gaussians()
    np.testing.assert_array_equal(objectives.divergence(q, q), np.zeros((T, B)))
    empty = (tf.zeros((T, B, 0)), tf.zeros((T, B, 0)))
    np.testing.assert_array_equal(objectives.divergence(empty, empty), np.zeros((T, B)))


def test_divergence_is_an_expectation():
    """The mean of log q - log p over 100,000 draws, within 5 of its standard errors, everywhere."""
    draws = 100_000
    q, p = (normal(*pair) for pair in gaussians())
    z = q.sample(draws, seed=(1, 2))
    ratio = (q.log_prob(z) - p.log_prob(z)).numpy()
    error = ratio.std(0) / draws**0.5
    distance = np.abs(ratio.mean(0) - objectives.divergence(*gaussians()))
    assert (distance < 5 * error).all()


def test_divergence_of_low_precision_is_float32():
    q, p = (tuple(tf.cast(v, tf.bfloat16) for v in pair) for pair in gaussians())
    kl = objectives.divergence(q, p)
    assert kl.dtype == tf.float32
    exact = objectives.divergence(*(tuple(tf.cast(v, tf.float64) for v in pair) for pair in (q, p)))
    np.testing.assert_allclose(kl, exact, rtol=1e-5)


def test_elbo_sums_over_time():
    terms = some_terms()
    expected = np.sum(terms.log_prob.numpy() - terms.kl.numpy(), axis=0)
    np.testing.assert_allclose(objectives.elbo(terms), expected, rtol=1e-6)


@pytest.mark.parametrize("optional", [False, True])
def test_loss_without_aids_is_minus_the_bound_exactly(optional):
    terms = some_terms(optional)
    loss = objectives.loss(terms, Weights(1.0, 0.0, 0.0))
    np.testing.assert_array_equal(loss, -objectives.elbo(terms))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_weighs_its_terms(dtype):
    terms = some_terms(dtype=dtype)
    weights = Weights(*(tf.constant(w, tf.float32) for w in (0.5, 0.25, 2.0)))
    loss = objectives.loss(terms, weights)
    assert loss.dtype == dtype
    a, b, c, d = (term.numpy() for term in terms[:4])
    expected = -np.sum(a - 0.5 * b + 0.25 * c + 2.0 * d, axis=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_weight_of_zero_lets_no_gradient_through():
    terms = some_terms()
    with tf.GradientTape() as tape:
        tape.watch(terms[:4])
        loss = tf.reduce_sum(objectives.loss(terms, Weights(0.0, 0.0, 0.0)))
    log_prob, *others = tape.gradient(loss, terms[:4])
    np.testing.assert_array_equal(log_prob, -np.ones((T, B)))
    for gradient in others:
        np.testing.assert_array_equal(gradient, np.zeros((T, B)))


@pytest.mark.parametrize(("name", "count"), [("FIVO", 4), ("iwae", 0)])
def test_unknown_bounds_are_refused(name, count):
    with pytest.raises(UserError, match=f"a bound '{name}' of {count} samples is unknown"):
        objectives.Bound(name, count)
