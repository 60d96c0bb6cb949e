"""Frames of sound from the samples of a prepared dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.config import DataConfig
from zforcing_tf.data.description import FULL_SCALE, Sound
from zforcing_tf.data.recordings import Samples, resampled
from zforcing_tf.data.spec import Dataset, DataSpec
from zforcing_tf.data.stored import Record, first_of, store
from zforcing_tf.errors import UserError

MU_LAW_BITS = 16

SAMPLES = {"shape": (None,), "dtype": np.int16, "encoding": "bytes"}
"""Arguments of the feature `tfds.features.Tensor` of samples: kept exactly, in two bytes each."""


def sound_dataset(
    name: str,
    builder: Any,
    config: DataConfig,
    *,
    title: str = "",
    feature: str = "audio",
    splits: Mapping[str, str] | None = None,
) -> Dataset:
    """Recordings as sequences of frames of `config.frame_size` samples.

    Frames are whole: what is left at the end of a recording is dropped, and so is a recording
    shorter than a frame, of which `notes` tell.

    Args:
      name: the dataset, for errors.
      builder: a prepared `tfds.core.DatasetBuilder`, of whose metadata sample_rate is the rate of
        its recordings, and lower_rates, if it is there, as of `RecordingReader`.
      config: its frame_size, sample_rate (to which recordings are resampled; 0: as they are) and
        sound_scale count.
      title: name of the dataset in its description; empty: `name`.
      feature: of a record; holds `[n] int16`.
      splits: see `stored.store`.

    Raises:
      UserError: a split without a whole frame; nothing but silence.
    """
    stored_rate = int(builder.info.metadata["sample_rate"])
    rate = config.sample_rate or stored_rate

    def rows(record: Record) -> Samples:
        return whole_frames(resampled(record[feature], stored_rate, rate), config.frame_size)

    form = f"frames_{config.frame_size}" + f"_at_{rate}" * (rate != stored_rate)
    advice = (
        f"a step is {config.frame_size} samples at {rate} a second, so give longer recordings in "
        "it, take away those that are shorter if it was divided by rule, or make --frame_size less"
    )
    stored = store(name, builder, form, rows, (config.frame_size,), np.int16, splits, advice)
    sound = Sound(rate)
    if config.sound_scale == "mu_law":
        sound = Sound(rate, mu_law_bits=MU_LAW_BITS)
    elif config.sound_scale == "standardised":
        train = stored.statistics["train"]
        if not train.standard_deviation:
            raise UserError(
                f"the training split of dataset {name!r} holds nothing but one number, "
                f"{train.mean:g}, such as silence: give recordings of sound"
            )
        sound = Sound(rate, train.mean / FULL_SCALE, train.standard_deviation / FULL_SCALE)
    dataset = stored.dataset(
        lambda longest: DataSpec(title or name, "real", config.frame_size, longest, sound=sound),
        sound.frames,
    )
    short = {
        split.name: builder.info.splits[(splits or {}).get(split.name, split.name)].num_examples
        - split.num_sequences
        for split in dataset.splits
    }
    notes = [
        f"{dataset.spec.name} {split}: {count} recording{'s' * (count > 1)} shorter than a frame "
        f"of {config.frame_size} samples left out{first_of(stored.records[split].too_short)}"
        for split, count in short.items()
        if count
    ]
    lower = dict((builder.info.metadata or {}).get("lower_rates", {}))
    if stored_rate < rate:
        lower = {str(stored_rate): sum(split.num_sequences for split in dataset.splits)}
    notes += [
        f"{dataset.spec.name}: {count} recording{'s' * (count > 1)} of {recorded} samples a second "
        f"made {rate} by resampling, with nothing above {int(recorded) / 2:g} Hz"
        for recorded, count in sorted(lower.items(), key=lambda item: int(item[0]))
    ]
    return dataclasses.replace(dataset, notes=(*dataset.notes, *notes))


def whole_frames(samples: npt.NDArray[Any], frame_size: int) -> npt.NDArray[Any]:
    """Samples [n] as frames [n // frame_size, frame_size]; the rest is dropped."""
    count = len(samples) // frame_size
    return samples[: count * frame_size].reshape(count, frame_size)
