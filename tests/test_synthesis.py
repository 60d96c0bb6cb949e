"""Piano rolls as sound: pitch, silence, level, duration."""

import numpy as np
import pytest

from zforcing_tf.data.description import Music
from zforcing_tf.synthesis import SAMPLE_RATE, frequency, render

MUSIC = Music(lowest_key=21, step_seconds=0.5)


def roll(*played, steps=4):
    """Zeros [steps, 88], but for (key, first step, step behind the last)."""
    x = np.zeros((steps, 88), np.float32)
    for key, start, end in played:
        x[start:end, key - 21] = 1
    return x


def loudest_hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**18))
    return np.argmax(spectrum) * SAMPLE_RATE / 2**18


@pytest.mark.parametrize(
    ("key", "hertz"), [(21, 27.5), (57, 220.0), (60, 261.6256), (69, 440.0), (108, 4186.009)]
)
def test_a_note_has_the_pitch_of_its_key(key, hertz):
    assert frequency(key) == pytest.approx(hertz, rel=1e-6)
    assert loudest_hertz(render(roll((key, 0, 4)), MUSIC)) == pytest.approx(hertz, abs=0.5)


def test_columns_begin_at_the_lowest_key():
    samples = render(roll((69, 0, 4)), Music(lowest_key=33, step_seconds=0.5))
    assert loudest_hertz(samples) == pytest.approx(880, abs=0.5)


def test_silence_stays_silent():
    samples = render(roll(), MUSIC)
    assert samples.dtype == np.int16 and not samples.any()
    assert len(samples) == 2 * SAMPLE_RATE + round(0.08 * SAMPLE_RATE)


def test_a_note_sounds_when_it_is_played_and_at_no_other_time():
    samples = render(roll((60, 1, 2)), MUSIC)
    before, note = np.split(samples, [SAMPLE_RATE // 2])
    end = SAMPLE_RATE // 2 + round(0.08 * SAMPLE_RATE)
    assert not before.any() and not note[end:].any()
    assert np.abs(note[: SAMPLE_RATE // 2].astype(int)).reshape(45, -1).max(axis=1).min() > 1000


def test_the_loudest_sample_is_below_full_scale_however_many_keys_sound():
    for keys in ((60,), range(21, 109)):
        samples = render(roll(*((key, 0, 4) for key in keys)), MUSIC).astype(int)
        assert np.abs(samples).max() == round(0.9 * 32767)


def test_a_run_of_steps_is_one_note():
    """Which dies away; two notes with a pause begin twice."""
    halves = [
        np.abs(render(roll(*notes), MUSIC)[: 2 * SAMPLE_RATE].astype(int)).reshape(4, -1)
        for notes in ([(60, 0, 4)], [(60, 0, 1), (60, 2, 3)])
    ]
    levels, struck = (half.max(axis=1) for half in halves)
    assert (np.diff(levels) < 0).all()
    assert struck[2] == pytest.approx(struck[0], rel=0.01)


def test_notes_neither_begin_nor_end_with_a_click():
    """Steps from sample to sample: small in the first and last 2 ms, and none larger when let go.

    440 Hz has 50 samples in a period, so 5 ms hold two.
    """
    steps = np.abs(np.diff(render(roll((69, 1, 3)), MUSIC).astype(float)))
    start, end = SAMPLE_RATE // 2, SAMPLE_RATE // 2 + SAMPLE_RATE
    two, five = round(0.002 * SAMPLE_RATE), round(0.005 * SAMPLE_RATE)
    assert steps[start : start + two].max() < 0.25 * steps.max()
    assert steps[-two:].max() < 0.02 * steps.max()
    assert steps[end - 1 :].max() < 1.01 * steps[end - five : end - 1].max()
