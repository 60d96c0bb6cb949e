"""What is reported, on numbers that can be checked by hand."""

import numpy as np
import pytest

from zforcing_tf.metrics import ActiveUnits, Count, Ratio, bits_per_dim


def test_a_ratio_is_of_sums():
    ratio = Ratio("name")
    assert np.isnan(ratio.result())
    ratio.update_state(6.0, 2.0)
    ratio.update_state(3.0, 1)
    ratio.update_state(0.0, False)
    assert float(ratio.result()) == 3
    ratio.reset_state()
    assert np.isnan(ratio.result())


def test_a_count_adds_up():
    count = Count("name")
    for amount in (True, False, 2.0):
        count.update_state(amount)
    assert float(count.result()) == 3


def test_bits_per_dim():
    assert bits_per_dim(-8 * np.log(2), num_steps=2, frame_size=4) == pytest.approx(1.0)


MEANS = np.zeros((3, 3, 4))
MEANS[:, :, 0] = [[5, -5, 9], [5, -5, 0], [5, 0, 0]]  # follows the clock alone
MEANS[:, :, 1] = [[1, 3, 9], [2, 3, 0], [6, 0, 0]]  # differs at the first step only
MEANS[:, :, 2] = [[0, 0.2, 1], [0, 0, 0], [0, 0, 0]]  # differs a little at the second
LENGTHS = np.array([3, 2, 1], np.int32)


def test_units_are_active_if_they_tell_sequences_apart():
    """Steps of 3, 2 and 1 valid sequences; what the padding holds does not matter."""
    padded = np.where((np.arange(3) < LENGTHS[:, None])[..., None], MEANS, np.nan)
    units = ActiveUnits()
    units.update(padded, LENGTHS)
    # Unit 1: (3 * var(1, 2, 6) + 2 * 0 + 1 * 0) / 6; unit 2: (3 * 0 + 2 * var(0.2, 0)) / 6.
    np.testing.assert_allclose(units.variance(), [0, 14 / 6, 0.02 / 6, 0], atol=1e-15)
    assert units.result() == 1


def test_units_do_not_depend_on_batches():
    whole, apart = ActiveUnits(), ActiveUnits()
    whole.update(MEANS, LENGTHS)
    for row in (2, 0, 1):
        apart.update(MEANS[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1])
    np.testing.assert_allclose(apart.variance(), whole.variance(), atol=1e-15)
