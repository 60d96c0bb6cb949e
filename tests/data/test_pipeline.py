"""Batches: what they hold, and in which order."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf.data.pipeline import (
    batches_per_epoch,
    evaluation_batches,
    evaluation_starts,
    gather,
    training_batches,
)
from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError

Arrays = dict[str, np.ndarray[Any, Any]]


def make_split(lengths: list[int], frame_size: int | None = 3) -> Split:
    """The frames of sequence n hold n + 1, so that a sequence tells which it is."""
    values = np.repeat(np.arange(len(lengths)) + 1, lengths)
    if frame_size is None:
        values = values.astype(np.int32)
    else:
        values = (values[:, None] * np.ones(frame_size)).astype(np.float32)
    return Split("train", values, np.array(lengths, np.int32))


EQUAL = make_split([4] * 23)
UNEQUAL = make_split([1 + 5 * n % 7 for n in range(23)])
SYMBOLS = make_split([1 + 5 * n % 7 for n in range(23)], None)


def arrays(batches: tf.data.Dataset) -> list[Arrays]:
    return list(batches.as_numpy_iterator())


def sequences(batches: list[Arrays]) -> list[int]:
    """Which sequences, in order."""
    return [int(row.flat[0]) - 1 for batch in batches for row in batch["x"]]


def assert_equal(one: list[Arrays], other: list[Arrays]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])
        np.testing.assert_array_equal(a["lengths"], b["lengths"])


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL, SYMBOLS], ids=["equal", "unequal", "symbols"])
def test_batches_hold_the_padded_sequences(split: Split) -> None:
    for batches in (
        training_batches(split, 5, seed=0, epoch=0),
        evaluation_batches(split, 5),
    ):
        for batch in arrays(batches):
            x, lengths = split.padded(sequences([batch]))
            np.testing.assert_array_equal(batch["x"], x)
            np.testing.assert_array_equal(batch["lengths"], lengths)
            assert (batch["x"].dtype, batch["lengths"].dtype) == (split.values.dtype, np.int32)


def test_padding_is_zero_even_where_a_neighbour_begins() -> None:
    (batch,) = arrays(evaluation_batches(make_split([1, 3, 2], 1), 3))
    assert batch["x"][..., 0].tolist() == [[1, 0, 0], [3, 3, 0], [2, 2, 2]]


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 1000])
def test_every_sequence_once(split: Split, batch_size: int) -> None:
    for epoch in range(3):
        batches = arrays(training_batches(split, batch_size, seed=3, epoch=epoch))
        assert sorted(sequences(batches)) == list(range(23))
        assert len(batches) == batches_per_epoch(split, batch_size) == -(-23 // batch_size)
        sizes = [len(batch["lengths"]) for batch in batches]
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
        assert sizes[-1] == (23 % batch_size or batch_size)


def test_evaluation_is_by_length() -> None:
    batches = arrays(evaluation_batches(UNEQUAL, 4))
    assert np.all(np.diff(np.concatenate([batch["lengths"] for batch in batches])) >= 0)
    assert sequences(batches) == [int(i) for batch in batches for i in batch["index"]]
    assert sequences(arrays(evaluation_batches(EQUAL, 4))) == list(range(23))


def test_long_sequences_are_fewer_at_once() -> None:
    lengths = np.array([1, 2, 2, 5, 9, 30], np.int32)
    assert evaluation_starts(lengths, 3).tolist() == [0, 3, 6]
    assert evaluation_starts(lengths, 3, 1000).tolist() == [0, 3, 6]
    assert evaluation_starts(lengths, 3, 18).tolist() == [0, 3, 5, 6]
    assert evaluation_starts(lengths, 3, 4).tolist() == [0, 2, 3, 4, 5, 6]
    assert evaluation_starts(lengths[:0], 3, 4).tolist() == [0]
    split = make_split([5, 9, 1, 30, 2, 2])
    batches = arrays(evaluation_batches(split, 3, most_frames=18))
    assert [batch["index"].tolist() for batch in batches] == [[2, 4, 5], [0, 1], [3]]
    assert int(evaluation_batches(split, 3, most_frames=18).cardinality()) == 3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): sequences(arrays(training_batches(EQUAL, 5, seed, epoch)))
        for seed in (0, 1, 2**31 - 1)
        for epoch in (0, 1, 2)
    }
    for (seed, epoch), order in orders.items():
        assert sequences(arrays(training_batches(EQUAL, 5, seed, epoch))) == order
    assert len(set(map(tuple, orders.values()))) == len(orders)
    assert list(range(23)) not in orders.values()


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_one_pipeline_serves_all_epochs(split: Split) -> None:
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64)
    batches = training_batches(split, 5, seed=7, epoch=epoch)
    for number in (0, 1, 5, 1):
        epoch.assign(number)
        assert_equal(arrays(batches), arrays(training_batches(split, 5, seed=7, epoch=number)))


def test_order_does_not_depend_on_global_seed_or_batch_size() -> None:
    tf.random.set_seed(1)
    order = sequences(arrays(training_batches(EQUAL, 5, 0, 0)))
    tf.random.set_seed(2)
    assert sequences(arrays(training_batches(EQUAL, 7, 0, 0))) == order


def test_order_stays_what_it_was() -> None:
    """A golden: a run that is resumed after an upgrade must see the same batches."""
    order = sequences(arrays(training_batches(make_split([1] * 10), 4, seed=7, epoch=2)))
    assert order == [4, 6, 7, 5, 2, 8, 3, 1, 0, 9]


def test_orders_are_equally_likely() -> None:
    """60 epochs of 3 sequences: each of the 6 orders about 10 times, standard deviation 2.9."""
    split = make_split([1] * 3)
    counts = collections.Counter(
        tuple(sequences(arrays(training_batches(split, 3, seed=0, epoch=epoch))))
        for epoch in range(60)
    )
    assert len(counts) == 6
    assert max(counts.values()) <= 20


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_beginning_later_equals_skipping(split: Split) -> None:
    whole = arrays(training_batches(split, 5, seed=1, epoch=4))
    for first_batch in range(6):
        later = arrays(training_batches(split, 5, seed=1, epoch=4, first_batch=first_batch))
        assert_equal(later, whole[first_batch:])


def test_cardinality_is_known() -> None:
    assert int(training_batches(UNEQUAL, 5, 0, 0).cardinality()) == 5
    assert int(training_batches(UNEQUAL, 5, 0, 0, first_batch=3).cardinality()) == 2
    assert int(evaluation_batches(EQUAL, 1000).cardinality()) == 1


@pytest.mark.parametrize(
    ("split", "shape"),
    [
        (EQUAL, [None, 4, 3]),
        (make_split([9, 10]), [None, 10, 3]),
        (make_split([8, 10]), [None, None, 3]),
        (make_split([8, 8], None), [None, 8]),
        (make_split([4, 8], None), [None, None]),
    ],
)
def test_static_shapes(split: Split, shape: list[int | None]) -> None:
    for batches in (training_batches(split, 2, 0, 0), evaluation_batches(split, 2)):
        assert batches.element_spec["x"].shape.as_list() == shape
        assert batches.element_spec["lengths"] == tf.TensorSpec([None], tf.int32)


def test_nearly_equal_splits_have_one_length() -> None:
    split = make_split([9, 10, 9, 9])
    assert [batch["x"].shape[1] for batch in arrays(evaluation_batches(split, 1))] == [10] * 4


def test_unequal_splits_have_the_length_of_the_batch() -> None:
    split = make_split([2, 9, 3, 1])
    assert [batch["x"].shape[1] for batch in arrays(evaluation_batches(split, 2))] == [2, 9]


@pytest.mark.parametrize("split", [UNEQUAL, SYMBOLS], ids=["unequal", "symbols"])
@pytest.mark.parametrize(("num_lengths", "lengths"), [(3, {3, 6, 9}), (2, {4, 8}), (1, {7})])
def test_few_lengths_where_asked_for(split: Split, num_lengths: int, lengths: set[int]) -> None:
    """The longest has 7 steps: T is a multiple of 3, 4 or 7; the rest is as without."""
    gathered = gather(split, num_lengths)
    plain, rounded = (
        arrays(training_batches(split, 2, 0, 0, gathered=made)) for made in (None, gathered)
    )
    assert {batch["x"].shape[1] for batch in rounded} <= lengths
    assert len({batch["x"].shape[1] for batch in plain}) > len(lengths)
    for batch, expected in zip(rounded, plain, strict=True):
        np.testing.assert_array_equal(batch["lengths"], expected["lengths"])
        steps = expected["x"].shape[1]
        np.testing.assert_array_equal(batch["x"][:, :steps], expected["x"])
        assert not batch["x"][:, steps:].any()
        assert steps <= batch["x"].shape[1] < steps + 7 / num_lengths + 1


def test_equal_lengths_stay_what_they_are() -> None:
    batches = training_batches(EQUAL, 5, 0, 0, gathered=gather(EQUAL, 3))
    assert batches.element_spec["x"].shape.as_list() == [None, 4, 3]


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_epochs_share_one_copy(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = gather(split)
    expected = [arrays(training_batches(split, 5, 0, epoch)) for epoch in range(2)]

    constant = tf.constant

    def small(value: Any, *arguments: Any) -> tf.Tensor:
        assert np.size(value) < 3, "the split was copied again"
        return constant(value, *arguments)

    monkeypatch.setattr(tf, "constant", small)
    for epoch in range(2):
        found = arrays(training_batches(split, 5, 0, epoch, gathered=gathered))
        assert_equal(found, expected[epoch])


def test_one_sequence() -> None:
    (batch,) = arrays(training_batches(make_split([2]), 8, 0, 0))
    assert batch["x"].shape == (1, 2, 3)


def test_wrong_requests() -> None:
    with pytest.raises(UserError, match="a batch of 0 sequences is not possible: give 1 or more"):
        training_batches(EQUAL, 0, 0, 0)
    with pytest.raises(UserError, match="cannot begin at batch 6 .* 5 batches of 5: give 0 to 5"):
        training_batches(EQUAL, 5, 0, 0, first_batch=6)
    with pytest.raises(UserError, match="cannot begin at batch -1"):
        training_batches(EQUAL, 5, 0, 0, first_batch=-1)


@pytest.mark.parametrize("size", [1, 4, 5, 23])
def test_dealt_out_by_length_each_sequence_comes_once(size: int) -> None:
    def run(epoch: int, first: int = 0) -> list[Arrays]:
        return arrays(training_batches(UNEQUAL, size, 0, epoch, first, bucket_batches=3))

    whole = run(0)
    assert sorted(sequences(whole)) == list(range(23))
    assert [len(batch["x"]) for batch in whole] == [size] * (23 // size) + [23 % size] * (
        23 % size > 0
    )
    assert_equal(run(0, 1), whole[1:])
    assert size == 23 or sequences(run(1)) != sequences(whole)


def test_dealing_out_by_length_pads_less() -> None:
    random = np.random.RandomState(0)
    split = make_split(random.randint(1, 100, 400).tolist())
    plain, dealt = (
        sum(batch["x"].shape[0] * batch["x"].shape[1] for batch in found)
        for found in (
            arrays(training_batches(split, 8, 0, 0, bucket_batches=count)) for count in (0, 25)
        )
    )
    frames = split.num_frames
    assert plain > 1.6 * frames and dealt < 1.15 * frames


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_workers_share_each_batch(split: Split) -> None:
    whole = arrays(training_batches(split, 5, 0, 2))
    shards = [arrays(training_batches(split, 5, 0, 2, shard=(i, 3))) for i in range(3)]
    for batch, *parts in zip(whole, *shards, strict=True):
        assert (
            np.concatenate([part["lengths"] for part in parts]).tolist()
            == batch["lengths"].tolist()
        )
        assert {len(part["lengths"]) for part in parts} <= {0, 1, 2}
        assert sequences([batch]) == [n for part in parts for n in sequences([part])]


@pytest.mark.parametrize("split", [EQUAL, UNEQUAL, SYMBOLS], ids=["equal", "unequal", "symbols"])
def test_a_split_in_a_file_gives_the_same_batches(split: Split, tmp_path: Any) -> None:
    """Stored as small whole numbers, and turned into frames as they are read."""
    np.save(tmp_path / "values.npy", split.values.astype(np.uint8))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    stored = Split("train", mapped, split.lengths, lambda v: v.astype(split.values.dtype))
    for num_lengths in (None, 2):
        gathered = gather(stored, num_lengths)
        found = arrays(training_batches(stored, 5, 0, 1, gathered=gathered))
        expected = arrays(training_batches(split, 5, 0, 1, gathered=gather(split, num_lengths)))
        assert_equal(found, expected)
    assert_equal(arrays(evaluation_batches(stored, 4)), arrays(evaluation_batches(split, 4)))
    element = training_batches(stored, 5, 0, 1).element_spec["x"]
    assert element.shape[1:] == training_batches(split, 5, 0, 1).element_spec["x"].shape[1:]
