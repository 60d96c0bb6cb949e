"""Piano rolls in files of arrays: which rows become which sequences, and what is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import io

from tests import builder_case
from tests.piano_rolls import (
    ROLLS,
    Arrays,
    Roll,
    assert_nothing_prepared,
    assert_rolls,
    config,
    joined,
    roll,
    save,
    srnn,
    streams,
)
from zforcing_tf.data import registry
from zforcing_tf.data.description import Music
from zforcing_tf.data.piano_roll import PianoRoll
from zforcing_tf.errors import UserError


class PianoArraysBuilderTest(builder_case.BuilderCase):
    """The same on the one file of arrays in a folder."""

    DATASET_CLASS = PianoRoll
    SPLITS = {"train": 3, "validation": 1, "test": 2}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        save(folder / "songs.npz", joined(packed=True))


@pytest.mark.parametrize("packed", [False, True])
def test_pieces_one_after_the_other(
    tmp_path: Path, packed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = registry.load(config(save(tmp_path / "songs.npz", joined(packed))))
    assert_rolls(dataset, ROLLS)
    assert dataset.spec.to_json() == {
        "name": "piano_roll/songs",
        "kind": "binary",
        "frame_size": 88,
        "max_length": 12,
        "image_shape": None,
        "music": {"lowest_key": 21, "step_seconds": 0.25},
    }
    assert dataset.skipped == ()
    assert not caplog.messages  # such as of TensorFlow Datasets on a configuration it did not know


def test_jsb_chorales_are_in_quarter_notes(tmp_path: Path) -> None:
    dataset = registry.load(config(save(tmp_path / "JSB_small.npz", joined(True))))
    assert dataset.spec.music == Music(21, 0.5)


def test_one_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    save(tmp_path / "here" / "songs.npz", joined(True))
    dataset = registry.load(config(tmp_path / "here"))
    assert_rolls(dataset, ROLLS)
    assert dataset.spec.name == "piano_roll/songs"


def test_streams_are_sixteen_sequences_that_share_their_ends(tmp_path: Path) -> None:
    arrays = streams()
    dataset = registry.load(config(save(tmp_path / "songs.npz", arrays)))
    train, valid = (np.unpackbits(arrays[name], axis=1) for name in ("train", "valid"))
    expected = {
        "train": [train[start : start + 201] for start in range(0, 3200, 200)],
        "valid": [valid[start : start + 101] for start in range(0, 1600, 100)],
        "test": ROLLS["test"],
    }
    assert_rolls(dataset, expected)
    assert dataset.spec.name == "piano_roll/songs_streams"
    assert dataset.spec.music == Music(21, 0.3)


def test_file_of_srnn_gives_the_same_sequences(tmp_path: Path) -> None:
    expected = registry.load(config(save(tmp_path / "streams.npz", streams())))
    dataset = registry.load(config(save(tmp_path / "srnn.npz", srnn())))
    assert dataset.spec.music == expected.spec.music
    assert dataset.spec.name == "piano_roll/srnn_streams"
    for split, wanted in zip(dataset.splits, expected.splits, strict=True):
        np.testing.assert_array_equal(split.values, wanted.values)
        np.testing.assert_array_equal(split.lengths, wanted.lengths)


def cells(rolls: list[Roll]) -> npt.NDArray[np.object_]:
    result = np.empty((1, len(rolls)), object)
    for k, rows in enumerate(rolls):
        result[0, k] = rows.astype(np.float64)
    return result


def test_mat_file(tmp_path: Path) -> None:
    path = tmp_path / "JSB_small.mat"
    io.savemat(path, {f"{name}data": cells(rolls) for name, rolls in ROLLS.items()})
    dataset = registry.load(config(path))
    assert_rolls(dataset, ROLLS)
    assert dataset.spec.name == "piano_roll/JSB_small"
    assert dataset.spec.music == Music(21, 0.5)


def test_a_changed_file_is_prepared_anew(tmp_path: Path) -> None:
    path = save(tmp_path / "songs.npz", joined(True))
    registry.load(config(path))
    changed = {**joined(True), "valid": np.packbits(roll(4, 8), axis=1)}
    os.utime(save(path, changed), (1, 1))
    assert_rolls(registry.load(config(path)), {**ROLLS, "valid": [roll(4, 8)]})


def without(arrays: Arrays, *names: str) -> Arrays:
    return {name: array for name, array in arrays.items() if name not in names}


def poked(arrays: Arrays, name: str, place: tuple[int, ...], value: float) -> Arrays:
    changed = arrays[name].astype(np.float32)
    changed[place] = value
    return {**arrays, name: changed}


BAD_ARRAYS: dict[str, tuple[Arrays, str]] = {
    "no_array": ({"x": np.zeros(3)}, "{path} lacks the arrays train, valid, test, test_len: give"),
    "no_test_lengths": (without(joined(True), "test_len"), "{path} lacks the array test_len: give"),
    "half_of_the_lengths": (
        without(joined(True), "valid_len"),
        "{path} lacks the array valid_len: give a file with the arrays train, train_len, ",
    ),
    "half_of_srnn": (without(srnn(), "mask_test"), "{path} lacks the array mask_test: give a file"),
    "lengths_do_not_sum": (
        {**joined(True), "train_len": np.array([7, 1, 11])},
        "the lengths train_len of {path} sum to 19, but train has 20 rows: give the frames of each",
    ),
    "length_below_0": (
        {**joined(True), "train_len": np.array([21, -1])},
        "train_len of {path} is no list of lengths: give the frames of each",
    ),
    "lengths_of_floats": (
        {**joined(True), "train_len": np.array([7.0, 1.0, 12.0])},
        "train_len of {path} is no list of lengths: give",
    ),
    "number_2": (
        poked(joined(False), "valid", (3, 80), 2),
        "{path} has no piece of split 'validation' that can be used (songs.npz: valid[0] holds 2.0 "
        "in step 3): mend it",
    ),
    "not_a_number": (
        poked(joined(False), "valid", (3, 80), np.nan),
        "{path} has no piece of split 'validation' that can be used (songs.npz: valid[0] holds nan "
        "in step 3): mend it",
    ),
    "wide": (
        {**joined(False), "train": np.zeros((20, 89), np.uint8)},
        "train of {path} is uint8 of shape [20, 89]: it must be rows of 88 zeros and ones, or of "
        "their 11 packed bytes",
    ),
    "packed_as_integers": (
        {**joined(True), "train": np.zeros((20, 11), np.int64)},
        "train of {path} is int64 of shape [20, 11]: it must be rows of 88 zeros",
    ),
    "short_stream": (
        {**streams(), "valid": np.zeros((1600, 88), np.uint8)},
        "valid of {path} has 1600 rows, too few for 16 streams of 100 steps: give valid_len with",
    ),
    "srnn_shapes": (
        {**srnn(), "u_valid": np.zeros((16, 100, 87))},
        "u_valid and x_valid of {path} have the shapes [16, 100, 87] and [16, 100, 88]: both must",
    ),
    "srnn_batch": (
        {**srnn(), "u_valid": np.zeros((15, 100, 88)), "x_valid": np.zeros((15, 100, 88))},
        "u_valid of {path} has 15 chunks, no multiple of 16: give the file as SRNN was trained",
    ),
    "srnn_order": (
        {**srnn(), "u_train": srnn()["u_train"][::-1]},
        "u and x of train[0::16] of {path} are not the same frames one step apart: give the file",
    ),
    "srnn_mask": (
        poked(srnn(), "mask_test", (1, 0), 0),
        "mask_test of {path} is not one run of ones from the first step of each test piece: give",
    ),
    "srnn_nan_inside": (
        {**srnn(), "u_test": np.full((2, 8, 88), np.nan)},
        "u and x of test[0] of {path} are not the same frames one step apart",
    ),
    "pickled": (
        {**joined(True), "train": np.array([roll(7, 0), roll(1, 1)], object)},
        "array 'train' of {path} is pickled, which is never unpickled, as that could run anything: "
        "save plain arrays with numpy.savez",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, case: str) -> None:
    arrays, sentence = BAD_ARRAYS[case]
    path = save(tmp_path / "songs.npz", arrays)
    # Leaving records out is no way out of what is wrong with all of a file, or of a split.
    with pytest.raises(UserError) as error:
        registry.load(config(path, skip_bad_records=True))
    assert str(error.value).startswith(sentence.format(path=path))
    assert_nothing_prepared(tmp_path)


@pytest.mark.parametrize("bad", [2, np.nan])
def test_bad_pieces_are_named_or_left_out(tmp_path: Path, bad: float) -> None:
    """Of the second training piece; of one stream of many that are joined none can be left out."""
    place = len(ROLLS["train"][0])
    path = save(tmp_path / "songs.npz", poked(joined(False), "train", (place, 80), bad))
    with pytest.raises(UserError) as error:
        registry.load(config(path))
    assert str(error.value) == (
        f"train[1] of {path} holds {float(bad)} in step 0 (counted from 0): give zeros and ones, "
        "or have such pieces left out with --skip_bad_records"
    )
    dataset = registry.load(config(path, skip_bad_records=True))
    assert_rolls(dataset, {**ROLLS, "train": [ROLLS["train"][0], *ROLLS["train"][2:]]})
    assert dataset.skipped == (f"songs.npz: train[1] holds {float(bad)} in step 0",)
    unpacked = {k: np.unpackbits(v, axis=1) if v.ndim == 2 else v for k, v in streams().items()}
    path = save(tmp_path / "streams.npz", poked(unpacked, "train", (place, 80), bad))
    for skip in (False, True):
        with pytest.raises(UserError, match=r"^train\[0:.*: give zeros and ones$"):
            registry.load(config(path, skip_bad_records=skip))


def test_pieces_without_a_step_are_named_or_left_out(tmp_path: Path) -> None:
    arrays = {**joined(True), "train_len": np.array([7, 1, 0, 12])}
    path = save(tmp_path / "songs.npz", arrays)
    with pytest.raises(UserError, match=r"^train\[2\] of .* has no step .* --skip_bad_records$"):
        registry.load(config(path))
    dataset = registry.load(config(path, skip_bad_records=True))
    assert_rolls(dataset, ROLLS)
    assert dataset.skipped == ("songs.npz: train[2] has no step",)


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["songs.pickle", "songs.pkl", "songs.npz"])
@pytest.mark.parametrize("protocol", [0, 4])
def test_pickled_files_are_never_unpickled(tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "bomb"), protocol))
    pattern = "is a pickled file, which is never" if protocol or "npz" not in name else "is no npz"
    with pytest.raises(UserError, match=f"{path} {pattern}"):
        registry.load(config(path))
    assert not (tmp_path / "bomb").exists()


def test_pickled_arrays_are_never_unpickled(tmp_path: Path) -> None:
    bomb = np.array([Bomb(tmp_path / "bomb")], object)
    path = save(tmp_path / "songs.npz", {**joined(True), "train_len": bomb})
    with pytest.raises(UserError, match="array 'train_len' of .* is pickled, which is never"):
        registry.load(config(path))
    assert not (tmp_path / "bomb").exists()


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "songs.npz"
    path.write_text("no arrays")
    with pytest.raises(UserError, match=f"{path} is no npz file: give one with the arrays train, "):
        registry.load(config(path))
    save(path, joined(False))
    data = bytearray(path.read_bytes())
    data[200] ^= 255  # in the rows of the first array
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{path} is damaged \(Bad CRC-32.*\): copy or make it"):
        registry.load(config(path))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=f"{path} is no npz file"):
        registry.load(config(path))


def test_bad_mat_files(tmp_path: Path) -> None:
    path = tmp_path / "songs.mat"
    path.write_bytes(b"no arrays" * 40)
    with pytest.raises(UserError, match=rf"{path} cannot be read as a mat file \(.*\): copy it"):
        registry.load(config(path))
    good = {f"{name}data": cells(rolls) for name, rolls in ROLLS.items()}
    io.savemat(path, without(good, "validdata"))
    with pytest.raises(UserError, match=f"{path} lacks the array validdata: give a file with"):
        registry.load(config(path))
    io.savemat(path, {**good, "testdata": np.zeros((5, 88))})
    with pytest.raises(UserError, match=f"testdata of {path} holds no cells: give a cell with"):
        registry.load(config(path))
    io.savemat(path, {**good, "testdata": cells([roll(3, 0), roll(4, 1)[:, :80]])})
    with pytest.raises(UserError, match=rf"testdata\[1\] of {path} is float64 of shape \[4, 80\]"):
        registry.load(config(path))
    io.savemat(path, {**good, "traindata": cells([roll(3, 0) * 3])})
    with pytest.raises(UserError, match=rf"traindata\[0\] of {path} holds 3.0 in step "):
        registry.load(config(path))
