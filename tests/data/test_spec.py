"""Splits in memory and their padded form."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from zforcing_tf.data.spec import Dataset, DataSpec, Split
from zforcing_tf.errors import UserError


def make_split() -> Split:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    return Split("train", values, np.array([2, 1, 3], np.int32))


@pytest.mark.parametrize("image_shape", [None, (8, 8)])
def test_spec_survives_json(image_shape: tuple[int, int] | None) -> None:
    spec = DataSpec("digits", "binary", 16, 4, image_shape)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_spec_from_wrong_json() -> None:
    fields = DataSpec("digits", "binary", 16, 4).to_json()
    with pytest.raises(UserError, match="has the kind 'text': it must be one of binary, real"):
        DataSpec.from_json({**fields, "kind": "text"})
    with pytest.raises(UserError, match=r"has the fields \['kind'\] instead of \['frame_size', "):
        DataSpec.from_json({"kind": "real"})


def test_split_counts() -> None:
    split = make_split()
    assert (split.num_sequences, split.num_frames) == (3, 6)
    assert split.starts.tolist() == [0, 2, 3]


def test_padded_is_exact() -> None:
    x, lengths = make_split().padded([2, 0, 2])
    assert lengths.tolist() == [3, 2, 3]
    last = [[6, 7], [8, 9], [10, 11]]
    assert x.tolist() == [last, [[0, 1], [2, 3], [0, 0]], last]
    assert x.dtype == np.float32
    assert lengths.dtype == np.int32


def test_padded_only_as_long_as_chosen() -> None:
    x, lengths = make_split().padded([1])
    assert x.tolist() == [[[4, 5]]]
    assert lengths.tolist() == [1]


def test_padded_no_longer_than_asked() -> None:
    split = make_split()
    whole, lengths = split.padded([0, 1, 2])
    for longest in (1, 2, 9):
        x, cut = split.padded([0, 1, 2], longest)
        assert x.tolist() == whole[:, :longest].tolist()
        assert cut.tolist() == np.minimum(lengths, longest).tolist()


def test_padded_symbols() -> None:
    split = Split("train", np.array([5, 6, 7], np.int32), np.array([1, 2], np.int32))
    x, _ = split.padded([0, 1])
    assert x.tolist() == [[5, 0], [6, 7]]
    assert x.dtype == np.int32


def test_padded_nothing() -> None:
    x, lengths = make_split().padded([])
    assert x.shape == (0, 0, 2)
    assert lengths.shape == (0,)


def test_from_padded_inverts_padded_whatever_the_padding() -> None:
    split = make_split()
    x, lengths = split.padded(np.arange(3))
    x[np.arange(3) >= lengths[:, None]] = np.nan
    again = Split.from_padded("train", x, lengths)
    np.testing.assert_array_equal(again.values, split.values)
    np.testing.assert_array_equal(again.lengths, split.lengths)


def test_pieces_know_what_they_are_pieces_of() -> None:
    split = make_split()
    assert split.cut(3).wholes is None
    pieces = split.cut(2)
    assert pieces.lengths.tolist() == [2, 1, 2, 1]
    assert pieces.wholes is not None and pieces.wholes.tolist() == [0, 1, 2, 2]
    again = pieces.cut(1)
    assert again.wholes is not None and again.wholes.tolist() == [0, 0, 1, 2, 2, 2]
    first = pieces.first(3)
    assert first.wholes is not None and first.wholes.tolist() == [0, 1, 2]
    assert first.values.tolist() == split.values[:5].tolist()


def test_split_by_name() -> None:
    splits = [
        dataclasses.replace(make_split(), name=name) for name in ("train", "validation", "test")
    ]
    dataset = Dataset(DataSpec("some", "real", 2, 1), *splits)
    assert dataset.split("validation") is dataset.validation
    with pytest.raises(UserError, match="'some' has no split 'valid': choose train, validation, t"):
        dataset.split("valid")
