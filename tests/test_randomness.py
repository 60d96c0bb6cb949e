"""Noise is a function of seeds: the same on every way, every replica, every length."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf import randomness
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import Rows, batch_noise, dropout_keep, row_noise, row_seeds

SEED = tf.constant([3, 4], tf.int32)
SEEDS = tf.constant([[1, 2], [3, 4], [-5, 2**31 - 1]], tf.int32)
WIDTH = 3


def rows(local: int, offset: int = 0, total: int | None = None) -> Rows:
    return Rows(*(tf.constant(v) for v in (local, offset, local if total is None else total)))


def of_batch(num_steps: int = 5) -> tf.Tensor:
    return batch_noise(SEED, rows(4), tf.constant(num_steps), WIDTH)


def of_rows(num_steps: int = 5) -> tf.Tensor:
    return row_noise(SEEDS, tf.constant(num_steps), WIDTH)


@pytest.mark.parametrize("draw", [of_batch, of_rows])
def test_eager_graph_and_xla_agree(draw):
    eager = draw()
    assert eager.dtype == tf.float32 and eager.shape == (5, 4 if draw is of_batch else 3, WIDTH)
    graph = tf.function(draw, autograph=False)
    xla = tf.function(draw, autograph=False, jit_compile=True)
    np.testing.assert_array_equal(graph(), eager)
    np.testing.assert_allclose(xla(), eager, rtol=1e-6)


@pytest.mark.parametrize("draw", [of_batch, of_rows])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 6])
def test_longer_noise_begins_with_the_shorter(draw, num_steps):
    np.testing.assert_array_equal(draw(7)[:num_steps], draw(num_steps))


@pytest.mark.parametrize("jit", [None, False, True])
@pytest.mark.parametrize("width", [1, 3, 4])
def test_a_draw_may_begin_anywhere(jit, width):
    """At a block of the generator or not, far away too: the numbers of the long draw."""
    whole, far = (row_noise(SEEDS, tf.constant(n), width) for n in (11, 2000))

    def draw(first: tf.Tensor) -> tf.Tensor:
        return row_noise(SEEDS, tf.constant(5), width, first)

    if jit is not None:
        # XLA wants sizes that it knows: one graph for each beginning.
        draw = tf.function(draw, autograph=False, jit_compile=jit)
    for first in (0, 1, 2, 3, 4, 6):
        given = first if jit else tf.constant(first)
        np.testing.assert_allclose(draw(given), whole[first : first + 5], rtol=1e-6)
        if not jit:
            np.testing.assert_array_equal(draw(given), whole[first : first + 5])
    np.testing.assert_allclose(draw(1995), far[1995:], rtol=1e-6)


def test_bits_of_a_part_are_those_of_the_whole():
    """On every way of running, against TensorFlow's own function of the seed."""
    seed = SEEDS[2]
    whole = tf.random.stateless_uniform([4000], seed, None, None, tf.uint32, randomness.ALGORITHM)
    for jit in (False, True):
        bits = tf.function(randomness._bits, autograph=False, jit_compile=jit)
        for block, size in ((0, 8), (1, 4), (1, 6), (250, 3000), (999, 4)):
            part = whole[4 * block : 4 * block + size]
            np.testing.assert_array_equal(bits(seed, size, block), part)


def test_a_row_does_not_depend_on_its_batch():
    together = of_rows()
    for row in range(3):
        alone = row_noise(SEEDS[row : row + 1], tf.constant(5), WIDTH)
        np.testing.assert_array_equal(alone[:, 0], together[:, row])
    assert len(np.unique(together)) == together.shape.num_elements()


def test_no_rows_give_no_noise():
    noise = tf.function(lambda s: row_noise(s, tf.constant(5), WIDTH), autograph=False)
    assert noise(tf.zeros((0, 2), tf.int32)).shape == (5, 0, WIDTH)
    assert row_noise(SEEDS, tf.constant(5), 0).shape == (5, 3, 0)
    assert batch_noise(SEED, rows(0, 4, 4), tf.constant(5), WIDTH).shape == (5, 0, WIDTH)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1), (4, 0)])
def test_replicas_share_out_the_noise_of_the_batch(sizes):
    whole = of_batch()
    first, second = sizes
    parts = [rows(first, 0, 4), rows(second, first, 4)]
    noise = [batch_noise(SEED, part, tf.constant(5), WIDTH) for part in parts]
    np.testing.assert_array_equal(tf.concat(noise, axis=1), whole)


@pytest.mark.parametrize("sizes", [(2, 3), (3, 0), (0, 1)])
def test_rows_of_two_replicas(sizes):
    strategy = factory.two_replicas()
    sizes_by_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(sizes[context.replica_id_in_sync_group])
    )

    @tf.function
    def run(local: tf.Tensor) -> Rows:
        return strategy.run(lambda n: Rows.of(tf.distribute.get_replica_context(), n), (local,))

    result = run(sizes_by_replica)
    found = [strategy.experimental_local_results(v) for v in result]
    assert [int(v) for v in found[0]] == list(sizes)
    assert [int(v) for v in found[1]] == [0, sizes[0]]
    assert [int(v) for v in found[2]] == [sum(sizes)] * 2


def test_rows_of_one_device():
    found = Rows.of(tf.distribute.get_replica_context(), tf.constant(7))
    assert [int(v) for v in found] == [7, 0, 7]


def test_noise_is_standard_normal():
    """200,000 numbers: mean within 5 standard errors, variance within 5, no neighbours alike."""
    for noise in (
        batch_noise(SEED, rows(20), tf.constant(1000), 10),
        row_noise(row_seeds(0, tf.constant(20)), tf.constant(1000), 10),
    ):
        n = 200_000**0.5
        assert abs(np.mean(noise)) < 5 / n
        assert abs(np.var(noise) - 1) < 5 * 2**0.5 / n
        for axis in range(3):
            a, b = (np.take(noise, np.arange(noise.shape[axis] - 1) + i, axis) for i in (0, 1))
            assert abs(np.mean(a * b)) < 5 / a.size**0.5


def test_seeds_of_rows():
    np.testing.assert_array_equal(row_seeds(7, tf.constant(3)), [[7, 0], [7, 1], [7, 2]])
    np.testing.assert_array_equal(row_seeds(SEEDS, tf.constant(3)), SEEDS)
    assert row_seeds(np.int64(7), tf.constant(2)).dtype == tf.int32


@pytest.mark.parametrize(
    "seed",
    [0.5, 2**31, "a", [1, 2, 3], np.zeros((3, 3), np.int32), np.zeros((3, 2)), tf.zeros(())],
)
def test_bad_seeds(seed):
    with pytest.raises(UserError, match="seed"):
        row_seeds(seed, tf.constant(3))


def test_as_many_seeds_as_rows():
    with pytest.raises(UserError, match="seed has 3 rows, x has 2"):
        row_seeds(SEEDS, tf.constant(2))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate):
    """100,000 factors; frequency within 5 standard errors."""
    noise = tf.random.stateless_normal((100_000,), (1, 2))
    keep = dropout_keep(noise, rate, tf.float32).numpy()
    assert set(np.unique(keep)) <= {np.float32(0.0), np.float32(1.0) / np.float32(1.0 - rate)}
    error = (rate * (1 - rate) / noise.shape[0]) ** 0.5
    assert abs(np.mean(keep > 0) - (1 - rate)) <= 5 * error
    assert dropout_keep(noise, rate, tf.bfloat16).dtype == tf.bfloat16


def test_numbers_of_a_seed_stay_what_they_are():
    """Resumed runs and requests with a seed rely on it. They are those of `stateless_normal`."""
    expected = [-0.17393383, 1.6723547, 0.34817016, -1.7038907, -0.6153246, 0.36621013]
    noise = batch_noise(SEED, rows(1), tf.constant(2), 3)
    np.testing.assert_allclose(np.ravel(noise), expected, rtol=1e-5)
    theirs = tf.random.stateless_normal((1000, 3), SEED, alg=randomness.ALGORITHM)
    ours = batch_noise(SEED, rows(1), tf.constant(1000), 3)[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 3, 10])
def test_blocks_of_a_compiled_loop_hold_the_same_numbers(width):
    """All but a few in millions to the last bit, whatever the block."""
    size, num_blocks = 16 * width, 500
    bits = randomness.row_blocks(SEEDS, tf.constant(num_blocks), size)
    noise = tf.function(randomness.block_noise, jit_compile=True)
    blocks = tf.concat([noise(block, width) for block in bits[:4]], axis=0)
    expected = row_noise(SEEDS, tf.constant(16 * num_blocks), width)
    np.testing.assert_allclose(blocks, expected[: 4 * 16], rtol=3e-7, atol=1e-12)
    everything = tf.concat([randomness.block_noise(block, width) for block in bits], axis=0)
    different = tf.reduce_mean(tf.cast(everything != expected, tf.float64))
    assert everything.shape == expected.shape and different < 1e-4
    np.testing.assert_allclose(everything, expected, rtol=3e-7, atol=1e-12)


def test_sine_and_cosine_of_every_quarter():
    turns = tf.constant(np.arange(2**14) * 2.0**-14)
    for ours, expected in zip(
        randomness._sin_cos_by_polynomial(turns), randomness._sin_cos(turns), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-13, rtol=0)
