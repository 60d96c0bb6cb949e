"""What is drawn from a trained model, row by row."""

import dataclasses

import numpy as np
import pytest

from tests import model_factory as factory
from zforcing_tf.data.description import Music, Sound, Text
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.errors import UserError
from zforcing_tf.sampling import Extent, extent, gallery

LENGTHS = (5, 4, 5, 4)


SOUND = DataSpec("sound", "real", 200, 5000, sound=Sound(16000))
MUSIC = DataSpec("music", "binary", 88, 5000, music=Music(21, 0.5))
TEXT = DataSpec("text", "symbol", 6, 5000, text=Text(("</s>", "<unk>", "a", "b", "c", "d")))
CURVES = DataSpec("curves", "real", 3, 5000)


def rows_of(
    emission, variant, lengths=LENGTHS, count=3, seed=0, temperature=0.5, shown=(), **values
):
    model = factory.build(emission, **factory.VARIANTS[variant], **values)
    split = Split("test", factory.frames(emission, sum(lengths)), np.array(lengths, np.int32))
    rows = gallery(model, split, Extent(count, 6, *shown), temperature=temperature, seed=seed)
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


def test_long_sequences_are_cut_and_continued_as_far():
    split, rows = rows_of("gaussian", "zforcing", (9, 4, 7), shown=(6, 3, 0.5))
    assert rows["real"].lengths.tolist() == rows["reconstructions"].lengths.tolist() == [6, 4, 6]
    whole, _ = split.padded(np.arange(3))
    np.testing.assert_array_equal(rows["real"].x, whole[:, :6])
    completions = rows["completions"]
    assert completions.x.shape == (3, 6, factory.FRAME_SIZE)
    assert (completions.given, completions.title) == (3, "first 1.5 s given, rest by the model")
    np.testing.assert_array_equal(completions.x[:, :3], whole[:, :3])


def test_at_most_half_a_median_sequence_is_given_and_none_that_has_ended():
    split, rows = rows_of("categorical", "zforcing", (2, 9, 6), shown=(8, 5))
    completions = rows["completions"]
    assert (completions.given, completions.title) == (3, "first 3 steps given, rest by the model")
    assert completions.x.shape == (2, 8)
    np.testing.assert_array_equal(completions.x[:, :3], split.padded([1, 2])[0][:, :3])


def test_symbols_are_reconstructed_by_the_likeliest_some_sequences_at_once(monkeypatch):
    split, rows = rows_of("categorical", "zforcing")
    model = factory.build("categorical", **factory.VARIANTS["zforcing"])
    x, lengths = rows["real"].x, rows["real"].lengths
    means = model.reconstruct(x, lengths, 0).numpy()
    np.testing.assert_array_equal(rows["reconstructions"].x, means.argmax(axis=-1))
    monkeypatch.setattr("zforcing_tf.sampling._PROBABILITIES_AT_ONCE", 2 * 5 * 6)
    _, again = rows_of("categorical", "zforcing")
    np.testing.assert_array_equal(again["reconstructions"].x, rows["reconstructions"].x)


@pytest.mark.parametrize("emission", ["gaussian", "categorical"])
def test_a_first_frame_that_is_given_stands_before_its_reconstruction(emission):
    _, rows = rows_of(emission, "zforcing", score_first_frame=False)
    real, through = rows["real"], rows["reconstructions"]
    assert through.x.shape == real.x.shape
    assert through.given == 1
    np.testing.assert_array_equal(through.x[:, 0], real.x[:, 0])
    assert not np.array_equal(through.x[:, 1:], real.x[:, 1:])
    for name in ("samples", "samples_cool"):  # how sequences begin is not known to the model
        assert (rows[name].x.shape[1], rows[name].given) == (6, 1)
        np.testing.assert_array_equal(rows[name].x[:, 0], real.x[:, 0])
    assert not np.array_equal(rows["samples"].x, rows["samples_cool"].x)
    _, alone = rows_of(emission, "zforcing", (1, 1), score_first_frame=False)
    assert "reconstructions" not in alone


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        (SOUND, {}, (4, 240, 240, 80, 0.0125, "step")),
        (SOUND, {"seconds": 10.0, "num_sequences": 7}, (7, 800, 800, 80, 0.0125, "step")),
        (SOUND, {"num_steps": 5}, (4, 5, 5, 80, 0.0125, "step")),
        (MUSIC, {}, (4, 60, 60, 20, 0.5, "step")),
        (MUSIC, {"seconds": 0.1}, (4, 1, 1, 20, 0.5, "step")),
        (TEXT, {}, (16, 100, 100, 5, 0.0, "word")),
        (CURVES, {}, (16, 5000, None, None, 0.0, "step")),
        (CURVES, {"num_steps": 7, "num_sequences": 2}, (2, 7, None, None, 0.0, "step")),
    ],
)
def test_how_much_is_shown(spec, given, expected):
    assert extent(spec, **given) == (*expected, spec is SOUND)


def test_samples_are_no_longer_than_the_data_unless_asked():
    for spec in (SOUND, MUSIC, TEXT, CURVES):
        short = dataclasses.replace(spec, max_length=3)
        assert extent(short).steps == 3
        assert extent(short, num_steps=9).steps == 9


def test_steps_are_called_what_they_are():
    assert [extent(spec).unit for spec in (TEXT, CURVES)] == ["word", "step"]
    _, rows = rows_of("categorical", "rnn", shown=(6, 1, 0.0, "word"))
    assert rows["completions"].title == "first 1 word given, rest by the model"


def test_what_memory_does_not_hold_is_refused():
    with pytest.raises(UserError, match="1 samples of 2000000000 steps of 200 numbers are more th"):
        extent(SOUND, num_sequences=1, num_steps=2_000_000_000)
    with pytest.raises(UserError, match="nan is no number of seconds: give one above 0"):
        extent(SOUND, seconds=float("nan"))


def test_seconds_need_data_that_takes_time():
    with pytest.raises(UserError, match="seconds are for sound and music, and 'curves' is neither"):
        extent(CURVES, seconds=1.0)
    with pytest.raises(UserError, match="two lengths: give one"):
        extent(SOUND, num_steps=3, seconds=1.0)
