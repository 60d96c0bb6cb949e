"""A data set is prepared in parts of those files that do not fit into memory."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from tests.data.recording_files import noise, write
from tests.limits import files_of_at_most, limited
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.prepared import ordered_key
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError

COUNT = 60


def recordings(folder: Path) -> DataConfig:
    for k in range(COUNT):
        write(folder / f"{k:03d}.wav", noise(100 + k, k))
    return DataConfig("audio_folder", manual_dir=str(folder), frame_size=10)


def lines(path: Path) -> DataConfig:
    path.write_text("".join(f"{path.stem} line {'x' * k} of {k}\n" for k in range(COUNT)))
    return DataConfig("text_file", manual_dir=str(path), vocabulary_size=200)


def files_of_lines(folder: Path) -> DataConfig:
    folder.mkdir()
    for name in ("train", "valid", "test"):
        lines(folder / f"{name}.txt")
    return DataConfig("text_file", manual_dir=str(folder), vocabulary_size=200)


def arrays(path: Path) -> DataConfig:
    path = path.with_suffix(".npy")
    np.save(path, np.random.RandomState(0).normal(size=(COUNT, 7, 3)).astype(np.float32))
    return DataConfig("array", manual_dir=str(path))


def prepared(config: DataConfig, data_dir: Path) -> Dataset:
    return registry.load(dataclasses.replace(config, data_dir=str(data_dir)))


@pytest.mark.parametrize("make", [recordings, lines, files_of_lines, arrays])
def test_sorted_in_parts(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make(tmp_path / "source")
    whole = prepared(config, tmp_path / "whole")
    lengths: list[list[int]] = []
    in_parts = shuffle.Shuffler._iter_buckets

    def counted(self):
        lengths.append([length for length in self.bucket_lengths if length])
        return in_parts(self)

    monkeypatch.setattr(shuffle.Shuffler, "_iter_buckets", counted)
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100)
    again = prepared(config, tmp_path / "again")
    train = max(lengths, key=sum)
    assert sum(train) == whole.train.num_sequences >= 48
    assert max(train) == 1  # fewer records than files: each in one of its own
    for split, expected in zip(again.splits, whole.splits, strict=True):
        np.testing.assert_array_equal(split.values, expected.values)
        np.testing.assert_array_equal(split.lengths, expected.lengths)
        assert split.names == expected.names


def test_open_files_are_allowed_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are sorted in as many files as there are, while recordings are opened."""
    pytest.importorskip("resource")
    config = recordings(tmp_path / "source")
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100)
    few = len(list(Path("/dev/fd").iterdir())) + 20
    with limited("NOFILE", few):
        assert prepared(config, tmp_path / "prepared").train.num_sequences == 48


def test_sequences_are_called_as_their_files(tmp_path: Path) -> None:
    config = recordings(tmp_path / "source")
    config = dataclasses.replace(config, max_length=12)
    with pytest.raises(UserError, match=r"^sequence 2\d \(03\d\.wav\) of split 'train' of dataset"):
        prepared(config, tmp_path / "prepared")


def test_keys_go_up_and_fill_the_range() -> None:
    keys = [ordered_key(index, 7) for index in range(7)]
    assert keys == sorted(set(keys))
    assert [shuffle.get_bucket_number(key, 7) for key in keys] == list(range(7))


def test_no_room_for_the_sequences(tmp_path: Path) -> None:
    """The place is named, and nothing stays of what was written."""
    config = arrays(tmp_path / "source")
    data = prepared(config, tmp_path / "data")
    written = next((tmp_path / "data").rglob("*/train.values.npy")).parent
    shutil.rmtree(written)
    with files_of_at_most(500), pytest.raises(OSError, match="File too large") as caught:
        prepared(config, tmp_path / "data")
    assert caught.value.filename == str(written)
    assert not list(written.parent.glob(f"*{written.name}*"))
    again = prepared(config, tmp_path / "data")
    np.testing.assert_array_equal(again.train.values, data.train.values)
