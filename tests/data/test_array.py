"""Arrays of users: which rows become which sequences, and what is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests import builder_case
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.array import Array
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError

Arrays = Mapping[str, npt.NDArray[Any]]


def config(path: Path, **settings: Any) -> DataConfig:
    data_dir = os.fspath(path.parent / "prepared")
    return DataConfig("array", manual_dir=os.fspath(path), data_dir=data_dir, **settings)


def load(path: Path, arrays: Arrays, **settings: Any) -> Dataset:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return registry.load(config(path, **settings))


def numbers(*shape: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.RandomState(seed).normal(size=shape)


def splits(**more: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """3, 2 and 1 sequences of 5, 4 and 6 steps of 2 numbers."""
    shapes = {"train": (3, 5, 2), "validation": (2, 4, 2), "test": (1, 6, 2)}
    return {**{name: numbers(*shape) for name, shape in shapes.items()}, **more}


def assert_sequences(dataset: Dataset, expected: Mapping[str, list[npt.NDArray[Any]]]) -> None:
    for split in dataset.splits:
        wanted = expected[split.name]
        assert split.lengths.tolist() == [len(rows) for rows in wanted]
        dtype = np.int32 if dataset.spec.kind == "symbol" else np.float32
        assert split.values.dtype == dtype
        np.testing.assert_array_equal(split.values, np.concatenate(wanted).astype(dtype))


class ArrayBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder, on the one file of a folder."""

    DATASET_CLASS = Array
    SPLITS = {"train": 3, "validation": 2, "test": 1}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        np.savez(folder / "mine.npz", **splits())  # type: ignore[arg-type]


def test_numbers_of_three_splits(tmp_path: Path) -> None:
    arrays = splits()
    dataset = load(tmp_path / "v1.mine.npz", arrays)
    assert_sequences(dataset, {name: list(array) for name, array in arrays.items()})
    assert dataset.spec.to_json() == {
        "name": "array/v1.mine",
        "kind": "real",
        "frame_size": 2,
        "max_length": 6,
        "image_shape": None,
    }
    train = arrays["train"].astype(np.float32)
    assert dataset.notes == (
        f"array/v1.mine: real numbers in their own units, of mean {train.mean():g} and standard "
        f"deviation {train.std():g} over the training split",
    )


def test_padded_sequences_with_lengths(tmp_path: Path) -> None:
    """What the padding holds does not matter; valid is another name of validation."""
    arrays = splits(train_lengths=np.array([2, 5, 1]), valid_lengths=np.array([4, 3], np.uint8))
    arrays["valid"] = arrays.pop("validation")
    arrays["train"][0, 2:] = np.nan
    dataset = load(tmp_path / "mine.npz", arrays)
    train, valid = arrays["train"], arrays["valid"]
    expected = {
        "train": [train[0, :2], train[1], train[2, :1]],
        "validation": [valid[0], valid[1, :3]],
        "test": list(arrays["test"]),
    }
    assert_sequences(dataset, expected)


def test_sequences_one_after_the_other(tmp_path: Path) -> None:
    rows = {name: numbers(12, 3, seed=k) for k, name in enumerate(("train", "validation", "test"))}
    lengths = {"train": [7, 1, 4], "validation": [12], "test": [5, 7]}
    arrays = {f"{name}_lengths": np.array(values) for name, values in lengths.items()}
    dataset = load(tmp_path / "mine.npz", {**rows, **arrays})
    expected = {name: np.split(rows[name], np.cumsum(lengths[name])[:-1]) for name in rows}
    assert_sequences(dataset, expected)


@pytest.mark.parametrize("ragged", [False, True])
def test_numbers_without_axis(tmp_path: Path, ragged: bool) -> None:
    """[N, T], or all steps one after the other, has frames of one number."""
    arrays: dict[str, npt.NDArray[Any]] = {
        name: numbers(4, 6, seed=k).astype(np.float32)
        for k, name in enumerate(("train", "validation", "test"))
    }
    expected = {name: list(array[..., None]) for name, array in arrays.items()}
    if ragged:
        arrays = {name: array.reshape(-1) for name, array in arrays.items()}
        arrays |= {f"{name}_lengths": np.full(4, 6) for name in expected}
    dataset = load(tmp_path / "mine.npz", arrays)
    assert (dataset.spec.kind, dataset.spec.frame_size) == ("real", 1)
    assert_sequences(dataset, expected)


@pytest.mark.parametrize("count", [3, 10, 25])
@pytest.mark.parametrize("name", ["x", "mine", ""])
def test_one_array_is_split_by_rule(tmp_path: Path, name: str, count: int) -> None:
    """As of piano rolls and recordings; `""` is an npy file."""
    x = numbers(count, 4, 2)
    if name:
        settings = {"feature": name} if name != "x" else {}
        arrays = {name: x, "train": np.zeros(1), "y": np.arange(count)}
        dataset = load(tmp_path / "all.npz", arrays, **settings)
    else:
        np.save(tmp_path / "all.npy", x)
        dataset = registry.load(config(tmp_path / "all.npy"))
    held_out = max(1, count // 10)
    order = np.random.RandomState(0).permutation(count)
    parts = np.split(order, [count - 2 * held_out, count - held_out])
    expected = {
        split: [x[k] for k in sorted(part)]
        for split, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    assert_sequences(dataset, expected)
    assert dataset.spec.name == "array/all"


@pytest.mark.parametrize("lengths", ["lengths", "x_lengths"])
def test_lengths_of_one_array(tmp_path: Path, lengths: str) -> None:
    arrays = {"x": numbers(3, 4, 2), lengths: np.array([4, 1, 2])}
    dataset = load(tmp_path / "mine.npz", arrays)
    (test, validation, train) = np.random.RandomState(0).permutation(3)[::-1]
    steps = [4, 1, 2]
    found = [split.lengths.tolist() for split in dataset.splits]
    assert found == [[steps[train]], [steps[validation]], [steps[test]]]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.uint8])
@pytest.mark.parametrize("axes", [2, 3])
def test_integers_are_symbols(tmp_path: Path, dtype: type[np.generic], axes: int) -> None:
    """As many as the greatest of all splits says."""
    greatest = {"train": 4, "validation": 1, "test": 9}
    arrays = {name: np.array([[0, 1], [1, k]], dtype) for name, k in greatest.items()}
    shaped = {n: a[..., None] if axes == 3 else a for n, a in arrays.items()}
    dataset = load(tmp_path / "mine.npz", shaped)
    assert (dataset.spec.kind, dataset.spec.frame_size) == ("symbol", 10)
    assert dataset.spec.text is None
    assert_sequences(dataset, {name: list(array) for name, array in arrays.items()})


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_zeros_and_ones(tmp_path: Path, dtype: type[np.generic]) -> None:
    """Padding of other numbers is no part of them."""
    arrays = {name: (numbers(2, 3, 4, seed=k) > 0).astype(dtype) for k, name in enumerate("abc")}
    named = dict(zip(("train", "validation", "test"), arrays.values(), strict=True))
    expected = {name: list(array.copy()) for name, array in named.items()}
    expected["test"][1] = expected["test"][1][:2]
    if dtype is np.uint8:
        named["test"][1, 2] = 255
    dataset = load(tmp_path / "mine.npz", {**named, "test_lengths": np.array([3, 2])})
    assert (dataset.spec.kind, dataset.spec.frame_size) == ("binary", 4)
    assert_sequences(dataset, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite(tmp_path: Path, bad: float) -> None:
    arrays = splits()
    arrays["train"][1, 3, 1] = bad
    arrays["validation"][0, 0, 0] = bad
    path = tmp_path / "mine.npz"
    with pytest.raises(UserError) as error:
        load(path, arrays)
    assert str(error.value) == (
        f"sequence 1 of array 'train' of {path} holds {bad} in step 3, which is no finite number "
        "of 32 bits (counted from 0): repair it, or have such sequences left out with "
        "--skip_bad_records"
    )
    assert not list((tmp_path / "prepared").glob("array/[!.]*/*"))
    for _ in range(2):
        dataset = registry.load(config(path, skip_bad_records=True))
        expected = {
            "train": [arrays["train"][0], arrays["train"][2]],
            "validation": [arrays["validation"][1]],
            "test": list(arrays["test"]),
        }
        assert_sequences(dataset, expected)
        assert dataset.skipped == (
            f"mine.npz: sequence 1 of array 'train' of {path} holds {bad} in step 3, which is no "
            "finite number of 32 bits",
            f"mine.npz: sequence 0 of array 'validation' of {path} holds {bad} in step 0, which is "
            "no finite number of 32 bits",
        )


def test_no_sequence_is_left(tmp_path: Path) -> None:
    arrays = splits(test=np.full((1, 2, 2), np.nan))
    with pytest.raises(UserError, match="has no sequence of split 'test' that can be used: repair"):
        load(tmp_path / "mine.npz", arrays, skip_bad_records=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"train_lengths": np.array([2, 6, 1])},
            r"'train_lengths' of .* sequence 1 has 6 steps, bu",
        ),
        ({"train_lengths": np.array([2, 0, 1])}, "says that sequence 1 has 0 steps: give the ste"),
        (
            {"train_lengths": np.array([2, 1])},
            r"has 2 lengths that sum to 3, but .*\[3, 5, 2\]: giv",
        ),
        (
            {"train_lengths": np.array([2.0])},
            r"'train_lengths' of .* is float64 of shape \[1\]: giv",
        ),
        (
            {"test": numbers(1, 6, 3)},
            "frames of .* have 2, 2 and 3 numbers in train, validation an",
        ),
        ({"test": np.ones((1, 6, 2), int)}, "are of the types float64, float64, int64: give boole"),
        ({"test": numbers(6)}, r"'test' of .* has the shape \[6\]: give \[sequences, steps, numbe"),
        (
            {"test": numbers(1, 0, 2)},
            r"'test' of .* is empty, of shape \[1, 0, 2\]: give sequences",
        ),
        ({"test": np.array([["a"]])}, "array 'test' of .* is <U1: give numbers"),
        ({"test": np.ones((1, 2, 2), complex)}, "array 'test' of .* is complex128: give numbers"),
        ({"valid": numbers(1, 6, 2)}, "both the arrays validation or valid: give one, beside"),
        (
            {"test": np.array([None])},
            "array 'test' of .* is pickled, which is never unpickled, as ",
        ),
        ({"train_lengths": np.array([None])}, "array 'train_lengths' of .* is pickled, which is"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: Arrays, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path / "mine.npz", splits(**arrays))
    assert not list((tmp_path / "prepared").glob("array/[!.]*/*"))


def test_symbols_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with pytest.raises(
        UserError, match="sequence 1 of array 'x' of .* holds -1 in step 2, which is"
    ):
        load(path, {"x": np.array([[0, 1, 2], [0, 1, -1], [1, 1, 1]])}, skip_bad_records=False)
    with pytest.raises(
        UserError, match="holds integers in frames of 2 numbers: give .sequences, s"
    ):
        load(path, {"x": np.ones((3, 4, 2), int)})


def test_missing_arrays(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with pytest.raises(
        UserError, match=f"{path} has no array test: give one, beside those of othe"
    ):
        load(path, {"train": numbers(1, 2, 3), "valid": numbers(1, 2, 3)})
    with pytest.raises(UserError, match="has no array 'x' but a, b: choose one with --feature, or"):
        load(path, {"a": numbers(1, 2, 3), "b": numbers(1, 2, 3)})
    with pytest.raises(
        UserError, match="has no array 'c' but a: choose one with --feature, or give"
    ):
        load(path, {"a": numbers(1, 2, 3)}, feature="c")
    with pytest.raises(UserError, match="array 'a' of .* holds 2 sequences: give at least 3, one"):
        load(path, {"a": numbers(2, 2, 3)}, feature="a")


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    for content, message in (
        (pickle.dumps({"x": 1}), f"{path} is a pickled file, which is never unpickled, as that"),
        (b"x y z", f"{path} is neither an npz nor an npy file, or is cut off: give an npz file"),
        (b"", f"{path} is neither an npz nor an npy file, or is cut off: give an npz file"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            registry.load(config(path))
    path = tmp_path / "mine.npy"
    np.save(path, np.array([{"a": 1}, None, 2], dtype=object))
    with pytest.raises(
        UserError, match=f"the array of {path} is pickled, which is never unpickled"
    ):
        registry.load(config(path))
    np.save(path, numbers(10, 4, 2))
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(UserError, match=f"{path} is damaged .*: copy or make it anew"):
        registry.load(config(path))
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=f"{folder} holds no files of arrays .npz, npy.: give the"):
        registry.load(config(folder))
    with pytest.raises(
        UserError, match="--dataset=array needs --manual_dir: give an npz file with"
    ):
        registry.load(DataConfig("array"))


def test_pickles_are_not_run(tmp_path: Path) -> None:
    """Not even where they stand for an array in an npz file."""
    witness = tmp_path / "was_run"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (os.fspath(witness),)

    evil = np.empty(1, object)
    evil[0] = Evil()
    with pytest.raises(UserError, match="'x' of .* is pickled"):
        load(tmp_path / "mine.npz", {"x": evil})
    np.save(tmp_path / "mine.npy", evil)
    with pytest.raises(UserError, match="is pickled"):
        registry.load(config(tmp_path / "mine.npy"))
    (tmp_path / "mine.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="is a pickled file"):
        registry.load(config(tmp_path / "mine.pkl"))
    assert not witness.exists()


def test_splits_go_before_another_array(tmp_path: Path) -> None:
    """An array x, such as a grid of times, beside the three splits."""
    given = splits()
    found = load(tmp_path / "a.npz", splits(x=numbers(7)))
    assert_sequences(found, {name: list(array) for name, array in given.items()})


@pytest.mark.parametrize("number", [-1, 2**20, 1_500_000_000])
def test_integers_that_can_be_no_symbols(tmp_path: Path, number: int) -> None:
    x = np.zeros((5, 4), np.int64)
    x[2, 3] = number
    with pytest.raises(UserError, match=f"holds {number} in step 3, .* as floating-point numbers"):
        load(tmp_path / "a.npz", {"x": x})


def test_a_single_number_is_no_sequence(tmp_path: Path) -> None:
    arrays = {"x": np.array(1.5), "x_lengths": np.array([1])}
    with pytest.raises(UserError, match=r"has the shape \[\]: give \[sequences, steps"):
        load(tmp_path / "a.npz", arrays)


def test_sequences_that_can_be_used_are_divided_by_rule(tmp_path: Path) -> None:
    x = numbers(10, 4, 2)
    x[3:, 1] = np.nan
    path = tmp_path / "mine.npz"
    dataset = load(path, {"x": x}, skip_bad_records=True)
    assert [split.num_sequences for split in dataset.splits] == [1, 1, 1]
    assert len(dataset.skipped) == 7
    x[2, 1] = np.nan
    with pytest.raises(UserError, match="holds 2 sequences that can be used, of 10: give at least"):
        load(path, {"x": x}, skip_bad_records=True)


@pytest.mark.parametrize("wrong", [0, 6, -1])
def test_lengths_that_cannot_be_are_left_out(tmp_path: Path, wrong: int) -> None:
    arrays = splits(train_lengths=np.array([2, wrong, 1]))
    path = tmp_path / "mine.npz"
    with pytest.raises(UserError, match="sequence 1 has .* left out with --skip_bad_records"):
        load(path, arrays)
    dataset = load(path, arrays, skip_bad_records=True)
    assert dataset.train.lengths.tolist() == [2, 1]
    np.testing.assert_allclose(dataset.train.values[2], arrays["train"][2, 0], rtol=1e-6)
    (skipped,) = dataset.skipped
    assert f"says that sequence 1 has {wrong} steps" in skipped


def test_sequences_of_no_steps_among_joined_ones_are_left_out(tmp_path: Path) -> None:
    arrays = {"x": numbers(12, 3), "x_lengths": np.array([3, 0, 4, 5])}
    with pytest.raises(UserError, match="'x_lengths' of .* says that sequence 1 has 0 steps"):
        load(tmp_path / "mine.npz", arrays)
    dataset = load(tmp_path / "mine.npz", arrays, skip_bad_records=True)
    lengths = [length for split in dataset.splits for length in split.lengths.tolist()]
    assert sorted(lengths) == [3, 4, 5] and len(dataset.skipped) == 1


def test_a_length_of_0_makes_no_other_layout(tmp_path: Path) -> None:
    """Lengths that sum to the rows by chance, one of them 0: they are still those of the rows."""
    x = numbers(4, 5)
    dataset = load(tmp_path / "a.npz", {"x": x, "x_lengths": [2, 0, 1, 1]}, skip_bad_records=True)
    assert dataset.spec.frame_size == 1
    frames = sorted(float(v) for split in dataset.splits for v in split.values.reshape(-1))
    assert frames == pytest.approx(sorted([*x[0, :2], x[2, 0], x[3, 0]]), rel=1e-6)


def test_what_is_left_out_decides_no_kind(tmp_path: Path) -> None:
    x = np.zeros((4, 3, 2), np.uint8)
    x[1] = 255
    arrays = {"x": x, "x_lengths": np.array([3, 4, 3, 3])}
    dataset = load(tmp_path / "a.npz", arrays, skip_bad_records=True)
    assert dataset.spec.kind == "binary" and len(dataset.skipped) == 1


def test_symbols_beyond_the_vocabulary_are_noted(tmp_path: Path) -> None:
    arrays = {"x": np.arange(12).reshape(3, 4)}
    dataset = load(tmp_path / "mine.npz", arrays, vocabulary_size=11)
    assert dataset.spec.frame_size == 12
    assert dataset.notes == (
        "array/mine: 12 symbols, as the greatest is 11, though --vocabulary_size=11, which is of "
        "words and characters; if they are quantities, give floating-point numbers",
    )
    assert not load(tmp_path / "mine.npz", arrays, vocabulary_size=12).notes


def test_what_is_in_two_splits_is_said(tmp_path: Path) -> None:
    arrays = splits()
    arrays["validation"] = np.concatenate([arrays["train"][:1], arrays["train"][1:] + 1])
    dataset = load(tmp_path / "mine.npz", arrays)
    assert dataset.notes[0] == (
        "array/mine validation: 1 of 3 sequences is in the training data too, as the model sees "
        "them"
    )


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x.npz").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"x\.npz is a link to nowhere, which is not there: mend"):
        registry.load(config(folder))


def test_a_zip_that_holds_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "text")
    with pytest.raises(UserError, match=r"^array 'x' of .*x\.npz is no array: save it anew with"):
        registry.load(config(path))
