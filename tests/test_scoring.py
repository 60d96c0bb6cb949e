"""Bounds of splits: on models whose numbers can be worked out by hand, and whatever the batches."""

import dataclasses
import re
import types

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf import scoring
from zforcing_tf.answers import Latents, Scores
from zforcing_tf.data.spec import Dataset, Split
from zforcing_tf.errors import UserError
from zforcing_tf.metrics import ActiveUnits
from zforcing_tf.scoring import (
    evaluate,
    protocol,
    skipped_records,
    table,
    table_per_step,
    tighter_bounds,
    with_other_bounds,
)

LENGTHS = (5, 1, 3, 4, 2, 5, 3)


def split(emission="gaussian", lengths=LENGTHS):
    values = factory.frames(emission, sum(lengths))
    return Split("test", values, np.array(lengths, np.int32))


class Recorder:
    """Stands for a model: the bound of a sequence is -(first number of its seed) - length."""

    cell = types.SimpleNamespace(latent_size=2)
    first_frame_given = False
    trainable_variables = (np.zeros((2, 8)),)

    def __init__(self):
        self.score_seeds = []

    def score(self, x, lengths, seeds):
        self.score_seeds.append(seeds)
        kl = np.where(np.arange(x.shape[1]) < lengths[:, None], 0.5, 0.0)
        return Scores(tf.constant(-seeds[:, 0] - lengths, tf.float32), None, kl)

    def score_and_encode(self, x, lengths, seeds):
        loc = tf.constant(x[..., :2])
        return self.score(x, lengths, seeds), Latents(loc, loc, loc)


def test_numbers_of_a_known_model():
    """Seed 7, one sample: bounds of -7 - length."""
    data = split()
    found = evaluate(Recorder(), factory.spec("gaussian"), data, batch_size=3, seed=7)
    bounds = -7.0 - np.array(LENGTHS)
    total, frames = bounds.sum(), sum(LENGTHS)
    assert found == {
        "num_sequences": 7,
        "num_samples": 1,
        "seed": 7,
        "elbo": pytest.approx(total / 7),
        "elbo_standard_error": pytest.approx(np.std(bounds, ddof=1) / 7**0.5),
        "nats_per_step": pytest.approx(total / frames),
        "nats_per_step_macro": pytest.approx(np.mean(bounds / LENGTHS)),
        "kl_per_step": pytest.approx(0.5),
        "bits_per_dim": pytest.approx(-total / frames / factory.FRAME_SIZE / np.log(2)),
        "active_units": 2,
    }


def test_samples_are_averaged_and_have_noise_of_their_own():
    model = Recorder()
    found = evaluate(model, factory.spec("gaussian"), split(), 4, num_samples=3, seed=2)
    seeds = 2 + np.arange(3) * 1_000_003
    assert found["elbo"] == pytest.approx(-seeds.mean() - np.mean(LENGTHS), rel=1e-6)
    first = np.concatenate(model.score_seeds[::3])
    by_length = np.argsort(LENGTHS, kind="stable")
    np.testing.assert_array_equal(first, [[2, index] for index in by_length])


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_any_seed_is_possible(seed):
    model = Recorder()
    evaluate(model, factory.spec("gaussian"), split(), 7, num_samples=2, seed=seed)
    assert model.score_seeds[1].dtype == np.int32
    assert model.score_seeds[1][0, 0] != model.score_seeds[0][0, 0] == seed


def without_weights(emission, variant):
    model = factory.build(emission, **factory.VARIANTS[variant])
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable.value))
    return model


def test_one_bit_a_pixel_from_a_model_that_knows_nothing():
    data = split("bernoulli")
    model = without_weights("bernoulli", "rnn")
    found = evaluate(model, factory.spec("bernoulli"), data, 3)
    assert found["bits_per_dim"] == pytest.approx(1.0, rel=1e-6)
    assert found["nats_per_step"] == pytest.approx(-factory.FRAME_SIZE * np.log(2), rel=1e-6)
    assert found["kl_per_step"] == 0
    assert not {"active_units", "perplexity"} & found.keys()


def test_a_perplexity_as_large_as_the_vocabulary_from_a_model_that_knows_nothing():
    data = split("categorical")
    model = without_weights("categorical", "zforcing")
    found = evaluate(model, factory.spec("categorical"), data, 3)
    assert found["perplexity"] == pytest.approx(factory.VOCABULARY, rel=1e-6)
    assert (found["kl_per_step"], found["active_units"]) == (0, 0)
    assert "bits_per_dim" not in found


@pytest.mark.parametrize("emission", ["gaussian", "categorical"])
def test_no_number_depends_on_the_batch_size(emission):
    model = factory.build(emission, **factory.VARIANTS["full"])
    one, *others = (
        evaluate(model, factory.spec(emission), split(emission), size, num_samples=2, seed=1)
        for size in (1, 3, 100)
    )
    for other in others:
        assert other == pytest.approx(one, rel=1e-5)


def test_long_sequences_are_scored_few_at_once(monkeypatch):
    """8 numbers of the widest layer for each frame, 48 at once: 6 frames."""
    monkeypatch.setattr(scoring, "_NUMBERS_AT_ONCE", 48)
    model = Recorder()
    found = evaluate(model, factory.spec("gaussian"), split(), 100, seed=7)
    assert found["elbo"] == pytest.approx(-7 - np.mean(LENGTHS))
    assert [seeds[:, 1].tolist() for seeds in model.score_seeds] == [[1, 4], [2, 6], [3], [0], [5]]


def test_one_sequence_has_no_standard_error():
    found = evaluate(Recorder(), factory.spec("gaussian"), split(lengths=(3,)), 3)
    assert (found["elbo"], found["elbo_standard_error"], found["active_units"]) == (-3, 0, 0)


def test_the_table():
    """Columns that some row has; a dash where another has none."""
    rows = [
        ("one", {"elbo": -18.1454, "elbo_standard_error": 0.4, "active_units": 28}),
        ("another", {"elbo": -9.0, "elbo_standard_error": 0.25, "parameters": 289504, "step": 3}),
    ]
    assert table(rows).splitlines() == [
        "         nats/sequence     +-  active units  parameters",
        "one            -18.145  0.400            28           -",
        "another         -9.000  0.250             -     289,504",
    ]


def test_the_mean_over_sequences_is_shown_where_lengths_differ():
    """Else it is the mean over steps but for rounding."""
    equal = {"elbo": -8.0, "nats_per_step": -2.0, "nats_per_step_macro": -2.0 - 1e-9}
    ragged = {"elbo": -8.0, "nats_per_step": -2.0, "nats_per_step_macro": -2.25}
    assert table([("a", equal)]).splitlines()[0].split() == ["nats/sequence", "nats/step"]
    assert table([("a", equal), ("b", ragged)]).splitlines() == [
        "   nats/sequence  nats/step  nats/step macro",
        "a         -8.000     -2.000           -2.000",
        "b         -8.000     -2.000           -2.250",
    ]


def test_the_table_a_step_has_every_bound():
    """Each by both averages where lengths differ, and as a perplexity of symbols."""
    one = {"elbo": -8.0, "nats_per_step": -2.0, "nats_per_step_macro": -2.25}
    assert table_per_step([("a", one)]) == ""
    one |= {"iwae": -7.0, "iwae_num_samples": 4, "iwae_nats_per_step": -1.75}
    one |= {"iwae_nats_per_step_macro": -2.0}
    other = {"elbo": -8.0, "nats_per_step": -3.0, "nats_per_step_macro": -3.0}
    lines = table_per_step([("a", one), ("b", other)]).splitlines()
    assert [re.split("  +", line.strip()) for line in lines] == [
        ["elbo nats/step", "iwae-4 nats/step", "elbo macro", "iwae-4 macro"],
        ["a", "-2.000", "-1.750", "-2.250", "-2.000"],
        ["b", "-3.000", "-", "-3.000", "-"],
    ]
    words = {"perplexity": np.exp(2.0), "nats_per_step": -2.0, "iwae_nats_per_step": -1.5}
    lines = table_per_step([("a", {"iwae": -7.0, "iwae_num_samples": 25, **words})]).splitlines()
    assert lines[0].endswith("  elbo perplexity  iwae-25 perplexity")
    assert lines[1].split()[-2:] == ["7.389", "4.482"]


def test_perplexities_are_of_symbols_alone():
    words = {"elbo": -8.0, "perplexity": 7.4, "nats_per_step": -2.0, "iwae": -7.0}
    numbers = {"elbo": -9000.0, "nats_per_step": -2000.0, "iwae": -8000.0}
    tighter = {"iwae_num_samples": 4, "iwae_nats_per_step": -1500.0}
    words |= {"fivo": None, "fivo_num_samples": 4, "fivo_nats_per_step": None}  # was not finite
    lines = table_per_step([("a", words | tighter), ("b", numbers | tighter)]).splitlines()
    assert lines[1].split()[-3:] == ["7.400", "inf", "-"]
    assert lines[2].split()[-3:] == ["-", "-", "-"]


def test_the_table_a_step_has_the_sums_over_pieces():
    row = {"elbo": -8.0, "nats_per_step": -2.0, "elbo_whole": -24.0}
    row |= {"fivo": -7.0, "fivo_num_samples": 4, "fivo_nats_per_step": -1.75, "fivo_whole": -21.0}
    header, line = table_per_step([("a", row)]).splitlines()
    assert header.endswith("  elbo whole  fivo-4 whole")
    assert line.split()[-2:] == ["-24.000", "-21.000"]


def test_pieces_are_summed_over_what_they_are_pieces_of():
    """In the mean over whole sequences, however often they were cut."""
    data = split().cut(2)
    found = evaluate(Recorder(), factory.spec("gaussian"), data, 3, seed=7)
    counts = [-(-length // 2) for length in LENGTHS]
    wholes = [-7.0 * count - length for count, length in zip(counts, LENGTHS, strict=True)]
    assert found["num_sequences"] == sum(counts)
    assert found["elbo_whole"] == pytest.approx(np.mean(wholes))
    error = np.std(wholes, ddof=1) / len(wholes) ** 0.5
    assert found["elbo_whole_standard_error"] == pytest.approx(error)
    assert "elbo_whole" not in evaluate(Recorder(), factory.spec("gaussian"), split(), 3)
    assert "elbo_whole" not in evaluate(Recorder(), factory.spec("gaussian"), split().cut(5), 3)
    again = evaluate(Recorder(), factory.spec("gaussian"), split().cut(4).cut(2), 3, seed=7)
    assert again == found
    model = factory.build("gaussian", model="rnn")
    elbo = evaluate(model, factory.spec("gaussian"), data, 4)
    tighter = tighter_bounds(model, data, 4, ["iwae"], 2)
    assert tighter["iwae_whole"] == pytest.approx(elbo["elbo_whole"], rel=1e-6)


def test_tighter_bounds_have_both_means_over_steps():
    """Of a model without latents, those of the elbo."""
    model, data = factory.build("gaussian", model="rnn"), split()
    elbo = evaluate(model, factory.spec("gaussian"), data, 4)
    found = tighter_bounds(model, data, 4, ["fivo"], 2)
    for name in ("nats_per_step", "nats_per_step_macro"):
        assert found[f"fivo_{name}"] == pytest.approx(elbo[name], rel=1e-6)


@pytest.mark.parametrize("variant", ["rnn", "full"])
def test_a_first_frame_that_is_given_is_no_step(variant):
    """Per step, it is divided by those that are scored; who has none of them is no sequence."""
    model = factory.build("gaussian", score_first_frame=False, **factory.VARIANTS[variant])
    data = split()
    found = evaluate(model, factory.spec("gaussian"), data, 2)
    x, lengths = data.padded(np.arange(7))
    seeds = np.stack([np.zeros(7), np.arange(7)], axis=1).astype(np.int32)
    scores = model.score(x, lengths, seeds)
    elbo, steps = scores.elbo.numpy(), lengths - 1
    kept = steps > 0
    assert found["num_sequences"] == kept.sum() == 6
    assert found["elbo"] == pytest.approx(elbo[kept].mean(), rel=1e-5)
    assert found["nats_per_step"] == pytest.approx(elbo.sum() / steps.sum(), rel=1e-5)
    macro = (elbo[kept] / steps[kept]).mean()
    assert found["nats_per_step_macro"] == pytest.approx(macro, rel=1e-5)
    kl = np.sum(scores.kl_per_step) / steps.sum()
    assert found["kl_per_step"] == pytest.approx(kl, rel=1e-5)
    if variant == "full":
        units = ActiveUnits()
        units.update(model.encode(x, lengths, seeds).loc.numpy(), steps)
        assert found["active_units"] == units.result()


def test_nothing_to_score_is_said():
    model = factory.build("gaussian", score_first_frame=False, model="rnn")
    with pytest.raises(UserError, match="^no sequence of the test data has a second frame"):
        evaluate(model, factory.spec("gaussian"), split(lengths=(1, 1)), 2)


def test_records_that_were_left_out_are_counted():
    dataset = Dataset(factory.spec("gaussian"), split(), split(), split())
    assert skipped_records(dataset) == {}
    bad = ("a.wav: it is empty", "b.wav: it is cut short")
    assert skipped_records(dataclasses.replace(dataset, skipped=bad)) == {"skipped_records": 2}


def test_other_bounds_of_the_same_weights_stay():
    known = {"test": {"step": 9, "checkpoint": "best", "elbo": -3.0, "iwae": -2.0}}
    numbers = {"step": 9, "checkpoint": "best", "elbo": -3.1, "fivo": -1.9}
    both = with_other_bounds(known, "test", numbers)
    assert both == {**numbers, "iwae": -2.0}
    assert with_other_bounds(known, "test", {**numbers, "step": 10}) == {**numbers, "step": 10}
    assert with_other_bounds({}, "test", numbers) == numbers


def test_a_protocol_has_a_name():
    assert protocol(0, True) == "whole sequences"
    assert protocol(40, False) == "chunks of 40, first frames not scored"
