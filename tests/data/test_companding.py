"""Mu-law companding: its formula, its inverse, its ends."""

from __future__ import annotations

import numpy as np
import pytest

from zforcing_tf.data.companding import inverse_mu_law, mu_law

each_number_of_bits = pytest.mark.parametrize("bits", [1, 8, 16])


@each_number_of_bits
def test_ends_and_middle_stay(bits: int) -> None:
    ends = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(mu_law(ends, bits), ends, atol=1e-15)
    np.testing.assert_allclose(inverse_mu_law(ends, bits), ends, atol=1e-15)


@each_number_of_bits
def test_it_rises_and_is_odd(bits: int) -> None:
    x = np.linspace(-1, 1, 65_536)
    y = mu_law(x, bits)
    assert (np.diff(y) > 0).all()
    np.testing.assert_array_equal(mu_law(-x, bits), -y)
    assert (np.abs(y) >= np.abs(x)).all()


@each_number_of_bits
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_inverse(bits: int, dtype: type, tolerance: float) -> None:
    """Relative to each sample, the quietest ones too: 16 bits, then 1e-9 in 1."""
    x = np.concatenate([np.linspace(-1, 1, 65_536), [1e-9, -1e-9]]).astype(dtype)
    y = mu_law(x, bits)
    assert y.dtype == inverse_mu_law(y, bits).dtype == dtype
    np.testing.assert_allclose(inverse_mu_law(y, bits), x, rtol=tolerance, atol=0)


def test_known_values() -> None:
    """ITU-T G.711's mu = 255: log 1 + 255 x over log 256 = 8 log 2."""
    x = np.array([1 / 255, 3 / 255, 15 / 255, -63 / 255])
    np.testing.assert_allclose(mu_law(x, 8), [1 / 8, 2 / 8, 4 / 8, -6 / 8], rtol=1e-14)
    assert mu_law(np.array([1 / 65_535]), 16)[0] == pytest.approx(1 / 16)


def test_quiet_sound_gets_more_levels() -> None:
    """Of 256 levels the quietest 1% of the range takes more than a fifth, not 1%."""
    levels = inverse_mu_law(np.linspace(-1, 1, 256), 8)
    assert (np.abs(levels) < 0.01).mean() > 0.2
