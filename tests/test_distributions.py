"""Each emission family: its density against formulas, its samples against its density."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from zforcing_tf.distributions import FAMILIES, normal, widened

D, K, BITS = 3, 4, 8
SAMPLES = 200_000
SIGMAS = 5.0
"""Standard errors that a mean over SAMPLES may be away: less than one in a million by chance."""


def family(name: str, frame_size: int = D):
    return FAMILIES[name](frame_size, K, BITS)


def some_parameters(name: str, *shape: int, frame_size: int = D, seed: int = 0) -> np.ndarray:
    size = family(name, frame_size).parameter_size
    return np.random.default_rng(seed).standard_normal((*shape, size)).astype(np.float32)


def draw(name: str, parameters: np.ndarray, temperature: float = 1.0, samples: int = SAMPLES):
    """Frames [samples, D] (or [samples]) of one parameter vector."""
    emission = family(name)
    noise = tf.random.stateless_normal((samples, emission.noise_size), (1, 2))
    x = emission.sample(tf.constant(parameters), noise, tf.constant(temperature))
    return x.numpy()


def bernoulli_log_prob(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    return (x * scipy.special.log_expit(p) + (1 - x) * scipy.special.log_expit(-p)).sum(-1)


def gaussian_log_prob(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    return scipy.stats.norm.logpdf(x, p[..., :D], np.exp(p[..., D:] / 2)).sum(-1)


def categorical_log_prob(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.take_along_axis(scipy.special.log_softmax(p, -1), x[..., None], -1)[..., 0]


def mixture_parts(p: np.ndarray, d: int = D):
    loc, log_variance = np.moveaxis(p[..., K:].reshape((*p.shape[:-1], 2, K, d)), -3, 0)
    return scipy.special.log_softmax(p[..., :K], -1), loc, np.exp(log_variance / 2)


def mixture_log_prob(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    log_weight, loc, scale = mixture_parts(p)
    each = scipy.stats.norm.logpdf(x[..., None, :], loc, scale).sum(-1)
    return scipy.special.logsumexp(log_weight + each, -1)


def discretised_parts(p: np.ndarray):
    """Log weight, location and scale of each number, [..., D, K]; the start by its own words."""
    logits, loc, log_scale = np.moveaxis(p.reshape((*p.shape[:-1], 3, D, K)), -3, 0)
    centres = np.linspace(-1, 1, 2 * K + 1)[1::2]
    lowest = np.log(2 / (2**BITS - 1) / 8)
    scale = np.exp(lowest + np.logaddexp(0, log_scale + np.log(1 / (2 * K)) - lowest))
    return scipy.special.log_softmax(logits, -1), loc + centres, scale


def discretised_log_prob(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Differences of the cumulative distribution, or of its complement where that is smaller."""
    log_weight, loc, scale = discretised_parts(p)
    half = 1 / (2**BITS - 1)
    below = np.where(x > -1 + half, x - half, -np.inf)[..., None]
    above = np.where(x < 1 - half, x + half, np.inf)[..., None]
    side = np.where(x[..., None] > loc, -1, 1)
    ends = [scipy.special.expit(side * (end - loc) / scale) for end in (below, above)]
    return np.log((np.exp(log_weight) * np.abs(ends[1] - ends[0])).sum(-1)).sum(-1)


LOG_PROBS = {
    "bernoulli": bernoulli_log_prob,
    "gaussian": gaussian_log_prob,
    "categorical": categorical_log_prob,
    "gaussian_mixture": mixture_log_prob,
    "discretised_logistic_mixture": discretised_log_prob,
}


def some_frames(name: str, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    if name == "categorical":
        return generator.integers(0, D, shape)
    if name == "discretised_logistic_mixture":
        level = generator.integers(-1, 2**BITS + 1, (*shape, D)).clip(0, 2**BITS - 1)
        return 2 * level / (2**BITS - 1) - 1
    x = generator.standard_normal((*shape, D))
    return x if "gaussian" in name else (x > 0).astype(float)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_prob_is_the_formula(name):
    parameters = 2 * some_parameters(name, 5, 7).astype(np.float64)
    x = some_frames(name, 5, 7)
    ours = family(name).distribution(tf.constant(parameters)).log_prob(x)
    assert ours.shape == (5, 7)
    np.testing.assert_allclose(ours, LOG_PROBS[name](parameters, x), rtol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_extreme_parameters_give_finite_densities(name):
    # Variances of exp(+-100) are beyond float32; those of exp(+-20) are not.
    moderate = {"gaussian": D, "gaussian_mixture": K + K * D}.get(name)
    for seed in range(3):
        parameters = 100.0 * np.sign(some_parameters(name, 11, seed=seed))
        if moderate:
            parameters[..., moderate:] *= 0.2
        parameters = tf.constant(parameters, tf.float32)
        x = tf.constant(some_frames(name, 11), tf.int32 if name == "categorical" else tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = family(name).distribution(parameters).log_prob(x)
        assert np.isfinite(log_prob).all()
        assert np.isfinite(tape.gradient(log_prob, parameters)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_extreme_parameters_sample_their_mode(name):
    """Logits +-100 leave one outcome, whatever the noise."""
    emission = family(name)
    parameters = np.zeros(emission.parameter_size, np.float32)
    logits = {"bernoulli": D, "categorical": D, "gaussian_mixture": K}.get(name, 0)
    parameters[:logits] = -100.0
    parameters[1 : 2 if logits else 1] = 100.0
    if name == "discretised_logistic_mixture":
        parameters[: D * K : K], parameters[2 * D * K :] = 100.0, -100.0
    noise = np.repeat(np.array([-8.0, -1.0, 0.0, 1.0, 8.0], np.float32)[:, None], 2, axis=1)
    noise = np.tile(noise, (1, emission.noise_size))[:, : emission.noise_size]
    x = emission.sample(tf.constant(parameters), tf.constant(noise), tf.constant(1.0)).numpy()
    assert np.isfinite(x).all()
    if name == "bernoulli":
        np.testing.assert_array_equal(x, np.tile([0.0, 1.0, 0.0], (5, 1)))
    elif name == "categorical":
        np.testing.assert_array_equal(x, 1)
    elif name == "discretised_logistic_mixture":
        # The first component's place; noise of 8 moves it by 35 scales of an eighth of a level.
        np.testing.assert_allclose(x, np.full((5, D), 1 / K - 1), atol=5 * 2 / 2**BITS)
    else:
        np.testing.assert_allclose(x, noise[:, -D:])


def test_mixture_integrates_to_one():
    parameters = some_parameters("gaussian_mixture", 5, 1, frame_size=1)
    grid = np.linspace(-40, 40, 40_001)
    distribution = family("gaussian_mixture", 1).distribution(tf.constant(parameters))
    density = np.exp(distribution.log_prob(grid[:, None].astype(np.float32)))
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=-1), 1.0, atol=1e-4)


def within(sample: np.ndarray, expected: np.ndarray, tolerance: float = SIGMAS) -> None:
    """The mean over axis 0 is as expected, within its own standard errors."""
    error = sample.std(0) / np.sqrt(len(sample)) + 1e-7
    assert (np.abs(sample.mean(0) - expected) <= tolerance * error).all()


def test_bernoulli_frequencies():
    parameters = some_parameters("bernoulli")
    x = draw("bernoulli", parameters)
    assert set(np.unique(x)) == {0.0, 1.0}
    within(x, scipy.special.expit(parameters))
    within(x[:, 0] * x[:, 1], np.prod(scipy.special.expit(parameters[:2])))


def test_gaussian_is_its_distribution():
    parameters = some_parameters("gaussian")
    x = draw("gaussian", parameters)
    for d in range(D):
        law = scipy.stats.norm(parameters[d], np.exp(parameters[D + d] / 2))
        assert scipy.stats.kstest(x[:, d], law.cdf).statistic < 2.2 / SAMPLES**0.5
    assert np.abs(np.corrcoef(x.T)[np.triu_indices(D, 1)]).max() < SIGMAS / SAMPLES**0.5


def test_categorical_frequencies():
    parameters = 2 * some_parameters("categorical")
    x = draw("categorical", parameters)
    assert x.dtype == np.int32 and x.shape == (SAMPLES,)
    within(x[:, None] == np.arange(D), scipy.special.softmax(parameters))


def test_mixture_is_its_distribution():
    """Each dimension by Kolmogorov and Smirnov; pairs by the second moments."""
    parameters = 2 * some_parameters("gaussian_mixture")
    x = draw("gaussian_mixture", parameters)
    log_weight, loc, scale = mixture_parts(parameters)
    weight = np.exp(log_weight)
    for d in range(D):

        def cdf(v, d=d):
            return scipy.stats.norm.cdf(v[:, None], loc[:, d], scale[:, d]) @ weight

        assert scipy.stats.kstest(x[:, d], cdf).statistic < 2.2 / SAMPLES**0.5
    within(x[:, 0] * x[:, 1], weight @ (loc[:, 0] * loc[:, 1]))


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_agree_with_log_prob(name):
    """Cross-entropy of our samples = entropy of TFP's, both by SAMPLES / 4 draws."""
    parameters = some_parameters(name)
    distribution = family(name).distribution(tf.constant(parameters))
    ours = distribution.log_prob(draw(name, parameters, samples=SAMPLES // 4)).numpy()
    theirs = distribution.log_prob(distribution.sample(SAMPLES // 4, seed=(3, 4))).numpy()
    error = np.sqrt((ours.var() + theirs.var()) / (SAMPLES // 4))
    assert abs(ours.mean() - theirs.mean()) < SIGMAS * error + 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_mean_is_the_mean_of_samples(name):
    parameters = some_parameters(name)
    x = draw(name, parameters)
    if name == "categorical":
        x = x[:, None] == np.arange(D)
    within(x, family(name).mean(tf.constant(parameters)).numpy())


@pytest.mark.parametrize("name", FAMILIES)
def test_temperature_zero_is_the_mode(name):
    parameters = some_parameters(name)
    x = draw(name, parameters, temperature=0.0, samples=100)
    if name == "gaussian_mixture":
        log_weight, loc, _ = mixture_parts(parameters)
        expected = loc[log_weight.argmax()]
    elif name == "discretised_logistic_mixture":
        log_weight, loc, _ = discretised_parts(parameters)
        strongest = loc[np.arange(D), log_weight.argmax(-1)].clip(-1, 1)
        levels = 2**BITS - 1
        expected = np.float32(2 * np.round((strongest + 1) / 2 * levels) / levels - 1)
        np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), atol=1e-6)
        return
    else:
        modes = {
            "bernoulli": (parameters > 0).astype(np.float32),
            "gaussian": parameters[:D],
            "categorical": parameters.argmax(-1),
        }
        expected = modes[name]
    np.testing.assert_array_equal(x, np.broadcast_to(expected, x.shape))


@pytest.mark.parametrize("name", FAMILIES)
def test_colder_samples_are_likelier(name):
    """From the same noise; in the mean over 10,000 draws."""
    parameters = some_parameters(name)
    distribution = family(name).distribution(tf.constant(parameters))
    log_probs = [
        distribution.log_prob(draw(name, parameters, t, 10_000)).numpy().mean()
        for t in (0.0, 0.5, 1.0, 1.5)
    ]
    assert (np.diff(log_probs) < 0).all()


def test_temperature_of_each_row():
    emission = family("gaussian")
    parameters = tf.constant(some_parameters("gaussian", 4))
    noise = tf.random.stateless_normal((4, D), (0, 0))
    temperature = tf.constant([[0.0], [0.5], [1.0], [2.0]])
    rows = emission.sample(parameters, noise, temperature)
    for row in range(4):
        alone = emission.sample(parameters[row], noise[row], temperature[row])
        np.testing.assert_array_equal(rows[row], alone)


@pytest.mark.parametrize("name", FAMILIES)
def test_xla_samples_are_those_of_the_graph(name):
    emission = family(name)
    parameters = tf.constant(some_parameters(name, 50))
    noise = tf.random.stateless_normal((50, emission.noise_size), (5, 6))
    sample = emission.sample(parameters, noise, tf.constant(0.7))
    for jit in (False, True):
        compiled = tf.function(emission.sample, autograph=False, jit_compile=jit)
        x = compiled(parameters, noise, tf.constant(0.7))
        assert x.dtype == sample.dtype and x.shape == sample.shape
        np.testing.assert_allclose(x, sample, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("given", "made"),
    [("bfloat16", tf.float32), ("float16", tf.float32), ("float32", tf.float32)]
    + [("float64", tf.float64)],
)
def test_distributions_are_float32_at_least(name, given, made):
    parameters = tf.cast(some_parameters(name, 2), given)
    distribution = family(name).distribution(parameters)
    x = np.zeros(2, np.int32) if name == "categorical" else np.ones((2, D))
    log_prob = distribution.log_prob(x if name == "categorical" else tf.constant(x, made))
    assert log_prob.dtype == made
    # Raised before anything is computed, not after: the numbers are those of float32.
    exact = LOG_PROBS[name](tf.cast(parameters, tf.float64).numpy(), x)
    np.testing.assert_allclose(log_prob, exact, rtol=1e-5)


def test_widened_leaves_wide_numbers():
    assert widened(tf.constant(1.0, tf.float64)).dtype == tf.float64
    assert widened(tf.constant(1.0, tf.float16)).dtype == tf.float32


def test_normal_sums_over_the_last_axis():
    loc, scale = tf.constant([[0.0, 1.0]]), tf.constant([[1.0, 2.0]])
    expected = scipy.stats.norm.logpdf([0.5, 0.5], [0, 1], [1, 2]).sum()
    np.testing.assert_allclose(normal(loc, scale).log_prob([[0.5, 0.5]]), [expected], rtol=1e-6)
    empty = tf.zeros((4, 0))
    np.testing.assert_array_equal(normal(empty, empty).log_prob(empty), tf.zeros(4))
