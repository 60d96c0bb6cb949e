"""Piano rolls, the layouts of files that hold them, and what a dataset of them must be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.config import DataConfig
from zforcing_tf.data.spec import Dataset

Roll = npt.NDArray[np.uint8]
Arrays = dict[str, npt.NDArray[Any]]

PLACES = {"train": "train", "valid": "validation", "test": "test"}


def roll(length: int, seed: int) -> Roll:
    """No two of different seeds are equal, and the last step sounds."""
    result = (np.random.RandomState(seed).rand(length, 88) < 0.1).astype(np.uint8)
    result[-1, seed % 88] = 1
    return result


ROLLS = {
    "train": [roll(7, 0), roll(1, 1), roll(12, 2)],
    "valid": [roll(4, 3)],
    "test": [roll(9, 4), roll(3, 5)],
}


def joined(packed: bool) -> Arrays:
    """The layout of rows one after the other, with lengths."""
    arrays: Arrays = {}
    for name, rolls in ROLLS.items():
        rows = np.concatenate(rolls)
        arrays[name] = np.packbits(rows, axis=1) if packed else rows
        arrays[f"{name}_len"] = np.array([len(rows) for rows in rolls], np.int32)
    return arrays


def streams() -> Arrays:
    """The layout of SRNN's data: training and validation without lengths."""
    # One row is left over at the end of the training split: 16 streams of 201 frames overlap.
    arrays: Arrays = {"train": roll(3202, 6), "valid": roll(1601, 7)}
    arrays["test"] = np.concatenate(ROLLS["test"])
    arrays["test_len"] = np.array([9, 3], np.int32)
    return {
        name: array if array.ndim == 1 else np.packbits(array, axis=1)
        for name, array in arrays.items()
    }


def srnn() -> Arrays:
    """The same sequences as SRNN's own file keeps them."""
    plain = {k: np.unpackbits(v, axis=1) for k, v in streams().items() if v.ndim == 2}
    arrays: Arrays = {}
    for name, chunks in (("train", 2), ("valid", 1)):
        for letter, first in (("u", 0), ("x", 1)):
            rows = plain[name][first : first + 1600 * chunks]
            chunked = rows.reshape(16, chunks, 100, 88).transpose(1, 0, 2, 3)
            arrays[f"{letter}_{name}"] = chunked.reshape(-1, 100, 88).astype(np.float32)
    arrays["u_test"] = np.full((2, 8, 88), np.nan, np.float32)  # as theirs is outside the mask
    arrays["x_test"] = np.zeros((2, 8, 88), np.float32)
    arrays["mask_test"] = np.zeros((2, 8), np.float32)
    for k, rows in enumerate(ROLLS["test"]):
        steps = len(rows) - 1
        arrays["u_test"][k, :steps] = rows[:-1]
        arrays["x_test"][k, :steps] = rows[1:]
        arrays["mask_test"][k, :steps] = 1
    return arrays


def save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def config(path: Path, **settings: Any) -> DataConfig:
    data_dir = os.fspath(path.parent / "prepared")
    return DataConfig("piano_roll", manual_dir=os.fspath(path), data_dir=data_dir, **settings)


def assert_rolls(dataset: Dataset, expected: Mapping[str, list[Roll]]) -> None:
    """Exactly these sequences, in this order."""
    for name, rolls in expected.items():
        split = dataset.split(PLACES.get(name, name))
        assert split.lengths.tolist() == [len(rows) for rows in rolls]
        np.testing.assert_array_equal(split.values, np.concatenate(rolls))
        assert split.values.dtype == np.float32


def assert_nothing_prepared(tmp_path: Path) -> None:
    """Neither whole nor in part; TensorFlow Datasets keeps a note of its own in `.config`."""
    assert not list((tmp_path / "prepared").glob("piano_roll/[!.]*"))
