"""Audiobooks: which recordings of a release, and in which split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import builder_case
from tests.data.recording_files import noise, write
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.blizzard import Blizzard
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError


def make_release(folder: Path) -> Path:
    """Two books of 20 chapters, a chapter in two forms, and sentences of the same chapters."""
    for k in range(40):
        chapter = folder / "train" / "Unsegmented" / f"book{k % 2}" / f"{k:02d}.wav"
        write(chapter, noise(10 * (k + 1), k))
    write(folder / "train" / "Unsegmented" / "book0" / "04.mp3", noise(16000, 4))
    for k in range(5):
        write(folder / "train" / "segmented" / "wavn" / f"{k}.wav", noise(500, 50 + k))
    return folder


class BlizzardBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = Blizzard
    SPLITS = {"train": 36, "validation": 2, "test": 2}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        make_release(folder)


def load(folder: Path, **settings: Any) -> Dataset:
    return registry.load(
        DataConfig(
            dataset="blizzard",
            data_dir=str(folder.parent / "prepared"),
            manual_dir=str(folder),
            frame_size=10,
            **settings,
        )
    )


def test_chapters_by_rule(tmp_path: Path) -> None:
    dataset = load(make_release(tmp_path / "release"))
    by_path = sorted(range(40), key=lambda k: (k % 2, k))
    order = np.random.RandomState(0).permutation(40)
    sound = dataset.spec.sound
    assert sound is not None
    assert dataset.spec.name == "blizzard"
    for split, part in zip(dataset.splits, np.split(order, [36, 38]), strict=True):
        chapters = [by_path[k] for k in sorted(part)]
        assert [length - 1 for length in split.lengths] == chapters
        expected = np.concatenate([noise(10 * (k + 1), k) for k in chapters])
        np.testing.assert_array_equal(sound.samples(split.values).reshape(-1), expected)


def test_without_unsegmented_and_with_two_channels(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    for k in range(3):
        write(folder / f"{k}.flac", np.stack([noise(40, k), noise(40, k)], 1))
    dataset = load(folder)
    assert [split.lengths.tolist() for split in dataset.splits] == [[4], [4], [4]]


def test_wrong_folders(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "README").write_text("no sound")
    with pytest.raises(UserError, match="release holds no recordings .*: Accept the licence at"):
        load(folder)
    file = write(folder / "a.wav", noise(10))
    with pytest.raises(UserError, match="release holds 1 recordings .* give at least 3"):
        load(folder)
    with pytest.raises(UserError, match="is one file: give the folder of the recordings"):
        load(file)
