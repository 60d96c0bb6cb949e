"""Levels and their probabilities: at 16 bits too, in float32, far out and with narrow logistics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from zforcing_tf.discretised_logistics import DiscretisedLogistics, nearest_level, rounded
from zforcing_tf.distributions import FAMILIES
from zforcing_tf.metrics import bits_per_dim


def levels(bits: int) -> np.ndarray:
    """All of them, float64."""
    return np.arange(2**bits) * (2 / (2**bits - 1)) - 1


def exact(x: np.ndarray, loc: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """log P of one logistic each in float64, by `log F(b) + log F(-a) + log(1 - exp(a - b))`."""
    half = 1 / (2**bits - 1)
    a, b = (x - half - loc) / scale, (x + half - loc) / scale
    inside = np.log(-np.expm1(-2 * half / scale)) + scipy.special.log_expit(b)
    inside += scipy.special.log_expit(-a)
    first, last = scipy.special.log_expit(b), scipy.special.log_expit(-a)
    return np.where(x < -1 + half, first, np.where(x > 1 - half, last, inside))


def single(loc: np.ndarray, scale: np.ndarray, bits: int, dtype: str = "float32"):
    """One logistic for each number."""
    loc, scale = (tf.constant(v[..., None], dtype) for v in (loc, scale))
    return DiscretisedLogistics(tf.zeros_like(loc), loc, scale, bits)


@pytest.mark.parametrize("bits", [1, 2, 8, 16, 20])
def test_every_level_is_its_own(bits):
    """In float32, also when it comes a rounding error, or a third of a level, away."""
    x = levels(bits).astype(np.float32)
    index = np.arange(2**bits) - (2**bits - 1) / 2
    third = (2 / 3 / (2**bits - 1)) if bits <= 16 else 0
    for shift in (0, third, -third):
        level = nearest_level(tf.constant(x + np.float32(shift)), bits)
        np.testing.assert_array_equal(level, index)
    np.testing.assert_allclose(rounded(tf.constant(x), bits), levels(bits), atol=1e-7, rtol=0)
    np.testing.assert_array_equal(rounded(tf.constant([-7.0, 7.0]), bits), [-1, 1])


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_probabilities_of_all_levels_sum_to_one(bits):
    """Of mixtures with narrow and wide components, locations in and out of [-1, 1]."""
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((6, 4))
    loc = 1.5 * generator.standard_normal((6, 4))
    scale = np.exp(generator.uniform(-12, 2, (6, 4)))
    x = levels(bits)[:, None]
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        parts = (tf.constant(v, dtype) for v in (logits, loc, scale))
        log_prob = DiscretisedLogistics(*parts, bits=bits).log_prob(tf.constant(x, dtype))
        total = np.exp(log_prob.numpy().astype(np.float64)).sum(0)
        np.testing.assert_allclose(total, 1.0, atol=tolerance)


@pytest.mark.parametrize("narrowest", [1 / 8, 1.0, 100.0])
def test_float32_is_exact_at_16_bits(narrowest):
    """Around the location, at the ends and far away; scales from so many levels upwards."""
    bits, generator = 16, np.random.default_rng(1)
    loc = generator.uniform(-1.2, 1.2, 20_000).astype(np.float32)
    scale = narrowest * np.exp(generator.uniform(0, 2, 20_000)) * 2 / (2**bits - 1)
    scale = scale.astype(np.float32)
    near = loc + 3 * scale * generator.standard_normal(20_000)
    x = np.where(np.arange(20_000) % 2, near, generator.choice(levels(bits), 20_000))
    x[::10] = np.sign(x[::10])
    x = levels(bits)[np.rint((x.clip(-1, 1) + 1) / 2 * (2**bits - 1)).astype(int)]
    ours = single(loc, scale, bits).log_prob(tf.constant(x, tf.float32)).numpy()
    expected = exact(x, *(v.astype(np.float64) for v in (loc, scale)), bits)
    assert expected.min() < -100 and (expected > -8 - np.log(narrowest)).mean() > 0.2
    np.testing.assert_allclose(ours, expected, rtol=3e-6, atol=1e-6)


def test_log_prob_and_gradients_are_finite_everywhere():
    """Parameters of +-1e4 as well, at -1, 0, 1, beyond, and at 16 bits; with and without XLA."""
    family = FAMILIES["discretised_logistic_mixture"](3, 2, 16)
    generator = np.random.default_rng(2)
    size = (200, family.parameter_size)
    parameters = generator.choice([-1e4, -100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1e4], size)
    x = generator.choice([-1.0, 0.0, 1.0, 0.3, -40.0, 40.0], (200, 3))

    def run(parameters, x):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = family.distribution(parameters).log_prob(x)
        return log_prob, tape.gradient(log_prob, parameters), family.mean(parameters)

    given = tf.constant(parameters, tf.float32), tf.constant(x, tf.float32)
    eager = run(*given)
    compiled = tf.function(run, autograph=False, jit_compile=True)(*given)
    for ours, theirs in zip(compiled, eager, strict=True):
        assert np.isfinite(ours).all() and np.isfinite(theirs).all()
    np.testing.assert_allclose(compiled[0], eager[0], rtol=1e-5)
    np.testing.assert_array_less(np.abs(eager[2]), 1.0001)


def test_gradient_is_that_of_float64():
    """Against central differences of the exact formula, by location in units of the scale."""
    bits, generator = 16, np.random.default_rng(3)
    loc, log_scale = generator.uniform(-1, 1, 50), generator.uniform(-9, -1, 50)
    x = rounded(tf.constant(loc + np.exp(log_scale) * generator.standard_normal(50)), bits).numpy()

    def log_prob(loc, log_scale):
        return exact(x, loc, np.exp(log_scale), bits)

    tensors = [tf.constant(v, tf.float32) for v in (loc, log_scale)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        scale = tf.exp(tensors[1])[:, tf.newaxis]
        mixture = DiscretisedLogistics(tf.zeros((50, 1)), tensors[0][:, tf.newaxis], scale, bits)
        total = tf.reduce_sum(mixture.log_prob(tf.constant(x, tf.float32)))
    by_loc, by_log_scale = tape.gradient(total, tensors)
    step = 1e-4 * np.exp(log_scale)
    expected = (log_prob(loc + step, log_scale) - log_prob(loc - step, log_scale)) / (2 * step)
    scale = np.exp(log_scale)
    np.testing.assert_allclose(by_loc * scale, expected * scale, rtol=2e-3, atol=1e-3)
    expected = (log_prob(loc, log_scale + 1e-4) - log_prob(loc, log_scale - 1e-4)) / 2e-4
    np.testing.assert_allclose(by_log_scale, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("components", [1, 10])
def test_it_starts_near_uniform(components):
    """With all parameters zero: within half a bit of 16 bits a sample, on average over levels."""
    family = FAMILIES["discretised_logistic_mixture"](1, components, 16)
    parameters = tf.zeros((1, family.parameter_size))
    log_prob = family.distribution(parameters).log_prob(levels(16)[:, None].astype(np.float32))
    bits = bits_per_dim(float(np.sum(log_prob)), 2**16, 1)
    assert 16 < bits < 16.5
    np.testing.assert_allclose(family.mean(parameters), [[0]], atol=1e-6)


def test_one_level_can_take_nearly_all():
    """The narrowest scale, on a level: 96% of it, so silence costs 0.05 bits."""
    family = FAMILIES["discretised_logistic_mixture"](1, 1, 16)
    quiet = tf.constant([[0.0, 1 / 65_535, -1e4]])
    log_prob = family.distribution(quiet).log_prob(tf.constant([[1 / 65_535]]))
    np.testing.assert_allclose(np.exp(log_prob), [np.tanh(2)], rtol=1e-3)


@pytest.mark.parametrize("bits", [2, 5])
def test_samples_have_the_probabilities_of_levels(bits):
    """Chi-square over all levels, 100,000 draws: below its mean by 5 standard deviations more."""
    samples = 100_000
    family = FAMILIES["discretised_logistic_mixture"](2, 3, bits)
    parameters = np.random.default_rng(4).standard_normal((1, family.parameter_size))
    parameters = tf.constant(parameters, tf.float32)
    noise = tf.random.stateless_normal((samples, family.noise_size), (1, 2))
    x = family.sample(parameters, noise, tf.constant(1.0)).numpy()
    assert set(np.unique(x)) <= set(levels(bits).astype(np.float32))
    index = np.rint((x + 1) / 2 * (2**bits - 1)).astype(int)
    grid = np.stack(np.meshgrid(levels(bits), levels(bits), indexing="ij"), -1).reshape(-1, 2)
    log_prob = family.distribution(parameters).log_prob(tf.constant(grid, tf.float32))
    expected = samples * np.exp(log_prob.numpy().astype(np.float64))
    counts = np.bincount(index @ [2**bits, 1], minlength=4**bits)
    kept = expected > 5
    statistic = (np.square(counts - expected)[kept] / expected[kept]).sum()
    assert kept.sum() >= 4**bits / 4
    assert statistic < kept.sum() + 5 * np.sqrt(2 * kept.sum())


@pytest.mark.parametrize("bits", [1, 2, 16])
def test_mean_is_within_half_a_level(bits):
    generator = np.random.default_rng(5)
    loc, scale = 1.5 * generator.standard_normal(30), np.exp(generator.uniform(-7, 1, 30))
    probability = np.exp(exact(levels(bits)[:, None], loc, scale, bits))
    mean = single(loc, scale, bits, "float64").mean()
    np.testing.assert_allclose(mean, levels(bits) @ probability, atol=1 / (2**bits - 1) + 1e-6)
