"""Standard normal noise as a pure function of seeds.

There is no generator state: no checkpoint format keeps that of Keras. Training noise is a function of
(seed, update) and of the row's place in the *global* batch, so it is the same on one device as on many;
scoring and sampling give each row a seed of its own, so that a row's result does not depend on the batch
that it came in. `philox` gives the same numbers in eager mode, graphs and XLA, and a longer draw begins
with the shorter one: more padding changes nothing either.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

ALGORITHM = "philox"


class Rows(NamedTuple):
    """The share of this replica in the global batch; scalars int32."""

    local: tf.Tensor
    offset: tf.Tensor
    total: tf.Tensor

    @classmethod
    def of(cls, context: tf.distribute.ReplicaContext, local: tf.Tensor) -> Rows:
        """Asks all replicas for their number of rows; 0 is a number of rows."""
        replicas = context.num_replicas_in_sync
        if replicas == 1:
            return cls(local, tf.zeros_like(local), local)
        index = context.replica_id_in_sync_group
        sizes = context.all_reduce("SUM", tf.one_hot(index, replicas, dtype=tf.int32) * local)
        return cls(local, tf.reduce_sum(sizes[:index]), tf.reduce_sum(sizes))


def batch_noise(seed: tf.Tensor, rows: Rows, num_steps: tf.Tensor, width: int) -> tf.Tensor:
    """This replica's part of the noise of a global batch.

    Args:
        seed: [2] int32.
        rows: which part.
        num_steps: T, scalar int32.
        width: numbers for each step of a row.

    Returns:
        [T, B, width] float32, time-major.
    """
    shape = (num_steps, rows.total, width)
    noise = tf.random.stateless_normal(shape, seed, alg=ALGORITHM)
    return noise[:, rows.offset : rows.offset + rows.local]


def row_noise(seeds: tf.Tensor, num_steps: tf.Tensor, width: int) -> tf.Tensor:
    """Noise of each row from its own seed.

    Args:
        seeds: [B, 2] int32.
        num_steps: T, scalar int32.
        width: numbers for each step of a row.

    Returns:
        [T, B, width] float32, time-major.
    """
    spec = tf.TensorSpec((None, width), tf.float32)
    noise = tf.map_fn(
        lambda seed: tf.random.stateless_normal((num_steps, width), seed, alg=ALGORITHM),
        seeds,
        fn_output_signature=spec,
    )
    return tf.transpose(noise, (1, 0, 2))


def row_seeds(seed: int | tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """Seeds [B, 2] int32 of the rows: given as such, or (seed, row) for a scalar seed."""
    seed = tf.convert_to_tensor(seed, tf.int32)
    if seed.shape.rank == 2:
        return seed
    rows = tf.range(num_rows)
    return tf.stack([tf.fill([num_rows], seed), rows], axis=1)


def dropout_keep(noise: tf.Tensor, rate: float, dtype: tf.DType) -> tf.Tensor:
    """Factors 0 or 1/(1 - rate) from standard normal noise of the same shape."""
    kept = 0.5 * tf.math.erfc(-noise * 0.5**0.5) >= rate
    return tf.cast(kept, dtype) / tf.cast(1.0 - rate, dtype)
