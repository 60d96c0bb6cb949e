"""LibriSpeech as TensorFlow Datasets lays it out, here with three utterances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.recording_files import noise
from zforcing_tf.config import DataConfig
from zforcing_tf.data import librispeech, registry
from zforcing_tf.data.recordings import resampled
from zforcing_tf.errors import UserError

SPLITS = ("dev_clean", "dev_other", "test_clean", "train_clean100")


class SmallLibrispeech(tfds.core.GeneratorBasedBuilder):
    """The features and some splits of the builder `librispeech`, one utterance each."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "speech": tfds.features.Audio(
                        sample_rate=16000, dtype=np.int16, file_format="flac"
                    ),
                    "text": tfds.features.Text(),
                    "speaker_id": np.int64,
                    "chapter_id": np.int64,
                    "id": np.str_,
                }
            ),
            metadata=tfds.core.MetadataDict(sample_rate=16000),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(k) for k, split in enumerate(SPLITS)}

    def _generate_examples(self, k: int) -> Iterator[Any]:
        yield (
            str(k),
            {"speech": noise(105, k), "text": "A", "speaker_id": k, "chapter_id": k, "id": str(k)},
        )


def test_clean_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librispeech, "_builder", lambda root: SmallLibrispeech(data_dir=root))
    monkeypatch.setattr(librispeech, "SOURCE", "")
    for rate in (16000, 8000):
        dataset = registry.load(
            DataConfig(
                dataset="librispeech", data_dir=str(tmp_path), frame_size=10, sample_rate=rate
            )
        )
        sound = dataset.spec.sound
        assert sound is not None
        assert sound.sample_rate == rate
        for split, name in zip(
            dataset.splits, ("train_clean100", "dev_clean", "test_clean"), strict=True
        ):
            samples = resampled(noise(105, SPLITS.index(name)), 16000, rate)
            expected = samples[: len(samples) // 10 * 10].reshape(-1, 10)
            np.testing.assert_array_equal(sound.samples(split.values), expected)


def test_the_builder_has_these_splits_and_features() -> None:
    """Of TensorFlow Datasets itself, which is not prepared for that."""
    import inspect

    from tensorflow_datasets.datasets.librispeech import librispeech_dataset_builder as original

    assert librispeech.SPLITS.keys() == {"train", "validation", "test"}
    assert set(librispeech.SPLITS.values()) <= original._DL_URLS.keys()
    assert '"speech"' in inspect.getsource(original.Builder._info)
    assert "sample_rate=16000" in inspect.getsource(original.Builder._info)


def test_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librispeech, "SOURCE", "http://127.0.0.1:9/nothing")
    with pytest.raises(UserError, match="needs pydub and ffmpeg, so install these, connect"):
        registry.load(DataConfig(dataset="librispeech", data_dir=str(tmp_path)))
