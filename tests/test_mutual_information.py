"""Mutual information against exact answers. Statistical tests draw 4,096 positions."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from zforcing_tf.mutual_information import mutual_information


def draw(gains: list[float], scale: float, count: int, seed: int = 0):
    """z = gain x + scale noise with x ~ N(0, 1): I(z; x) is known for each dimension."""
    random = np.random.default_rng(seed)
    loc = random.standard_normal((count, len(gains))) * gains
    scales = np.full_like(loc, scale)
    return loc, scales, loc + scales * random.standard_normal(loc.shape)


@pytest.mark.parametrize(
    ("gains", "scale", "offset"),
    [([1.0], 1.0, 0.0), ([3.0], 0.5, 0.0), ([0.5, 1.0, 0.0, 2.0], 0.8, 1000.0)],
)
def test_of_a_linear_gaussian_posterior(gains: list[float], scale: float, offset: float) -> None:
    """0.5 log(1 + gain^2 / scale^2) of each dimension: 0.35, 1.81 and 2.65 nats.

    The standard deviation of the estimate is below sqrt(Z / M), 0.03. Where z lies does not matter.
    """
    loc, scales, latent = draw(gains, scale, 4096)
    truth = 0.5 * np.log1p((np.array(gains) / scale) ** 2).sum()
    found = mutual_information(loc + offset, scales, latent + offset)
    assert found == pytest.approx(truth, abs=0.1)


def test_it_is_the_formula() -> None:
    """Also across blocks: 1,300 positions, written down another way."""
    loc, _, _ = draw([1.0, 2.0], 1.0, 1300)
    random = np.random.default_rng(1)
    scale = np.exp(random.standard_normal(loc.shape))
    latent = loc + scale * random.standard_normal(loc.shape)
    log_q = stats.norm.logpdf(latent[:, None], loc, scale).sum(axis=-1)
    expected = np.mean(np.diag(log_q) - (logsumexp(log_q, axis=1) - np.log(1300)))
    assert mutual_information(loc, scale, latent) == pytest.approx(expected, rel=1e-10)


def test_a_posterior_that_sees_nothing_says_nothing() -> None:
    loc, scale, latent = draw([0.0] * 16, 0.7, 1000)
    assert mutual_information(loc, scale, latent) == pytest.approx(0.0, abs=1e-10)


def test_no_more_than_the_positions_can_tell_apart() -> None:
    loc, scale, latent = draw([1.0] * 8, 1e-3, 700)
    assert mutual_information(loc, scale, latent) == pytest.approx(np.log(700), abs=1e-10)
