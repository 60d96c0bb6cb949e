"""Piano rolls as sound: each note is a few harmonics that die away, as of a struck string."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import FULL_SCALE, Music

SAMPLE_RATE = 22050
"""Samples a second."""
_PEAK = 0.9  # of full scale
_HARMONICS = 6
_FALL = 1.6  # the k-th harmonic has the amplitude k^-_FALL
_DECAY = 0.8  # of the first harmonic, in e-folds a second; the k-th dies sqrt(k) times as fast
_ATTACK, _RELEASE = 0.008, 0.08  # seconds


def frequency(key: int) -> float:
    """Hertz of a MIDI key, in equal temperament with A4 (69) at 440."""
    return float(440 * 2 ** ((key - 69) / 12))


def render(roll: npt.NDArray[Any], music: Music) -> npt.NDArray[np.int16]:
    """Plays a roll: a run of steps of a key is one note.

    Args:
        roll: [T, D], zeros and ones.
        music: what its columns and steps are.

    Returns:
        Samples [n] int16 at `SAMPLE_RATE`; n is T steps and the release of the last notes. The
        loudest is 0.9 of full scale; without notes all are zero.
    """
    release = round(_RELEASE * SAMPLE_RATE)
    at = np.rint(np.arange(len(roll) + 1) * music.step_seconds * SAMPLE_RATE).astype(int)
    sound = np.zeros(at[-1] + release)
    silence = np.zeros((1, roll.shape[1]), np.int8)
    on = np.concatenate([silence, (roll > 0).astype(np.int8), silence])
    for column in np.flatnonzero(on.any(axis=0)).tolist():
        change = np.diff(on[:, column])
        pitch = frequency(music.lowest_key + column)
        starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
        for start, end in zip(at[starts].tolist(), at[ends].tolist(), strict=True):
            sound[start : end + release] += _note(pitch, end - start, release)
    loudest = np.abs(sound).max(initial=0.0)
    if loudest:
        sound *= _PEAK * (FULL_SCALE - 1) / loudest
    return np.rint(sound).astype(np.int16)


def _note(pitch: float, held: int, release: int) -> npt.NDArray[np.floating]:
    """A note of `held` samples and its release, which begin and end at zero."""
    seconds = np.arange(held + release) / SAMPLE_RATE
    note = np.zeros(len(seconds))
    for k in range(1, _HARMONICS + 1):
        if k * pitch < SAMPLE_RATE / 2:
            fading = np.exp(-_DECAY * k**0.5 * seconds)
            note += k**-_FALL * fading * np.sin(2 * np.pi * k * pitch * seconds)
    note *= np.minimum(1, seconds / _ATTACK)
    note[held:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, release + 1) / release)
    return note
