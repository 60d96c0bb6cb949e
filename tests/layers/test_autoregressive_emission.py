"""The emission whose numbers depend on those before them in the frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.layers.harness import assert_close, assert_round_trip, normal, randomise
from zforcing_tf.layers.emission import Emission

D, F, E, K = 4, 3, 2, 2
NUMBERS = ("bernoulli", "gaussian", "gaussian_mixture", "discretised_logistic_mixture")
each_family = pytest.mark.parametrize("family", NUMBERS)
each_hidden_size = pytest.mark.parametrize("hidden_size", [0, 3, 10])
WARM = tf.constant(1.0)


def make(family: str = "bernoulli", hidden_size: int = 10, frame_size: int = D, **own) -> Emission:
    own = {"components": K, "sample_bits": 8, "autoregressive_hidden_size": hidden_size, **own}
    layer = Emission(family, frame_size, F, autoregressive=True, **own)
    randomise(layer, scale=0.8)
    return layer


def draw(layer: Emission, parameters: tf.Tensor, temperature: tf.Tensor = WARM) -> tf.Tensor:
    noise = normal(*parameters.shape[:-1], layer.noise_size, seed=3, dtype=parameters.dtype.name)
    return layer.sample(parameters, noise, tf.cast(temperature, noise.dtype))


def one_frame(layer: Emission, samples: int) -> tf.Tensor:
    """Parameters [samples, P] of one and the same feature vector."""
    return tf.tile(layer(normal(1, F, seed=5)), (samples, 1))


def by_hand(layer: Emission, given: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Parameters [D, P] of the numbers of one frame, unit by unit and number by number."""
    network, d = layer.network, layer.family.frame_size
    m, p = network.hidden_size, network.parameter_size
    w, a, v = (
        np.array(k) for k in (network.input_kernel, network.direct_kernel, network.output_kernel)
    )
    parameters = []
    for place in range(d):
        own = given[m + place * p : m + (place + 1) * p].copy()
        for j in range(place):
            own += x[j] * a[j, place * p : (place + 1) * p]
        for unit in range(m):
            seen = unit * d // m
            if seen <= place:
                h = given[unit] + sum(x[j] * w[j, unit] for j in range(seen))
                h = min(max(h if h > 0 else h / 3, -3), 3)
                own += h * v[unit, place * p : (place + 1) * p]
        parameters.append(own)
    return np.array(parameters)


@each_family
@each_hidden_size
def test_parameters_by_formula(family, hidden_size):
    layer = make(family, hidden_size, dtype="float64")
    given = layer(2 * normal(7, 2, F, dtype="float64"))
    assert given.shape == (7, 2, layer.network.given_size)
    x = normal(7, 2, D, seed=1, dtype="float64")
    ours = layer.network(given, x).numpy()
    for place in np.ndindex(7, 2):
        expected = by_hand(layer, given.numpy()[place], x.numpy()[place])
        np.testing.assert_allclose(ours[place], expected, atol=1e-12)


@each_family
@each_hidden_size
def test_a_number_reaches_those_behind_it_only(family, hidden_size):
    network = make(family, hidden_size).network
    given = normal(6, network.given_size)
    x = normal(6, D, seed=1).numpy()
    before = network(given, tf.constant(x)).numpy()
    for j in range(D):
        x_changed = x.copy()
        x_changed[:, j] += 1
        moved = np.abs(network(given, tf.constant(x_changed)).numpy() - before)
        assert (moved[:, : j + 1] == 0).all()
        assert (moved[:, j + 1 :] > 1e-4).all()


def outcomes(levels: np.ndarray, frame_size: int) -> tf.Tensor:
    return tf.constant(list(itertools.product(levels, repeat=frame_size)), tf.float32)


LEVELS = {
    "bernoulli": np.array([0.0, 1.0]),
    "discretised_logistic_mixture": np.array([-1, -1 / 3, 1 / 3, 1]),
}
each_discrete_family = pytest.mark.parametrize(
    ("family", "frame_size"), [("bernoulli", 5), ("discretised_logistic_mixture", 3)]
)


@each_discrete_family
@each_hidden_size
def test_all_frames_have_probability_one(family, frame_size, hidden_size):
    layer = make(family, hidden_size, frame_size, sample_bits=2)
    x = outcomes(LEVELS[family], frame_size)
    log_prob = layer.log_prob(one_frame(layer, len(x)), x).numpy()
    np.testing.assert_allclose(np.exp(log_prob.astype(np.float64)).sum(), 1.0, atol=2e-6)
    assert log_prob.std() > 0.1


@each_discrete_family
@each_hidden_size
def test_samples_have_these_probabilities(family, frame_size, hidden_size):
    """Chi-square over all frames, 20,000 draws: at most 5 standard deviations above its mean."""
    samples = 20_000
    layer = make(family, hidden_size, frame_size, sample_bits=2)
    drawn = draw(layer, one_frame(layer, samples)).numpy()
    x = outcomes(LEVELS[family], frame_size)
    expected = samples * np.exp(layer.log_prob(one_frame(layer, len(x)), x).numpy())
    counts = np.array([(np.abs(drawn - frame) < 1e-6).all(-1).sum() for frame in x.numpy()])
    assert counts.sum() == samples
    rare = expected < 5
    counts, expected = (np.append(v[~rare], v[rare].sum() + 1e-9) for v in (counts, expected))
    statistic = (np.square(counts - expected) / expected).sum()
    assert len(expected) > 8
    assert statistic < len(expected) + 5 * np.sqrt(2 * len(expected))


@each_hidden_size
def test_gaussian_density_is_the_product_of_conditional_ones(hidden_size):
    layer = make("gaussian", hidden_size, dtype="float64")
    given, x = layer(normal(20, F, dtype="float64")), normal(20, D, seed=1, dtype="float64")
    log_prob = layer.log_prob(given, x)
    for row in range(20):
        p = by_hand(layer, given.numpy()[row], x.numpy()[row])
        expected = scipy.stats.norm.logpdf(x[row], p[:, 0], np.exp(p[:, 1] / 2)).sum()
        np.testing.assert_allclose(log_prob[row], expected, rtol=1e-10)


def test_gaussian_density_integrates_to_one():
    layer = make("gaussian", 10, frame_size=2, dtype="float64")
    randomise(layer, scale=0.4)
    axis = np.linspace(-30, 30, 1201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    given = tf.repeat(layer(normal(1, F, dtype="float64")), len(grid), axis=0)
    density = np.exp(layer.log_prob(given, tf.constant(grid))).reshape(1201, 1201)
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1.0, atol=1e-3)


def test_linear_gaussian_is_a_multivariate_normal():
    """Without hidden units and with variances that do not depend on x, `x = loc + A^T x + noise`:
    its density, its mean, and the moments of 100,000 samples within 5 standard errors.
    """
    layer = make("gaussian", 0)
    direct = np.array(layer.network.direct_kernel).reshape(D, D, 2)
    direct[..., 1] = 0
    layer.network.direct_kernel.assign(direct.reshape(D, 2 * D))
    given = one_frame(layer, 100_000)
    loc, log_variance = given[0].numpy().reshape(D, 2).T.astype(np.float64)
    inverse = np.linalg.inv(np.eye(D) - np.triu(direct[..., 0], 1).T)
    mean, covariance = inverse @ loc, inverse @ np.diag(np.exp(log_variance)) @ inverse.T
    joint = scipy.stats.multivariate_normal(mean, covariance)
    x = draw(layer, given)
    np.testing.assert_allclose(layer.log_prob(given, x), joint.logpdf(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.mean(given[:1])[0], mean, rtol=1e-5, atol=1e-5)
    error = np.sqrt(np.diag(covariance) / 100_000)
    assert (np.abs(np.mean(x, axis=0) - mean) < 5 * error).all()
    spread = np.sqrt((np.outer(*[np.diag(covariance)] * 2) + covariance**2) / 100_000)
    assert (np.abs(np.cov(x.numpy().T) - covariance) < 5 * spread).all()


@each_family
@each_hidden_size
def test_sampling_sees_the_parameters_that_scoring_sees(family, hidden_size):
    layer = make(family, hidden_size)
    network, given = layer.network, layer(normal(5, 3, F))
    seen = []

    def draw_one(own: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        seen.append(own)
        return layer.number_family.sample(own, noise, WARM)

    noise = normal(5, 3, layer.noise_size, seed=3)
    x = network.draw(network.rows(), given, noise, draw_one)
    assert x.shape == (5, 3, D) and len(seen) == D
    np.testing.assert_array_equal(x, draw(layer, given))
    assert_close(tf.stack(seen, axis=-2), network(given, x))


@each_family
def test_temperature_zero_follows_the_modes(family):
    layer = make(family)
    given = layer(normal(5, 3, F))
    x = draw(layer, given, tf.constant(0.0))
    own = layer.network(given, x)
    noise = normal(5, 3, D, layer.number_family.noise_size, seed=8)
    expected = layer.number_family.sample(own, noise, tf.constant(0.0))[..., 0]
    assert_close(x, expected)
    assert_close(layer.mean(given), layer.number_family.mean(own)[..., 0])
    if family == "gaussian":
        assert_close(x, layer.mean(given))


def test_temperature_of_each_row():
    layer = make("gaussian")
    given, noise = layer(normal(3, F)), normal(3, layer.noise_size, seed=1)
    temperature = tf.constant([[0.0], [0.5], [1.0]])
    rows = layer.sample(given, noise, temperature)
    for row in range(3):
        alone = [v[row : row + 1] for v in (given, noise, temperature)]
        np.testing.assert_allclose(layer.sample(*alone)[0], rows[row], rtol=1e-5, atol=1e-6)


@each_family
def test_graph_and_xla_are_eager(family):
    """Scores, gradients, samples; to 1e-4, as what is drawn first moves what is drawn after it."""
    layer = make(family, frame_size=3)
    randomise(layer, scale=0.4)
    given, noise = layer(normal(3, 2, F)), normal(3, 2, layer.noise_size, seed=3)

    def run(given, noise):
        x = layer.sample(given, noise, tf.constant(0.7))
        with tf.GradientTape() as tape:
            tape.watch(given)
            log_prob = layer.log_prob(given, x)
        variables = [v.value for v in layer.network.trainable_variables]
        return x, log_prob, tape.gradient(log_prob, [given, *variables])

    eager = run(given, noise)
    for jit in (False, True):
        compiled = tf.function(run, autograph=False, jit_compile=jit)
        assert_close(compiled(given, noise), eager, 1e-4)


@pytest.mark.parametrize(
    ("family", "hidden_size"), [("bernoulli", 0), *itertools.product(NUMBERS, [10])]
)
def test_a_graph_need_not_know_the_shapes(family, hidden_size):
    """Of [B, .] and [T, B, .]; and without any rows."""
    layer = make(family, hidden_size, frame_size=3)

    def run(given, noise):
        x = layer.sample(given, noise, tf.constant(0.7))
        assert x.shape[-1] == 3
        return x, layer.log_prob(given, x), layer.mean(given)

    for leadings in ([(4,), (0,)], [(3, 2), (2, 0)]):
        unknown = [None] * len(leadings[0])
        widths = (layer.network.given_size, layer.noise_size)
        signature = [tf.TensorSpec([*unknown, width]) for width in widths]
        graph = tf.function(run, input_signature=signature, autograph=False)
        for leading in leadings:
            given, noise = layer(normal(*leading, F)), normal(*leading, layer.noise_size, seed=3)
            found = graph(given, noise)
            assert found[0].shape == found[2].shape == (*leading, 3)
            assert found[1].shape == leading
            assert_close(found, run(given, noise), 1e-4)


@each_family
def test_gradients_are_finite_and_only_where_weights_are_used(family):
    """At frames as far as float32 has a density for; used means not masked."""
    layer = make(family)
    x = 8 * np.sign(normal(50, D, seed=1).numpy())
    x = tf.constant(x.clip(*layer.family.limits), tf.float32)
    with tf.GradientTape() as tape:
        log_prob = layer.log_prob(layer(normal(50, F)), x)
    assert np.isfinite(log_prob).all()
    variables = layer.trainable_variables
    gradients = tape.gradient(log_prob, [v.value for v in variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    by_direct = dict(zip([v.path for v in variables], gradients, strict=True))[
        layer.network.direct_kernel.path
    ]
    used = np.abs(np.reshape(by_direct, (D, D, -1))).max(-1) > 0
    np.testing.assert_array_equal(used, np.triu(np.ones((D, D), bool), 1))


@pytest.mark.parametrize(
    ("dtype", "made"),
    [("float32", "float32"), ("mixed_bfloat16", "float32"), ("float64", "float64")],
)
@each_family
def test_dtype_and_round_trip(family, dtype, made):
    layer = make(family, dtype=dtype, skip_size=E)
    given = [normal(7, 2, F), normal(7, 2, E, seed=1)]
    parameters = layer(*given)
    x = draw(layer, parameters)
    assert {v.dtype.name for v in (parameters, x, layer.log_prob(parameters, x))} == {made}
    assert layer.mean(parameters).dtype == made
    assert_round_trip(layer, lambda layer: layer.log_prob(layer(*given), x))


def test_without_weights_of_its_own_it_is_the_factorised_emission():
    layer, plain = make(hidden_size=0), Emission("bernoulli", D, F)
    plain.set_weights([np.array(layer.output_kernel), np.array(layer.output_bias)])
    for variable in layer.network.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    features, noise = normal(6, F), normal(6, D, seed=1)
    x = plain.sample(plain(features), noise, WARM)
    np.testing.assert_array_equal(layer.sample(layer(features), noise, WARM), x)
    assert_close(layer.log_prob(layer(features), x), plain.log_prob(plain(features), x))
    assert_close(layer.mean(layer(features)), plain.mean(plain(features)))


def test_symbols_are_refused():
    with pytest.raises(ValueError, match="needs frames of numbers"):
        Emission("categorical", D, F, autoregressive=True)
