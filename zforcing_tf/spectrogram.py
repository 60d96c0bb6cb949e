"""Which frequencies a sound has when, for people to look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import FULL_SCALE

Floats = npt.NDArray[np.floating]

DYNAMIC_RANGE = 70.0
"""Decibels below the loudest of real sound that a picture tells apart."""
WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.005
_QUIETEST = 1e-7  # of full scale, far below one level of 16 bits
_WINDOWS_AT_ONCE = 4096


def spectrogram(samples: npt.NDArray[np.int16], sample_rate: int) -> Floats:
    """Decibels [F, T] from 0 Hz to half the sample rate; 0 is a sine of full scale.

    Column t is a Hann window of `WINDOW_SECONDS` around the time t `HOP_SECONDS`; before the
    beginning and behind the end is silence.

    Args:
        samples: [n] int16.
        sample_rate: samples a second.
    """
    size = max(8, round(WINDOW_SECONDS * sample_rate))
    hop = max(1, round(HOP_SECONDS * sample_rate))
    padded = np.pad(samples.astype(np.float64) / FULL_SCALE, (size // 2, size))
    window = np.hanning(size + 2)[1:-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(samples) + 1 : hop]
    bins = 1 << (size - 1).bit_length()
    parts = [
        np.abs(np.fft.rfft(windows[start : start + _WINDOWS_AT_ONCE] * window, bins))
        for start in range(0, len(windows), _WINDOWS_AT_ONCE)
    ]
    amplitude = np.concatenate(parts).T * (2 / window.sum())
    return np.asarray(20 * np.log10(np.maximum(amplitude, _QUIETEST)))


def limits(loud: Floats) -> tuple[float, float]:
    """Decibels at which colours begin and end, relative to the loudest of some spectrograms."""
    top = float(np.max(loud, initial=-DYNAMIC_RANGE))
    return top - DYNAMIC_RANGE, top
