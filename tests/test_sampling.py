"""What is drawn from a trained model, row by row."""

import numpy as np
import pytest

from tests import model_factory as factory
from zforcing_tf.data.spec import Split
from zforcing_tf.sampling import Extent, gallery

LENGTHS = (5, 4, 5, 4)


def rows_of(emission, variant, lengths=LENGTHS, count=3, seed=0, temperature=0.5):
    model = factory.build(emission, **factory.VARIANTS[variant])
    split = Split("test", factory.frames(emission, sum(lengths)), np.array(lengths, np.int32))
    rows = gallery(model, split, Extent(count, 6), temperature=temperature, seed=seed)
    return split, {row.name: row for row in rows}


@pytest.mark.parametrize("emission", ["bernoulli", "gaussian", "categorical"])
def test_rows_of_a_model_with_latents(emission):
    split, rows = rows_of(emission, "zforcing")
    names = ["real", "reconstructions", "samples", "samples_cool", "completions"]
    assert list(rows) == names
    assert [row.given for row in rows.values()] == [0, 0, 0, 0, 2]
    frame = split.values.shape[1:]
    steps = rows["real"].x.shape[1]
    assert rows["real"].x.shape == rows["completions"].x.shape == (3, steps, *frame)
    assert rows["reconstructions"].x.shape == (3, steps, *frame)
    assert rows["reconstructions"].x.dtype == split.values.dtype
    assert rows["samples"].x.shape == rows["samples_cool"].x.shape == (3, 6, *frame)
    np.testing.assert_array_equal(rows["reconstructions"].lengths, rows["real"].lengths)
    assert (rows["samples"].lengths == 6).all()
    assert rows["samples_cool"].title == "samples, temperature 0.5"


def test_real_sequences_are_of_the_split_and_completions_begin_with_them():
    split, rows = rows_of("gaussian", "full")
    every, lengths = split.padded(np.arange(4))
    real = rows["real"]
    place = [int(np.flatnonzero((every[:, 0] == x[0]).all(axis=1))[0]) for x in real.x]
    assert place == sorted(set(place))
    np.testing.assert_array_equal(real.lengths, lengths[place])
    np.testing.assert_array_equal(real.x, every[place][:, : real.x.shape[1]])
    np.testing.assert_array_equal(rows["completions"].x[:, :2], real.x[:, :2])
    assert not np.array_equal(rows["completions"].x[:, 2:], real.x[:, 2:])


def test_a_model_without_latents_reconstructs_nothing():
    _, rows = rows_of("bernoulli", "rnn")
    assert list(rows) == ["real", "samples", "samples_cool", "completions"]


def test_sequences_of_one_step_have_no_half():
    _, rows = rows_of("bernoulli", "zforcing", lengths=(1, 1))
    assert "completions" not in rows
    assert rows["real"].x.shape == (2, 1, factory.FRAME_SIZE)  # the split has two


def test_chance_is_in_the_seed():
    (_, one), (_, again), (_, other) = (rows_of("gaussian", "zforcing", seed=s) for s in (1, 1, 2))
    for name, row in one.items():
        np.testing.assert_array_equal(row.x, again[name].x)
    assert not np.array_equal(one["samples"].x, other["samples"].x)
    assert not np.array_equal(one["samples"].x, one["samples_cool"].x)
