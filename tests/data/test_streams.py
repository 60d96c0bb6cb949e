"""Pieces of sequences: each step once, each row going on where it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zforcing_tf.config import DataConfig, RunConfig
from zforcing_tf.data.feed import Feed
from zforcing_tf.data.pipeline import stream_batches
from zforcing_tf.data.spec import Split
from zforcing_tf.data.streams import pieces

LENGTHS = [7, 3, 12, 1, 4, 9, 5]
SPLIT = Split(
    "train",
    np.arange(2 * sum(LENGTHS), dtype=np.float32).reshape(-1, 2),
    np.array(LENGTHS, np.int32),
)
SEQUENCES = [SPLIT.values[s : s + n] for s, n in zip(SPLIT.starts, SPLIT.lengths, strict=True)]


def rows(
    split: Split, num_rows: int, chunk: int, epoch: int, **own: bool
) -> list[list[np.ndarray]]:
    """The sequences that each row of the batches spells, put together again."""
    found: list[list[np.ndarray]] = [[] for _ in range(num_rows)]
    planned = pieces(split, num_rows, chunk, 3, epoch, **own)
    for batch in stream_batches(split, planned).as_numpy_iterator():
        for i in range(num_rows):
            steps = batch["lengths"][i]
            if not steps:
                continue
            x = batch["x"][i, :steps]
            assert not batch["x"][i, steps:].any()
            if batch["begins"][i]:
                given = batch["before"][i][None] if batch["before_is_data"][i] else x[:0]
                found[i].append(np.concatenate([given, x]))
            else:
                assert batch["before_is_data"][i]
                np.testing.assert_array_equal(batch["before"][i], found[i][-1][-1])
                found[i][-1] = np.concatenate([found[i][-1], x])
    return found


@pytest.mark.parametrize("first_frame_given", [False, True])
@pytest.mark.parametrize(("num_rows", "chunk"), [(1, 4), (3, 4), (3, 1), (2, 100), (9, 5)])
def test_rows_spell_each_sequence_once(num_rows: int, chunk: int, first_frame_given: bool) -> None:
    spelt = rows(SPLIT, num_rows, chunk, 0, first_frame_given=first_frame_given)
    found = sorted((s for row in spelt for s in row), key=lambda s: s[0, 0])
    # A sequence of one frame has nothing to score once that is given.
    expected = [s for s in SEQUENCES if len(s) > first_frame_given]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_order_is_a_function_of_the_epoch() -> None:
    first, again, other = (pieces(SPLIT, 2, 4, 3, epoch) for epoch in (0, 0, 1))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert first.first.shape != other.first.shape or (first.first != other.first).any()


def test_some_pieces_are_gone_into_with_nothing() -> None:
    split = Split("train", np.zeros((64 * 400, 1), np.float32), np.full(64, 400, np.int32))
    usual = pieces(split, 16, 10, 3, 0)
    found, again, other = (
        pieces(split, 16, 10, 3, epoch, forget_probability=0.2) for epoch in (0, 0, 1)
    )
    np.testing.assert_array_equal(found.begins, again.begins)
    assert (found.begins != other.begins).any()
    assert found.begins[usual.begins].all()
    assert abs(found.begins[~usual.begins].mean() - 0.2) < 0.04
    # The frame before each is as well known as ever.
    for name in ("first", "lengths", "before_is_data"):
        np.testing.assert_array_equal(getattr(found, name), getattr(usual, name))


def test_streams_are_of_similar_length() -> None:
    lengths = np.full(64, 40, np.int32)
    split = Split("train", np.zeros((64 * 40, 1), np.float32), lengths)
    assert pieces(split, 16, 10, 0, 0).first.shape == (16, 16)


def test_a_feed_begins_anywhere() -> None:
    data = DataConfig(chunk_length=4, carry_state=True)
    feed = Feed(SPLIT, data, RunConfig(batch_size=2, seed=3))
    whole = list(feed.batches(1).as_numpy_iterator())
    assert len(whole) == feed.num_batches(1)
    for left_out in (1, 3, len(whole)):
        rest = list(feed.batches(1, left_out).as_numpy_iterator())
        assert len(rest) == len(whole) - left_out
        for one, other in zip(rest, whole[left_out:], strict=True):
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name])


def test_a_feed_for_xla_has_one_length() -> None:
    feed = Feed(SPLIT, DataConfig(chunk_length=100, carry_state=True), RunConfig(batch_size=2))
    assert {batch["x"].shape[1] for batch in feed.batches(0)} > {12}
    feed.num_lengths = 8
    assert {batch["x"].shape[1] for batch in feed.batches(0)} == {100}


def test_pieces_without_state_are_sequences_of_their_own() -> None:
    feed = Feed(SPLIT, DataConfig(chunk_length=4), RunConfig(batch_size=100))
    (batch,) = feed.batches(0).as_numpy_iterator()
    assert sorted(batch["lengths"]) == sorted([4, 3, 3, 4, 4, 4, 1, 4, 4, 4, 1, 4, 1])
    assert batch["x"].sum() == SPLIT.values.sum()


def test_symbols() -> None:
    split = dataclasses.replace(SPLIT, values=np.arange(sum(LENGTHS), dtype=np.int32))
    planned = pieces(split, 2, 4, 0, 0)
    batch = next(stream_batches(split, planned).as_numpy_iterator())
    assert batch["before"].shape == (2,)
    for x, steps, first in zip(batch["x"], batch["lengths"], planned.first[0], strict=True):
        assert x[:steps].tolist() == list(range(first, first + steps))
