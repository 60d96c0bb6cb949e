"""Standard normal noise as a pure function of seeds.

There is no generator state: no checkpoint format keeps that of Keras. Training noise is a function
of (seed, update) and of the row's place in the *global* batch, so it is the same on one device as
on many; scoring and sampling give each row a seed of its own, so that a row's result does not
depend on the batch that it came in. The numbers are the same in eager mode, graphs and XLA (to
rounding), and a longer draw begins with the shorter one: more padding changes nothing either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zforcing_tf.errors import UserError

ALGORITHM = tf.random.Algorithm.PHILOX
BLOCK = 4  # numbers that it makes at a time
_SCRAMBLE = 0x02461E293EC8F720  # the key with which TensorFlow makes keys of seeds
SAMPLE_STEP = 1_000_003
"""Sample k of a row that has the seed (s, i) has the seed (s + k SAMPLE_STEP, i)."""


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
    noise = _normal(_bits(seed, num_steps * rows.total * width))
    noise = tf.reshape(noise[: num_steps * rows.total * width], (num_steps, rows.total, width))
    return noise[:, rows.offset : rows.offset + rows.local]


def row_noise(
    seeds: tf.Tensor, num_steps: tf.Tensor, width: int | tf.Tensor, first: int | tf.Tensor = 0
) -> tf.Tensor:
    """Noise of each row from its own seed.

    Args:
        seeds: [B, 2] int32.
        num_steps: T, scalar int32.
        width: numbers for each step of a row.
        first: the step to begin at: what is drawn are steps `first` to `first + T - 1` of a longer
            draw, without those before them.

    Returns:
        [T, B, width] float32, time-major.
    """
    size = num_steps * width
    place = tf.cast(first, tf.int64) * tf.cast(width, tf.int64)
    # From the start of a block; its numbers in front of the first one wanted are cut off.
    block, before = place // BLOCK, tf.cast(place % BLOCK, tf.int32)
    noise = _normal(_row_bits(seeds, before + size, block))[:, before : before + size]
    noise = tf.reshape(noise, (tf.shape(seeds)[0], num_steps, width))
    return tf.transpose(noise, (1, 0, 2))


def noise_at(seeds: tf.Tensor, steps: tf.Tensor, width: int) -> tf.Tensor:
    """Of `row_noise` one step of each row, [B, width] float32.

    Args:
        seeds: [B, 2] int32.
        steps: which step of each row, [B] int32.
        width: numbers for each step of a row.
    """
    place = tf.cast(steps, tf.int64) * width
    blocks, before = place // BLOCK, tf.cast(place % BLOCK, tf.int32)

    def one(row: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        seed, block, before = row
        return _normal(_bits(seed, width + BLOCK, block))[before : before + width]

    spec = tf.TensorSpec((width,), tf.float32)
    return tf.map_fn(one, (seeds, blocks, before), fn_output_signature=spec)


def row_blocks(seeds: tf.Tensor, num_blocks: tf.Tensor, size: int) -> tf.Tensor:
    """What `block_noise` makes the numbers of `row_noise` from, [num_blocks, B, size] uint32.

    Args:
        seeds: [B, 2] int32.
        num_blocks: scalar int32.
        size: numbers of a row in a block, even.
    """
    bits = tf.reshape(_row_bits(seeds, num_blocks * size), (-1, num_blocks, size))
    return tf.transpose(bits, (1, 0, 2))


def block_noise(bits: tf.Tensor, width: int) -> tf.Tensor:
    """Noise [size / width, B, width] float32 of one block [B, size], for compiled loops.

    The numbers are those of `row_noise`, but one in millions, which differs in its last bit.
    """
    noise = tf.reshape(_normal(bits, _sin_cos_by_polynomial), (tf.shape(bits)[0], -1, width))
    return tf.transpose(noise, (1, 0, 2))


def _row_bits(seeds: tf.Tensor, size: tf.Tensor, block: int | tf.Tensor = 0) -> tf.Tensor:
    """`_bits` of each row, [B, .]."""
    spec = tf.TensorSpec((None,), tf.uint32)
    # `map_fn` fails on no rows at all, which is a replica's share at times: one row goes along.
    one_more = tf.concat([seeds, tf.zeros((1, 2), seeds.dtype)], axis=0)
    return tf.map_fn(lambda seed: _bits(seed, size, block), one_more, fn_output_signature=spec)[:-1]


def _bits(seed: tf.Tensor, size: tf.Tensor, block: int | tf.Tensor = 0) -> tf.Tensor:
    """[size or size + 1] uint32, an even number, from a block of `stateless_uniform` on.

    In one row: XLA orders other shapes otherwise.
    """
    scrambled = _philox(tf.constant([_SCRAMBLE], tf.uint64), tf.cast(seed, tf.uint64), [4])
    key, stream = tf.unstack(tf.bitcast(tf.reshape(scrambled, (2, 2)), tf.uint64))
    counter = tf.stack([tf.cast(block, tf.uint64), stream])
    return _philox(key[tf.newaxis], counter, [size + size % 2])


def _philox(key: tf.Tensor, counter: tf.Tensor, shape: Any) -> tf.Tensor:
    """uint32 numbers; the counter [2] uint64 goes up by one for each block of them."""
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=shape, key=key, counter=counter, alg=ALGORITHM.value, dtype=tf.uint32
    )


def _sin_cos(turns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    angle = 2.0 * math.pi * turns
    return tf.sin(angle), tf.cos(angle)


def _sin_cos_by_polynomial(turns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """To 1e-14, of 0 to 1 turns: four times as fast where XLA makes one loop of it."""
    quarter = tf.floor(4.0 * turns + 0.5)
    angle = 2.0 * math.pi * (turns - 0.25 * quarter)  # at most an eighth of a turn

    def series(first: int) -> tf.Tensor:
        """Taylor's, of every other power from `first` on."""
        total = tf.zeros_like(angle)
        for n in reversed(range(first, first + 16, 2)):
            total = total * tf.square(angle) + (-1.0) ** (n // 2) / math.factorial(n)
        return total

    sin, cos = angle * series(1), series(0)
    crosswise = tf.logical_or(tf.equal(quarter, 1.0), tf.equal(quarter, 3.0))
    sin, cos = tf.where(crosswise, cos, sin), tf.where(crosswise, sin, cos)
    below = tf.logical_or(tf.equal(quarter, 2.0), tf.equal(quarter, 3.0))
    left = tf.logical_or(tf.equal(quarter, 1.0), tf.equal(quarter, 2.0))
    return tf.where(below, -sin, sin), tf.where(left, -cos, cos)


def _normal(
    bits: tf.Tensor,
    sin_cos: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] = _sin_cos,
) -> tf.Tensor:
    """Box and Muller's transform of pairs, [..., 2 n] uint32 to [..., 2 n] float32.

    It is what `stateless_normal` does outside of XLA, which agrees on the bits only. In float64, so
    that a number is the same to the last bit wherever in a tensor it stands.
    """
    mantissa = tf.bitwise.bitwise_and(bits, tf.constant(2**23 - 1, tf.uint32))
    uniform = tf.cast(mantissa, tf.float64) * 2.0**-23
    pairs = tf.reshape(uniform, tf.concat([tf.shape(bits)[:-1], [tf.shape(bits)[-1] // 2, 2]], 0))
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(pairs[..., :1], 1e-7)))
    normal = radius * tf.concat(sin_cos(pairs[..., 1:]), -1)
    return tf.cast(tf.reshape(normal, tf.shape(bits)), tf.float32)


def row_seeds(seed: Any, num_rows: int | tf.Tensor) -> tf.Tensor:
    """Seeds [B, 2] int32 of the rows: given as such, or (seed, row) for a scalar seed.

    Args:
        seed: scalar or [B, 2], of 32 bits.
        num_rows: B; a tensor counts rows that exist, an int only those of a scalar seed.

    Raises:
        UserError: a seed that is no such number, or more or fewer seeds than rows.
    """
    if tf.is_tensor(seed) and not hasattr(seed, "numpy"):
        values = np.zeros(0, seed.dtype.as_numpy_dtype)  # known when the graph runs
    else:
        try:
            values = np.asarray(seed)
        except ValueError:
            values = np.asarray("ragged")
    low, high = -(2**31), 2**31 - 1
    if values.dtype.kind not in "iu" or not ((values >= low) & (values <= high)).all():
        raise UserError(f"seed is {seed!r}; give a whole number of 32 bits, or [B, 2] int32")
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank == 0:
        return tf.stack([tf.fill([num_rows], seed), tf.range(num_rows)], axis=1)
    if seed.shape.rank != 2 or seed.shape[1] != 2:
        raise UserError(f"seed has shape {tuple(seed.shape)}; give a scalar, or [B, 2] int32")
    rows = tf.get_static_value(num_rows) if isinstance(num_rows, tf.Tensor) else None
    if rows is not None and seed.shape[0] not in (None, rows):
        raise UserError(f"seed has {seed.shape[0]} rows, x has {rows}: give one seed for each row")
    return seed


def sample_seeds(seeds: tf.Tensor, first: tf.Tensor | int, count: tf.Tensor) -> tf.Tensor:
    """Seeds [B K, 2] of `count` samples of each row, from `first` on."""
    numbers = SAMPLE_STEP * tf.range(first, first + count)
    steps = tf.stack([numbers, tf.zeros_like(numbers)], axis=1)
    return tf.reshape(seeds[:, tf.newaxis] + steps, (-1, 2))


def dropout_keep(noise: tf.Tensor, rate: float, dtype: tf.DType) -> tf.Tensor:
    """Factors 0 or 1/(1 - rate) from standard normal noise of the same shape."""
    kept = 0.5 * tf.math.erfc(-noise * 0.5**0.5) >= rate
    return tf.cast(kept, dtype) / tf.cast(1.0 - rate, dtype)
