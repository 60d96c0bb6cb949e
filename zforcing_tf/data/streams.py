"""Sequences laid end to end in as many streams as a batch has rows, for truncated back-propagation.

Batch k holds the k-th piece of each stream: row i continues row i of batch k - 1, or it begins a
sequence. Sequences are dealt out in random order, each to the stream that is the shortest so far.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.data.spec import Split


class Pieces(NamedTuple):
    """All pieces of an epoch, arrays [K, B] for K batches of B rows."""

    first: npt.NDArray[np.int64]
    """Row of the split's values at which the piece begins."""
    lengths: npt.NDArray[np.int32]
    """Steps; 0 where a stream has ended."""
    begins: npt.NDArray[np.bool_]
    """Whether it goes in with an empty state: as the first of its sequence, or as chance has it."""
    before_is_data: npt.NDArray[np.bool_]
    """Whether a frame of its sequence stands before it."""


def pieces(
    split: Split,
    num_rows: int,
    chunk_length: int,
    seed: int,
    epoch: int,
    first_frame_given: bool = False,
    forget_probability: float = 0.0,
) -> Pieces:
    """Cuts one epoch of a split into pieces of at most `chunk_length` steps.

    Args:
      split: N sequences.
      num_rows: B.
      chunk_length: steps of all pieces but the last of each sequence.
      seed: with `epoch` determines the order.
      epoch: counted from 0.
      first_frame_given: whether the first frame of a sequence only stands before its first piece.
      forget_probability: chance that a piece which is not the first goes in with an empty state.
        Melis et al. 2018 (On the State of the Art of Evaluation in Neural Language Models) do so
        that a state of zeros stays within what training has seen.
    """
    chance = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    skipped = int(first_frame_given)
    last = tf.constant(split.num_sequences - 1, tf.int64)
    order = tf.random.experimental.index_shuffle(
        tf.range(last + 1), tf.constant([seed, epoch], tf.int64), last
    ).numpy()
    rows: list[list[tuple[int, int, bool, bool]]] = [[] for _ in range(num_rows)]
    shortest = [(0, row) for row in range(num_rows)]
    starts = split.starts
    for index in order.tolist():
        steps = int(split.lengths[index]) - skipped
        if steps < 1:
            continue
        count, row = heapq.heappop(shortest)
        for at in range(0, steps, chunk_length):
            first = int(starts[index]) + skipped + at
            begins = at == 0 or chance.random() < forget_probability
            rows[row].append(
                (first, min(chunk_length, steps - at), begins, at > 0 or first_frame_given)
            )
        heapq.heappush(shortest, (count - (-steps // chunk_length), row))
    total = max(map(len, rows))
    ended = (0, 0, True, False)
    table = [[row[k] if k < len(row) else ended for row in rows] for k in range(total)]
    columns = [[[piece[i] for piece in line] for line in table] for i in range(4)]
    return Pieces(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.bool_),
        np.array(columns[3], np.bool_),
    )
