"""From a split to padded batches, in an order that is a function of (seed, epoch).

Batch k of an epoch is computed from k alone, so a resumed run begins anywhere without replaying
what came before.

Padding is with zeros. If no sequence of a split is more than 10% shorter than the longest, all
batches have the length of the longest, known to the graph (XLA compiles once); otherwise each
batch is as long as its own longest sequence, or a little longer where lengths are to be few.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.data.spec import Split
from zforcing_tf.data.streams import Pieces
from zforcing_tf.errors import UserError

_STATIC_SHORTEST = 0.9
"""Shortest length, relative to the longest, for which a whole split is padded to one length."""

Batch = dict[str, tf.Tensor]
Gather = Callable[[tf.Tensor, tf.Tensor], Batch]
"""From indices of sequences [B], and of those whose longest one decides T, to {"x", "lengths"}."""
FramesAt = Callable[[tf.Tensor], tf.Tensor]
"""From rows of a split's values to frames."""


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Batches that cover the split once, the last one perhaps smaller; UserError if below 1."""
    _check_batch_size(batch_size)
    return -(-split.num_sequences // batch_size)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} sequences is not possible: give 1 or more")


def frames_at(split: Split) -> FramesAt:
    """From rows of the split's values, of any shape [...], to frames [..., D] or [...].

    A split in memory is copied to where batches are made from it; one copy serves any number of
    epochs. Of one in a file only what a batch needs is read.
    """
    if split.is_in_memory:
        with tf.device("CPU:0"):
            values = tf.constant(split.values)
        return lambda rows: tf.gather(values, rows)
    frame = split.frames(slice(0, 1))

    def read(rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return split.frames(rows.reshape(-1))

    def gathered(rows: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(rows), frame.shape[1:]], 0)
        frames = tf.reshape(tf.numpy_function(read, [rows], frame.dtype, stateful=False), shape)
        return tf.ensure_shape(frames, [*rows.shape, *frame.shape[1:]])

    return gathered


def _padded(
    at: FramesAt, starts: tf.Tensor, lengths: tf.Tensor, num_steps: tf.Tensor | int, last_row: int
) -> tf.Tensor:
    """Frames [B, T, ...] from the rows `starts` [B] on, zero behind `lengths` [B]."""
    steps = tf.range(tf.cast(num_steps, tf.int64))
    x = at(tf.minimum(starts[:, None] + steps, last_row))
    mask = steps < tf.cast(lengths, tf.int64)[:, None]
    for _ in range(x.shape.rank - 2):
        mask = mask[..., None]
    return tf.where(mask, x, tf.zeros([], x.dtype))


def gather(split: Split, num_lengths: int | None = None) -> Gather:
    """Copies a split to where batches are made from it; one copy serves any number of epochs.

    Args:
      split: N sequences.
      num_lengths: T takes at most as many values, for which batches are up to 1/num_lengths of the
        longest sequence longer than they need to be: XLA compiles anew for each T. By default T is
        the length of the batch's longest sequence.
    """
    with tf.device("CPU:0"):
        if nearly_equal(split) and split.is_in_memory:
            return _gather_padded_once(split)
        multiple = 1 if num_lengths is None else -(-int(split.lengths.max()) // num_lengths)
        return _gather_ragged(split, multiple)


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int | tf.Variable,
    first_batch: int = 0,
    gathered: Gather | None = None,
    bucket_batches: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One epoch in random order: every sequence exactly once.

    Args:
      split: N sequences.
      batch_size: B; the last batch holds what is left.
      seed: with `epoch` determines the order; 0 to 2^32 - 1.
      epoch: counted from 0. A variable, int64 on the CPU, is read for each batch: one result then
        serves all epochs, and making it takes as long as some steps of a small model. Assign to it
        between epochs only.
      first_batch: batches to leave out at the start, 0 to `batches_per_epoch`, at no cost.
      gathered: what `gather` gave for the split, to be shared by epochs; by default made anew.
      bucket_batches: batches whose sequences are dealt out by length, so that those of a batch are
        of similar length and little is padded; 0 or 1 for none.
      shard: (i, n) for the i-th of n parts of each batch: its rows B i / n to B (i + 1) / n,
        perhaps none, as long as the longest of the whole batch.

    Returns:
      `{"x": [B, T, D] float32 ([B, T] int32 for symbols), "lengths": [B] int32}`, of known
      cardinality.

    Raises:
      UserError: `batch_size` or `first_batch` is out of range.
    """
    last = tf.constant(split.num_sequences - 1, tf.int64)
    key = tf.constant(seed, tf.int64)

    def shuffled(positions: tf.Tensor) -> tf.Tensor:
        now = tf.stack([key, tf.cast(epoch, tf.int64)])
        return tf.random.experimental.index_shuffle(positions, now, last)

    order: Callable[[tf.Tensor], tf.Tensor] = shuffled
    if bucket_batches > 1:
        order = _bucketed(split, batch_size, bucket_batches, shuffled)
    gathered = gathered or gather(split)
    total = batches_per_epoch(split, batch_size)
    if not 0 <= first_batch <= total:
        raise UserError(
            f"cannot begin at batch {first_batch} of split {split.name!r}, which has {total} "
            f"batches of {batch_size}: give 0 to {total}"
        )
    positions = tf.data.Dataset.range(first_batch * batch_size, split.num_sequences)
    return _batches(positions.batch(batch_size), order, gathered, shard=shard)


def _bucketed(
    split: Split,
    batch_size: int,
    bucket_batches: int,
    shuffled: Callable[[tf.Tensor], tf.Tensor],
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Positions of a batch to sequences: `shuffled`, then by length among neighbouring batches.

    The last of these batches, which may be smaller, takes the longest.
    """
    lengths = tf.constant(split.lengths)
    size = batch_size * bucket_batches
    count = tf.constant(split.num_sequences, tf.int64)

    def order(positions: tf.Tensor) -> tf.Tensor:
        first = positions[0] // size * size
        window = shuffled(tf.range(first, tf.minimum(first + size, count)))
        by_length = tf.argsort(tf.gather(lengths, window), stable=True)
        batches = tf.size(window, tf.int64) // batch_size
        batch = (positions[0] - first) // batch_size
        # Whole batches in random order, or the first of each window would be the shortest.
        key = tf.stack([window[0], tf.constant(1, tf.int64)])
        last = tf.maximum(batches - 1, 0)
        turned = tf.random.experimental.index_shuffle(tf.minimum(batch, last), key, last)
        batch = tf.where(batch < batches, turned, batch)
        chosen = batch * batch_size + tf.range(tf.size(positions, tf.int64))
        return tf.gather(window, tf.gather(by_length, chosen))

    return order


def stream_batches(
    split: Split,
    planned: Pieces,
    first_batch: int = 0,
    chunk_length: int | None = None,
    at: FramesAt | None = None,
) -> tf.data.Dataset:
    """Batches of pieces, each row continuing that of the batch before (`streams.pieces`).

    Args:
      split: the one that was cut.
      planned: its pieces.
      first_batch: batches to leave out at the start.
      chunk_length: T; by default each batch is as long as its longest piece.
      at: what `frames_at` gave for the split, to be shared by epochs; by default made anew.

    Returns:
      `{"x", "lengths"}` as of `training_batches`, rows that have ended being of length 0; besides,
      `{"before": [B, D] or [B], "begins": [B] bool, "before_is_data": [B] bool}`.
    """
    frames, last_row = at or frames_at(split), split.num_frames - 1

    def make(first: tf.Tensor, lengths: tf.Tensor, begins: tf.Tensor, known: tf.Tensor) -> Batch:
        longest = tf.reduce_max(lengths) if chunk_length is None else chunk_length
        return {
            "x": _padded(frames, first, lengths, longest, last_row),
            "lengths": lengths,
            "before": frames(tf.maximum(first - 1, 0)),
            "begins": begins,
            "before_is_data": known,
        }

    rows = tf.data.Dataset.from_tensor_slices(tuple(v[first_batch:] for v in planned))
    return rows.map(make).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    split: Split,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    most_frames: int | None = None,
) -> tf.data.Dataset:
    """Every sequence once, by length if lengths differ, so that little is padded.

    Batches are as of `training_batches`, with `"index": [B] int32` besides, the place of each
    sequence in the split: noise that depends on it does not depend on the batch size. They are
    `evaluation_starts` of the sorted lengths.
    """
    order = np.argsort(split.lengths, kind="stable")
    starts = evaluation_starts(split.lengths[order], batch_size, most_frames)
    positions = tf.data.Dataset.from_tensor_slices((starts[:-1], starts[1:])).map(tf.range)
    by_length = functools.partial(tf.gather, tf.constant(order))
    return _batches(positions, by_length, gather(split), indexed=True, shard=shard)


def evaluation_starts(
    lengths: npt.NDArray[np.int32], batch_size: int, most_frames: int | None = None
) -> npt.NDArray[np.int64]:
    """Where batches of sequences begin that are sorted by length, and where the last ends.

    Args:
      lengths: `[N]`, in ascending order.
      batch_size: sequences of a batch, at most.
      most_frames: of a batch, padding included; a sequence that has more is a batch by itself.
    """
    _check_batch_size(batch_size)
    starts: list[int] = []
    for place, length in enumerate(lengths.tolist()):
        rows = place - starts[-1] if starts else batch_size
        if rows == batch_size or most_frames is not None and (rows + 1) * length > most_frames:
            starts.append(place)
    return np.array([*starts, len(lengths)], np.int64)


def _batches(
    positions: tf.data.Dataset,
    order: Callable[[tf.Tensor], tf.Tensor],
    gathered: Gather,
    indexed: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of the sequences whose places in an order `positions` has, [B] int64 each."""

    def make(position: tf.Tensor) -> Batch:
        index = whole = order(position)
        if shard != (0, 1):
            (i, n), rows = shard, tf.size(index)
            index = index[rows * i // n : rows * (i + 1) // n]
        batch = gathered(index, whole)
        return batch | {"index": tf.cast(index, tf.int32)} if indexed else batch

    batches = positions.map(make)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def alternating(parts: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
    """The first batch of each part, then the second ones, ...: what the replicas of a worker take.

    The parts have equally many batches.
    """
    if len(parts) == 1:
        return parts[0]
    places = tf.data.Dataset.range(len(parts)).repeat()
    return tf.data.Dataset.choose_from_datasets(list(parts), places)


def nearly_equal(split: Split) -> bool:
    """Whether all sequences of a split are padded to one length."""
    return bool(split.lengths.min() >= _STATIC_SHORTEST * split.lengths.max())


def _gather_padded_once(split: Split) -> Gather:
    """Batches of static length, from a split that is padded beforehand."""
    num_steps = split.lengths.max()
    if (split.lengths == num_steps).all():
        padded = split.values.reshape(-1, num_steps, *split.values.shape[1:])  # without a copy
    else:
        padded, _ = split.padded(np.arange(split.num_sequences))
    x, lengths = tf.constant(padded), tf.constant(split.lengths)
    return lambda indices, _: {"x": tf.gather(x, indices), "lengths": tf.gather(lengths, indices)}


def _gather_ragged(split: Split, multiple: int) -> Gather:
    """Batches as long as their longest sequence, rounded up, from the split's rows as they are."""
    starts, all_lengths = tf.constant(split.starts), tf.constant(split.lengths)
    at, last_row = frames_at(split), split.num_frames - 1
    fixed = int(split.lengths.max()) if nearly_equal(split) else None

    def gathered(indices: tf.Tensor, whole: tf.Tensor) -> Batch:
        lengths = tf.gather(all_lengths, indices)
        longest = tf.reduce_max(tf.gather(all_lengths, whole))
        num_steps = -(-longest // multiple) * multiple if fixed is None else fixed
        x = _padded(at, tf.gather(starts, indices), lengths, num_steps, last_row)
        return {"x": x, "lengths": lengths}

    return gathered
