"""Spectrograms: where a sine stands, how loud it is, when it begins."""

import numpy as np
import pytest

from zforcing_tf.spectrogram import DYNAMIC_RANGE, limits, spectrogram

RATE = 16000


def sine(hertz, amplitude, seconds=1.0):
    t = np.arange(round(seconds * RATE)) / RATE
    return np.rint(amplitude * 32768 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


@pytest.mark.parametrize("hertz", [500.0, 1000.0, 6000.0])
def test_a_sine_stands_at_its_frequency_with_its_level(hertz):
    values = spectrogram(sine(hertz, 0.1), RATE)
    assert values.shape == (257, 201)  # windows of 400 samples, every 80
    middle = values[:, 100]
    assert np.argmax(middle) * RATE / 512 == hertz
    assert middle.max() == pytest.approx(-20, abs=0.1)
    assert np.sort(middle)[len(middle) // 2] < -60


def test_time_goes_in_columns():
    """Half a second of silence, 100 columns, before the sine."""
    samples = np.concatenate([np.zeros(RATE // 2, np.int16), sine(1000, 0.5, 0.5)])
    loudest = spectrogram(samples, RATE).max(axis=0)
    assert (loudest[:97] == -140).all()
    assert (loudest[103:198] > -7).all()


def test_the_shortest_sound_has_a_spectrogram():
    assert spectrogram(np.zeros(1, np.int16), RATE).shape == (257, 1)
    assert spectrogram(np.ones(5, np.int16), 30).shape[1] == 6


def test_limits_are_relative_to_the_loudest():
    assert limits(np.array([-100.0, -12.0])) == (-12 - DYNAMIC_RANGE, -12)
