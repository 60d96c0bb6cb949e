"""What TensorBoard shows of a run: scalars of each epoch, and samples.

Of pictures the samples are images; of sound audio and spectrograms; of music piano rolls; of text
sentences. Other data has none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf import sentences
from zforcing_tf.data.description import FULL_SCALE, Sound, Text
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.sampling import continued, seconds_per_step, steps_of
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.spectrogram import limits, spectrogram
from zforcing_tf.training.writing import GO_ON, writing

MOST_SAMPLES = 4
"""Of sound, music and text."""
_SOUND_SECONDS, _MUSIC_SECONDS, _TEXT_STEPS = 1, 10, 40
_KEY_PIXELS, _STEP_PIXELS = 4, 8


class Summaries:
    """Writers of a run, one folder for each split.

    Args:
        directory: of the run's summaries.

    Raises:
        UserError: from each method too, if TensorFlow cannot write there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        with writing(self._directory):
            self._writers = {
                split: tf.summary.create_file_writer(str(self._directory / split))
                for split in ("train", "validation")
            }

    def scalars(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Writes values by name at a training step."""
        with self._writing(split, step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def samples(
        self,
        step: int,
        model: SequenceModel,
        spec: DataSpec,
        count: int,
        first: npt.NDArray[Any] | None = None,
    ) -> None:
        """Writes samples, `count` of pictures; of sound, music and text `MOST_SAMPLES` at most.

        These are short, so that epochs stay so: 1 second of sound, 10 of music, 40 tokens of text.

        Args:
            step: of the training.
            model: as it is by then.
            spec: of the data.
            count: samples.
            first: frames [n, 1, ...] that samples begin with, for a model that never learned how
                sequences begin; `count` is then n at most.
        """
        steps = _steps(spec)
        if not count or not steps:
            return
        count = count if spec.image_shape else min(count, MOST_SAMPLES)
        if first is None:
            x = model.generate(steps, count, seed=step).numpy()
        else:
            x = continued(model, first[:count], steps, seed=step)
            count = len(x)
        with self._writing("train", step):
            if spec.image_shape:
                images = np.reshape(x, (count, *spec.image_shape, 1))
                tf.summary.image("samples", images, max_outputs=count)
            elif spec.sound:
                _write_sound(spec.sound, spec.sound.samples(x).reshape(count, -1))
            elif spec.music:
                tf.summary.image("samples", _piano_rolls(x), max_outputs=count)
            elif spec.text:
                tf.summary.text("samples", _block(x, spec.text))

    def flush(self) -> None:
        """Puts everything on disk."""
        with writing(self._directory, GO_ON):
            for writer in self._writers.values():
                writer.flush()

    @contextlib.contextmanager
    def _writing(self, split: str, step: int) -> Iterator[None]:
        with writing(self._directory / split, GO_ON), self._writers[split].as_default(step):
            yield


def _steps(spec: DataSpec) -> int:
    """Length of samples; 0: data that is not shown."""
    if spec.image_shape:
        return spec.max_length
    if spec.sound or spec.music:
        seconds = _SOUND_SECONDS if spec.sound else _MUSIC_SECONDS
        return min(spec.max_length, steps_of(seconds, seconds_per_step(spec)))
    return min(spec.max_length, _TEXT_STEPS) if spec.text else 0


def _write_sound(sound: Sound, samples: npt.NDArray[np.int16]) -> None:
    """Samples [n, t] as audio and as spectrograms, the louder the brighter."""
    audio = samples[..., np.newaxis].astype(np.float32) / np.float32(FULL_SCALE)
    tf.summary.audio("samples", audio, sound.sample_rate, max_outputs=len(samples))
    pictures = np.stack([spectrogram(one, sound.sample_rate) for one in samples])
    low, high = limits(pictures)
    levels = np.clip((pictures[:, ::-1] - low) / (high - low), 0, 1)
    images = np.rint(255 * levels).astype(np.uint8)[..., np.newaxis]
    tf.summary.image("spectrograms", images, max_outputs=len(samples))


def _piano_rolls(x: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Rolls [n, T, D] as images [n, H, W, 1], high keys above, black where they are played."""
    keys = x.transpose(0, 2, 1)[:, ::-1].repeat(_KEY_PIXELS, axis=1).repeat(_STEP_PIXELS, axis=2)
    return np.where(keys > 0, 0, 255).astype(np.uint8)[..., np.newaxis]


def _block(x: npt.NDArray[np.int32], text: Text) -> str:
    """Sentences as a block of Markdown, in which a word such as <unk> is no markup."""
    return "\n".join(f"    {sentences.line(symbols, text)}" for symbols in x)
