"""From a split in memory to padded batches, in an order that is a function of (seed, epoch).

Batch k of an epoch is computed from k alone, so a resumed run begins anywhere without replaying
what came before.

Padding is with zeros. If no sequence of a split is more than 10% shorter than the longest, all
batches have the length of the longest, known to the graph (XLA compiles once); otherwise each
batch is as long as its own longest sequence.
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


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Batches that cover the split once, the last one perhaps smaller; UserError if below 1."""
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} sequences is not possible: give 1 or more")
    return -(-split.num_sequences // batch_size)


def training_batches(
    split: Split, batch_size: int, seed: int, epoch: int, first_batch: int = 0
) -> tf.data.Dataset:
    """One epoch in random order: every sequence exactly once.

    Args:
      split: N sequences.
      batch_size: B; the last batch holds what is left.
      seed: with `epoch` determines the order; 0 to 2^32 - 1.
      epoch: counted from 0.
      first_batch: batches to leave out at the start, 0 to `batches_per_epoch`, at no cost.

    Returns:
      `{"x": [B, T, D] float32 ([B, T] int32 for symbols), "lengths": [B] int32}`, of known
      cardinality.

    Raises:
      UserError: `batch_size` or `first_batch` is out of range.
    """

    def order(positions: tf.Tensor) -> tf.Tensor:
        key = tf.constant([seed, epoch], tf.int64)
        last = tf.constant(split.num_sequences - 1, tf.int64)
        return tf.random.experimental.index_shuffle(positions, key, last)

    return _batches(split, batch_size, first_batch, order)


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """The split in its own order, every sequence once.

    Batches are as of `training_batches`, with `"index": [B] int32` besides, the place of each
    sequence in the split: noise that depends on it does not depend on the batch size.
    """
    return _batches(split, batch_size, 0, lambda positions: positions, indexed=True)


def _batches(
    split: Split,
    batch_size: int,
    first_batch: int,
    order: Callable[[tf.Tensor], tf.Tensor],
    indexed: bool = False,
) -> tf.data.Dataset:
    total = batches_per_epoch(split, batch_size)
    if not 0 <= first_batch <= total:
        raise UserError(
            f"cannot begin at batch {first_batch} of split {split.name!r}, which has {total} "
            f"batches of {batch_size}: give 0 to {total}"
        )
    with tf.device("CPU:0"):
        gather = _gather_padded_once(split) if _nearly_equal(split) else _gather_ragged(split)
    positions = tf.data.Dataset.range(first_batch * batch_size, split.num_sequences)

    def make(position: tf.Tensor) -> Batch:
        index = order(position)
        batch = gather(index)
        return batch | {"index": tf.cast(index, tf.int32)} if indexed else batch

    batches = positions.batch(batch_size).map(make)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _nearly_equal(split: Split) -> bool:
    return bool(split.lengths.min() >= _STATIC_SHORTEST * split.lengths.max())


def _gather_padded_once(split: Split) -> Callable[[tf.Tensor], Batch]:
    """Batches of static length, from a split that is padded beforehand."""
    num_steps = split.lengths.max()
    if (split.lengths == num_steps).all():
        padded = split.values.reshape(-1, num_steps, *split.values.shape[1:])  # without a copy
    else:
        padded, _ = split.padded(np.arange(split.num_sequences))
    x, lengths = tf.constant(padded), tf.constant(split.lengths)
    return lambda indices: {"x": tf.gather(x, indices), "lengths": tf.gather(lengths, indices)}


def _gather_ragged(split: Split) -> Callable[[tf.Tensor], Batch]:
    """Batches as long as their longest sequence, from the rows of the split as they are."""
    values, starts, all_lengths = map(tf.constant, (split.values, split.starts, split.lengths))
    last_row = tf.constant(split.num_frames - 1, tf.int64)

    def gather(indices: tf.Tensor) -> Batch:
        lengths = tf.gather(all_lengths, indices)
        steps = tf.range(tf.cast(tf.reduce_max(lengths), tf.int64))
        mask = steps < tf.cast(lengths, tf.int64)[:, None]
        rows = tf.minimum(tf.gather(starts, indices)[:, None] + steps, last_row)
        x = tf.gather(values, rows)
        for _ in range(x.shape.rank - 2):
            mask = mask[..., None]
        return {"x": tf.where(mask, x, tf.zeros([], x.dtype)), "lengths": lengths}

    return gather
