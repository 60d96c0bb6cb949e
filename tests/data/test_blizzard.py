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


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release that is made here has 8,200 samples: one half second."""
    monkeypatch.setattr(Blizzard, "HALF_SECONDS", 1)


class BlizzardBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = Blizzard
    SPLITS = {"train": 36, "validation": 2, "test": 2}

    @classmethod
    def setUpClass(cls) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Blizzard, "HALF_SECONDS", 1)
            super().setUpClass()

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


def test_half_seconds_as_published(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    for k in range(3):
        write(folder / f"{k}.wav", noise(8000 * (k + 4), k))
    dataset = load(folder, chunk_length=800, chunk_evaluation=True)
    pieces = [split.cut(800) for split in dataset.splits]
    assert sorted(split.num_sequences for split in pieces) == [4, 5, 6]
    assert dataset.notes[-1].startswith("blizzard: 15 half seconds in whole frames; the published ")


def test_a_part_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_release(tmp_path / "release")
    monkeypatch.setattr(Blizzard, "HALF_SECONDS", 2_266_880)
    with pytest.raises(UserError) as error:
        load(folder)
    assert str(error.value) == (
        f"{folder} is no complete copy of the Blizzard Challenge 2013: its 40 recordings have 1 "
        "half seconds, and the published experiments 2,266,880: add what is missing, or take what "
        "there is as any other recordings, with --dataset=audio_folder"
    )
    assert not list((tmp_path / "prepared").rglob("*1.0.0*"))
    (folder / "train" / "Unsegmented" / "book0" / "00.wav").write_bytes(b"no sound")
    with pytest.raises(
        UserError, match=r" \(of 1 more recordings the header cannot be read\), and"
    ):
        load(folder)


def test_what_is_left_out_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "release"
    for k in range(4):
        write(folder / f"{k}.wav", noise(8000, k))
        write(folder / f"copy{k}.wav", noise(8000, k))
    monkeypatch.setattr(Blizzard, "HALF_SECONDS", 8)
    with pytest.raises(UserError, match="its 4 recordings have 4 half seconds, and the published"):
        load(folder, skip_bad_records=True)


def test_without_unsegmented_and_with_two_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blizzard, "HALF_SECONDS", 0)
    folder = tmp_path / "release"
    for k in range(3):
        write(folder / f"{k}.flac", np.stack([noise(40, k), noise(40, k)], 1))
    dataset = load(folder)
    assert [split.lengths.tolist() for split in dataset.splits] == [[4], [4], [4]]


def test_wrong_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Blizzard, "HALF_SECONDS", 0)
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
