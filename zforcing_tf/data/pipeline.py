"""From a split in memory to padded batches, in an order that is a function of (seed, epoch).

Batch k of an epoch is computed from k alone, so a resumed run begins anywhere without replaying
what came before.

Padding is with zeros. If no sequence of a split is more than 10% shorter than the longest, all
batches have the length of the longest, known to the graph (XLA compiles once); otherwise each
batch is as long as its own longest sequence, or a little longer where lengths are to be few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError

_STATIC_SHORTEST = 0.9
"""Shortest length, relative to the longest, for which a whole split is padded to one length."""

Batch = dict[str, tf.Tensor]
Gather = Callable[[tf.Tensor], Batch]
"""From indices of sequences [B] to {"x", "lengths"}."""


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Batches that cover the split once, the last one perhaps smaller; UserError if below 1."""
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} sequences is not possible: give 1 or more")
    return -(-split.num_sequences // batch_size)


def gather(split: Split, num_lengths: int | None = None) -> Gather:
    """Copies a split to where batches are made from it; one copy serves any number of epochs.

    Args:
      split: N sequences.
      num_lengths: T takes at most as many values, for which batches are up to 1/num_lengths of the
        longest sequence longer than they need to be: XLA compiles anew for each T. By default T is
        the length of the batch's longest sequence.
    """
    with tf.device("CPU:0"):
        if _nearly_equal(split):
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

    Returns:
      `{"x": [B, T, D] float32 ([B, T] int32 for symbols), "lengths": [B] int32}`, of known
      cardinality.

    Raises:
      UserError: `batch_size` or `first_batch` is out of range.
    """

    def order(positions: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
        last = tf.constant(split.num_sequences - 1, tf.int64)
        return tf.random.experimental.index_shuffle(positions, key, last)

    return _batches(split, batch_size, first_batch, order, gathered or gather(split))


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """The split in its own order, every sequence once.

    Batches are as of `training_batches`, with `"index": [B] int32` besides, the place of each
    sequence in the split: noise that depends on it does not depend on the batch size.
    """
    return _batches(split, batch_size, 0, lambda positions: positions, gather(split), indexed=True)


def _batches(
    split: Split,
    batch_size: int,
    first_batch: int,
    order: Callable[[tf.Tensor], tf.Tensor],
    gathered: Gather,
    indexed: bool = False,
) -> tf.data.Dataset:
    total = batches_per_epoch(split, batch_size)
    if not 0 <= first_batch <= total:
        raise UserError(
            f"cannot begin at batch {first_batch} of split {split.name!r}, which has {total} "
            f"batches of {batch_size}: give 0 to {total}"
        )
    positions = tf.data.Dataset.range(first_batch * batch_size, split.num_sequences)

    def make(position: tf.Tensor) -> Batch:
        index = order(position)
        batch = gathered(index)
        return batch | {"index": tf.cast(index, tf.int32)} if indexed else batch

    batches = positions.batch(batch_size).map(make)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _nearly_equal(split: Split) -> bool:
    return bool(split.lengths.min() >= _STATIC_SHORTEST * split.lengths.max())


def _gather_padded_once(split: Split) -> Gather:
    """Batches of static length, from a split that is padded beforehand."""
    num_steps = split.lengths.max()
    if (split.lengths == num_steps).all():
        padded = split.values.reshape(-1, num_steps, *split.values.shape[1:])  # without a copy
    else:
        padded, _ = split.padded(np.arange(split.num_sequences))
    x, lengths = tf.constant(padded), tf.constant(split.lengths)
    return lambda indices: {"x": tf.gather(x, indices), "lengths": tf.gather(lengths, indices)}


def _gather_ragged(split: Split, multiple: int) -> Gather:
    """Batches as long as their longest sequence, rounded up, from the split's rows as they are."""
    values, starts, all_lengths = map(tf.constant, (split.values, split.starts, split.lengths))
    last_row = tf.constant(split.num_frames - 1, tf.int64)

    def gathered(indices: tf.Tensor) -> Batch:
        lengths = tf.gather(all_lengths, indices)
        longest = tf.cast(tf.reduce_max(lengths), tf.int64)
        steps = tf.range(-(-longest // multiple) * multiple)
        mask = steps < tf.cast(lengths, tf.int64)[:, None]
        rows = tf.minimum(tf.gather(starts, indices)[:, None] + steps, last_row)
        x = tf.gather(values, rows)
        for _ in range(x.shape.rank - 2):
            mask = mask[..., None]
        return {"x": tf.where(mask, x, tf.zeros([], x.dtype)), "lengths": lengths}

    return gathered
