"""When particles are drawn anew, which ones, and what their weights are."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf.errors import UserError
from zforcing_tf.resampling import Resampling, equal_weights, weigh

SCHEMES = pytest.mark.parametrize("scheme", ["systematic", "multinomial"])


def log_weights(*rows: tuple[float, ...]) -> tf.Tensor:
    return tf.math.log(tf.constant(rows, tf.float32))


def test_needed():
    weights = log_weights((0.25,) * 4, (0.5, 0.5, 0, 0), (0.6, 0.4, 0, 0), (1, 0, 0, 0))
    # Effective sizes 4, 2, 1 / (0.36 + 0.16) = 1.92, and 1; half of the particles are 2.
    np.testing.assert_array_equal(Resampling("ess").needed(weights)[0], False)
    np.testing.assert_array_equal(Resampling("ess").needed(weights)[2:], [True, True])
    assert Resampling("always").needed(weights).numpy().all()
    assert not Resampling("never").needed(weights).numpy().any()


@SCHEMES
def test_particles_are_drawn_in_proportion_to_their_weights(scheme):
    """20,000 draws of 5; each scheme is unbiased, within 5 standard errors of a binomial."""
    draws, weights = 20_000, np.array([0.5, 0.25, 0.15, 0.1, 0.0])
    resampling = Resampling("ess", scheme)
    noise = tf.random.stateless_normal((draws, resampling.noise_size(5)), (1, 2))
    rows = tf.repeat(log_weights(tuple(weights)), draws, axis=0)
    ancestors = resampling.draw(rows, noise).numpy()
    assert ancestors.dtype == np.int32 and ancestors.shape == (draws, 5)
    counts = np.stack([(ancestors == i).sum(axis=1) for i in range(5)], axis=1)
    error = 5 * np.sqrt(5 * weights * (1 - weights) / draws) + 1e-12
    assert (np.abs(counts.mean(axis=0) - 5 * weights) < error).all()
    if scheme == "systematic":  # floor or ceiling of the expected count, always
        assert (np.abs(counts - 5 * weights) < 1).all()


@SCHEMES
@pytest.mark.parametrize("noise", [-40.0, 0.0, 40.0])
def test_extreme_noise_draws_a_particle_that_exists(scheme, noise):
    resampling = Resampling("always", scheme)
    weights = equal_weights(tf.zeros((3, 100)))
    draws = tf.fill((3, resampling.noise_size(100)), noise)
    ancestors = resampling.draw(weights, draws).numpy()
    assert ancestors.min() >= 0 and ancestors.max() <= 99


@SCHEMES
def test_xla_draws_the_same(scheme):
    resampling = Resampling("always", scheme)
    weights = tf.nn.log_softmax(tf.random.stateless_normal((7, 9), (3, 4)))
    noise = tf.random.stateless_normal((7, resampling.noise_size(9)), (5, 6))
    compiled = tf.function(resampling.draw, jit_compile=True)
    np.testing.assert_array_equal(compiled(weights, noise), resampling.draw(weights, noise))


def test_weights_are_stable_over_ten_thousand_steps():
    """float32 against float64: increments of -1,000 nats a step, and particles far apart."""
    increments = np.random.default_rng(0).normal(-1000.0, 3.0, (10_000, 2, 8))

    def run(dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
        def body(i, weights, total):
            weights, term = weigh(weights, given[i])
            return i + 1, weights, total + tf.cast(term, tf.float64)

        given = tf.constant(increments, dtype)
        first = equal_weights(tf.zeros((2, 8), dtype))
        start = (0, first, tf.zeros(2, tf.float64))
        return tf.while_loop(lambda i, *_: i < 10_000, body, start)[1:]

    weights, total = tf.function(run)("float32")
    exact, exact_total = tf.function(run)("float64")
    np.testing.assert_allclose(total, exact_total, rtol=1e-6)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(np.exp(weights).sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(np.argmax(weights, 1), np.argmax(exact, 1))


def test_unknown_ways_are_refused():
    with pytest.raises(UserError, match="the criterion of resampling is 'Always'; give one of ess"):
        Resampling("Always")
    with pytest.raises(UserError, match="the scheme of resampling is 'residual'; give one of sys"):
        Resampling("ess", "residual")


def test_a_particle_without_weight_is_never_drawn():
    """However near to 1 the number is that draws."""
    weights = tf.math.log(tf.constant([[0.5, 0.5, 0.0, 0.0]]))
    for scheme in ("systematic", "multinomial"):
        resampling = Resampling("always", scheme)
        drawn = resampling.draw(weights, tf.fill((1, resampling.noise_size(4)), 40.0))
        assert drawn.numpy().max() <= 1
