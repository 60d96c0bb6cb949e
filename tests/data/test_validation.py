"""Bad data is named: dataset, split, sequence, step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from zforcing_tf.data.spec import DataKind, Dataset, DataSpec, Split
from zforcing_tf.data.validation import check_limits, validate
from zforcing_tf.errors import UserError

LENGTHS = np.array([2, 1, 3], np.int32)


def make_dataset(kind: DataKind = "binary", **test_split: Any) -> Dataset:
    values = np.zeros(6, np.int32) if kind == "symbol" else np.zeros((6, 2), np.float32)
    good = Split("train", values, LENGTHS)
    return Dataset(
        DataSpec("some", kind, 2, 3),
        good,
        dataclasses.replace(good, name="validation"),
        dataclasses.replace(good, name="test", **test_split),
    )


def values_with(value: float) -> np.ndarray[Any, Any]:
    """Zeros but for one number, in step 1 of sequence 2."""
    values = np.zeros((6, 2), np.float32)
    values[4, 1] = value
    return values


@pytest.mark.parametrize("kind", ["binary", "real", "symbol"])
def test_good_data_passes(kind: DataKind) -> None:
    validate(make_dataset(kind), max_length=3)


@pytest.mark.parametrize(
    ("kind", "test_split", "message"),
    [
        ("real", {"values": values_with(np.nan)}, "of dataset 'some' holds nan, which is not fini"),
        ("binary", {"values": values_with(-np.inf)}, "holds -inf, which is not finite"),
        ("binary", {"values": values_with(0.5)}, "holds 0.5, which is neither 0 nor 1"),
        (
            "symbol",
            {"values": np.array([0, 1, 0, 1, 2, 0], np.int32)},
            r"holds 2, which is not a symbol of the vocabulary 0\.\.1",
        ),
        ("symbol", {"values": np.array([0, 1, 0, 1, -1, 0], np.int32)}, "holds -1, which is not"),
    ],
)
def test_bad_value_is_named(kind: DataKind, test_split: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        validate(make_dataset(kind, **test_split), max_length=3)
    assert "step 1 of sequence 2 of split 'test' of dataset 'some'" in str(error.value)


def test_a_number_that_an_emission_cannot_give_is_named() -> None:
    """Limits count as inside; of symbols there is nothing to check."""
    good = make_dataset("real", values=values_with(-1.0))
    check_limits(good, (-1.0, 1.0), "some_family")
    check_limits(make_dataset("symbol"), (5.0, 6.0), "some_family")
    with pytest.raises(UserError) as error:
        check_limits(make_dataset("real", values=values_with(1.5)), (-1.0, 1.0), "some_family")
    assert str(error.value) == (
        "step 1 of sequence 2 of split 'test' of dataset 'some' holds 1.5, which is not within -1 "
        "to 1, as --emission=some_family takes it: repair the sequence or leave it out"
    )


def test_every_split_is_checked() -> None:
    good = make_dataset("real")
    for bad in range(3):
        splits = list(good.splits)
        splits[bad] = dataclasses.replace(splits[bad], values=values_with(np.nan))
        with pytest.raises(UserError, match=f"split '{splits[bad].name}'"):
            validate(Dataset(good.spec, *splits), max_length=3)


def test_sequence_too_long() -> None:
    with pytest.raises(
        UserError,
        match="sequence 2 of split 'train' of dataset 'some' has 3 steps, more than --max_length=2",
    ):
        validate(make_dataset(), max_length=2)


def test_a_sequence_is_called_as_its_file_is() -> None:
    good = make_dataset()
    named = dataclasses.replace(good.train, names=("a.wav", "b/c.wav", "d.wav"))
    with pytest.raises(
        UserError, match=r"sequence 2 \(d\.wav\) of split 'train' of dataset 'some'"
    ):
        validate(dataclasses.replace(good, train=named), max_length=2)
    assert named.cut(1).names == ()


@pytest.mark.parametrize(
    ("test_split", "message"),
    [
        (
            {"lengths": np.array([2, 0, 4], np.int32)},
            "sequence 1 of split 'test' of dataset 'some' has length 0",
        ),
        ({"lengths": np.array([], np.int32)}, "split 'test' of dataset 'some' has no sequence"),
        ({"lengths": np.array([2, 1, 3], np.int64)}, r"are int64 of shape \[3\]"),
        ({"lengths": np.array([2, 1, 2], np.int32)}, r"ask for float32 of shape \[5, 2\]"),
        ({"values": np.zeros((6, 3), np.float32)}, r"are float32 of shape \[6, 3\]: .*\[6, 2\]"),
        ({"values": np.zeros((6, 2))}, "are float64 of shape"),
        ({"name": "train"}, "split 'test' of dataset 'some' calls itself 'train'"),
    ],
)
def test_bad_layout_is_named(test_split: dict[str, Any], message: str) -> None:
    dataset = make_dataset()
    with pytest.raises(UserError, match=message):
        validate(
            dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, **test_split)), 4
        )


def test_declared_length_must_be_that_of_the_data() -> None:
    dataset = make_dataset()
    spec = dataclasses.replace(dataset.spec, max_length=4)
    with pytest.raises(UserError, match="at most 4 steps but its longest has 3"):
        validate(dataclasses.replace(dataset, spec=spec), max_length=4)


def test_sequences_must_fill_the_image() -> None:
    dataset = make_dataset()
    spec = dataclasses.replace(dataset.spec, image_shape=(2, 2))
    with pytest.raises(UserError, match="sequence 1 of split 'train' .* 2 pixels, .* have 4"):
        validate(dataclasses.replace(dataset, spec=spec), max_length=4)
