"""Latents that are given, decoded: against single steps, and against all possible sequences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf import unroll
from zforcing_tf.decoder import Decoder, Given
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import row_noise
from zforcing_tf.sequence_model import SequenceModel

SYMBOLS = factory.VOCABULARY
END, UNKNOWN = 0, 1
ROWS, STEPS = 4, 7
NAMES = ["storn", "vrnn", "srnn", "zforcing", "vrnn_gru_layer_norm", "srnn_gru", "full"]
each_model = pytest.mark.parametrize("variant", NAMES)
each_family = pytest.mark.parametrize("variant", NAMES[:4])


def model_of(variant: str, dtype: str = "float64", **values: Any) -> SequenceModel:
    """In float64: symbols and scores by other orders of sums are then the same.

    With large weights and no bias of its own for each symbol, so that latents matter.
    """
    values = {**factory.VARIANTS[variant], **values}
    model = factory.build("categorical", dtype=dtype, **values)
    factory.randomise(model, scale=1.5)
    model.emission.output_bias.assign(tf.zeros_like(model.emission.output_bias))
    return model


def given_of(
    model: SequenceModel, rows: int = ROWS, steps: int = STEPS, whole: bool = False, seed: int = 0
) -> Given:
    """Latents of the size of a few deviations, given to all shares from 0 to 1."""
    generator = np.random.default_rng(seed)
    latents = 2.0 * generator.standard_normal((rows, steps, model.cell.latent_size))
    share = np.ones((rows, steps)) if whole else generator.uniform(-0.2, 1.2, (rows, steps))
    share = share.clip(0, 1)
    return Given(latents * share[..., np.newaxis], share)


def logits_along(model: SequenceModel, given: Given, x: np.ndarray) -> np.ndarray:
    """[B, T, V] of each step after x before it: by the step that draws from the prior, given the
    noise that makes its latent the one that is wanted."""
    cell, own = model.cell, model.emission
    rows, steps = x.shape
    state, before, every = cell.initial_state(rows), own.first_input(rows), []
    zeros = tf.zeros((rows, cell.latent_size), tf.float64)
    for t in range(steps):
        drive = cell.drive(before)
        loc, above = (
            unroll.prior_step(cell, state, drive, noise)[1].latent for noise in (zeros, zeros + 1)
        )
        wanted = given.latent[:, t] + (1 - given.share[:, t, np.newaxis]) * loc
        state, seen = unroll.prior_step(cell, state, drive, (wanted - loc) / (above - loc))
        np.testing.assert_allclose(seen.latent, wanted, atol=1e-9)
        every.append(own(seen.features, own.skip(cell, before)).numpy())
        before = tf.constant(x[:, t])
    return np.stack(every, axis=1)


def log_probs_along(model: SequenceModel, given: Given, x: np.ndarray) -> np.ndarray:
    """[B, T] of each symbol of x."""
    log_p = tf.nn.log_softmax(logits_along(model, given, x)).numpy()
    return np.take_along_axis(log_p, x[..., np.newaxis], axis=2)[..., 0]


def score(model: SequenceModel, given: Given, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    valid = np.arange(x.shape[1]) < lengths[:, np.newaxis]
    return np.where(valid, log_probs_along(model, given, x), 0).sum(axis=1)


def rows_of(given: Given, *index: int) -> Given:
    return Given(*(values[list(index)] for values in given))


def assert_same(ours: Any, expected: Any) -> None:
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@each_model
def test_latents_that_were_drawn_give_back_what_was_generated(variant):
    """Noise of zeros for each symbol is that of the likeliest one: all get the same Gumbel."""
    model = model_of(variant, "float32")
    cell, own = model.cell, model.emission
    noise = np.zeros((STEPS, ROWS, cell.latent_size + SYMBOLS), np.float32)
    noise[..., : cell.latent_size] = 2 * np.random.default_rng(1).standard_normal(
        (STEPS, ROWS, cell.latent_size)
    )
    start = (cell.initial_state(ROWS), own.first_input(ROWS))
    _, drawn = unroll.generate(cell, own, *start, tf.constant(noise), tf.ones((ROWS, 1)))
    latents = tf.transpose(drawn.latent, (1, 0, 2)).numpy()
    decoded = Decoder(model).greedy(Given.of(latents))
    np.testing.assert_array_equal(decoded.x, tf.transpose(drawn.x))
    assert len(np.unique(decoded.x, axis=0)) > 1  # latents matter


@each_model
def test_nothing_given_is_generation_at_temperature_0(variant):
    model = model_of(variant, "float32")
    given = Given(np.zeros((ROWS, STEPS, model.cell.latent_size)), np.zeros((ROWS, STEPS)))
    expected = model.generate(STEPS, ROWS, temperature=0.0)
    np.testing.assert_array_equal(Decoder(model).greedy(given).x, expected)


@each_model
def test_greedy_takes_the_likeliest_that_is_allowed_up_to_the_end(variant):
    model = model_of(variant)
    given = given_of(model, rows=40)
    decoded = Decoder(model, END, [UNKNOWN]).greedy(given)
    logits = logits_along(model, given, decoded.x)
    logits[..., UNKNOWN] = -np.inf
    likeliest = logits.argmax(axis=-1)
    ends = np.cumsum(decoded.x == END, axis=1) > 0
    before = np.pad(ends, ((0, 0), (1, 0)))[:, :-1]
    np.testing.assert_array_equal(decoded.x, np.where(before, END, likeliest))
    np.testing.assert_array_equal(decoded.lengths, np.minimum((~ends).sum(axis=1) + 1, STEPS))
    expected = score(model, given, decoded.x, decoded.lengths)
    np.testing.assert_allclose(decoded.log_prob, expected, atol=1e-9)
    assert ends[:, -1].any() and not ends[:, -1].all()


@each_model
def test_without_a_temperature_or_a_choice_drawing_is_greedy(variant):
    model = model_of(variant)
    decoder, given = Decoder(model, END, [UNKNOWN]), given_of(model)
    greedy = decoder.greedy(given)
    assert_same(decoder.sample(given, top_k=1, temperature=3.0, seed=5), greedy)
    assert_same(decoder.sample(given, top_k=4, temperature=0.0, seed=5), greedy)
    assert_same(decoder.sample(given, temperature=[0.0] * ROWS, seed=5), greedy)


@each_model
def test_a_beam_of_one_is_greedy(variant):
    model = model_of(variant)
    decoder, given = Decoder(model, END, [UNKNOWN]), given_of(model, rows=40)
    greedy, beam = decoder.greedy(given), decoder.beam_search(given, 1)
    np.testing.assert_array_equal(beam.x[:, 0], greedy.x)
    np.testing.assert_array_equal(beam.lengths[:, 0], greedy.lengths)
    np.testing.assert_allclose(beam.log_prob[:, 0], greedy.log_prob, atol=1e-12)


@each_model
def test_a_beam_that_holds_everything_finds_everything(variant):
    """All sequences of 3 steps: ended ones once, and none with the forbidden symbol."""
    model, steps = model_of(variant), 3
    given = given_of(model, rows=2, steps=steps)
    sequences = []
    for x in itertools.product(range(SYMBOLS), repeat=steps):
        length = min([t + 1 for t in range(steps) if x[t] == END], default=steps)
        if UNKNOWN not in x and all(symbol == END for symbol in x[length:]):
            sequences.append((*x, length))
    every = np.array(sequences, np.int32)
    x, lengths = every[:, :steps], every[:, steps]
    assert len(x) == 1 + 4 * (1 + 4 * (1 + 4))
    found = Decoder(model, END, [UNKNOWN]).beam_search(given, len(x) + 5)
    for row in range(2):
        scores = score(model, rows_of(given, *[row] * len(x)), x, lengths)
        order = np.argsort(-scores)
        np.testing.assert_array_equal(found.x[row, : len(x)], x[order])
        np.testing.assert_array_equal(found.lengths[row, : len(x)], lengths[order])
        np.testing.assert_allclose(found.log_prob[row, : len(x)], scores[order], atol=1e-9)
        assert (found.log_prob[row, len(x) :] == -np.inf).all()


@each_family
def test_every_sequence_of_a_narrow_beam_has_its_own_score(variant):
    """States follow their sequences, whatever beams they have been in."""
    model, width = model_of(variant), 3
    given = given_of(model)
    found = Decoder(model, END, [UNKNOWN]).beam_search(given, width)
    x, lengths = found.x.reshape(-1, STEPS), found.lengths.reshape(-1)
    each = Given(*(np.repeat(values, width, axis=0) for values in given))
    expected = score(model, each, x, lengths).reshape(ROWS, width)
    np.testing.assert_allclose(found.log_prob, expected, atol=1e-9)
    assert (np.diff(found.log_prob, axis=1) < 0).all()
    assert UNKNOWN not in found.x
    for row in range(ROWS):
        assert len(np.unique(found.x[row], axis=0)) == width


@each_model
@pytest.mark.parametrize("top_k", [3, None])
def test_what_is_drawn_is_the_own_draw_of_the_likeliest(variant, top_k):
    """With the noise of each row, step by step."""
    model, temperature = model_of(variant), np.array([[0.5], [1.0], [2.0], [5.0]])
    given, seeds = given_of(model), np.array([[3, 7 * row] for row in range(ROWS)], np.int32)
    drawn = Decoder(model, forbidden=[UNKNOWN]).sample(given, top_k, temperature[:, 0], seeds)
    logits = logits_along(model, given, drawn.x)
    logits[..., UNKNOWN] = -np.inf
    count = top_k or SYMBOLS - 1
    least = np.sort(logits, axis=-1)[..., -count, np.newaxis]
    logits = np.where(logits >= least, logits, -np.inf)
    noise = tf.cast(row_noise(tf.constant(seeds), tf.constant(STEPS), SYMBOLS), tf.float64)
    expected = [
        model.emission.sample(logits[:, t], noise[t], tf.constant(temperature))
        for t in range(STEPS)
    ]
    np.testing.assert_array_equal(drawn.x, np.stack(expected, axis=1))
    assert not np.array_equal(drawn.x, logits.argmax(axis=-1))
    expected = score(model, given, drawn.x, drawn.lengths)
    np.testing.assert_allclose(drawn.log_prob, expected, atol=1e-9)


@each_family
def test_what_is_forbidden_never_occurs(variant):
    model = model_of(variant)
    given, forbidden = given_of(model, rows=200), [1, 3, 4]
    allowed = Decoder(model).sample(given)
    assert set(np.unique(allowed.x)) == set(range(SYMBOLS))
    decoder = Decoder(model, forbidden=forbidden)
    found = [decoder.sample(given), decoder.greedy(given), decoder.beam_search(given, 3)]
    for decoded in found:
        assert not np.isin(decoded.x, forbidden).any()
        assert (decoded.lengths == STEPS).all()  # nothing ends them


@each_family
def test_rows_do_not_depend_on_their_batch(variant):
    model = model_of(variant)
    decoder, given = Decoder(model, END, [UNKNOWN]), given_of(model)
    seeds = np.array([[3, row] for row in range(ROWS)], np.int32)
    for name, row in itertools.product(("sample", "beam"), range(ROWS)):
        together, alone = (
            decoder.sample(rows_of(given, *rows), 3, seed=seeds[list(rows)])
            if name == "sample"
            else decoder.beam_search(rows_of(given, *rows), 3)
            for rows in (range(ROWS), [row])
        )
        np.testing.assert_array_equal(together.x[row], alone.x[0])
        np.testing.assert_allclose(together.log_prob[row], alone.log_prob[0], atol=1e-12)


def test_chance_is_in_the_seed():
    model = model_of("srnn")
    decoder, given = Decoder(model), given_of(model)
    one, again, other = (decoder.sample(given, seed=seed) for seed in (1, 1, 2))
    assert_same(one, again)
    assert not np.array_equal(one.x, other.x)


def test_more_steps_begin_with_the_fewer():
    model = model_of("zforcing")
    latents = given_of(model, whole=True).latent
    short, long = (Given.of(latents, steps) for steps in (STEPS, STEPS + 4))
    decoder = Decoder(model)
    for decode in (decoder.greedy, lambda given: decoder.sample(given, 3, seed=1)):
        np.testing.assert_array_equal(decode(long).x[:, :STEPS], decode(short).x)


def test_latents_end_where_their_lengths_say():
    latents = np.arange(1.0, 13).reshape(2, 3, 2)
    given = Given.of(latents, 5, [3, 1])
    np.testing.assert_array_equal(given.share, [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    expected = np.zeros((2, 5, 2))
    expected[0, :3], expected[1, :1] = latents[0], latents[1, :1]
    np.testing.assert_array_equal(given.latent, expected)


def test_a_mixture_is_its_ends_at_0_and_1_and_linear_between():
    here, there = Given.of(np.full((2, 1, 1), 3.0), 3), Given.of(np.full((2, 2, 1), -1.0), 3)
    assert_same(here.towards(there, 0.0), here)
    assert_same(here.towards(there, 1.0), there)
    mixed = here.towards(there, [0.25, 0.5])
    np.testing.assert_allclose(mixed.latent[..., 0], [[2, -0.25, 0], [1, -0.5, 0]])
    np.testing.assert_allclose(mixed.share, [[1, 0.25, 0], [1, 0.5, 0]])


def test_a_half_given_latent_is_half_the_mean_of_the_prior():
    """A mixture with one that has ended is, step by step, that with what this one goes on with."""
    model = model_of("storn")  # whose prior's mean is 0
    latents = given_of(model, whole=True).latent
    halved = Given(0.5 * latents, np.full((ROWS, STEPS), 0.5))
    whole = Given(0.5 * latents, np.ones((ROWS, STEPS)))
    assert_same(Decoder(model).greedy(halved), Decoder(model).greedy(whole))


@pytest.mark.parametrize("given", [{"model": "rnn"}, {"model": "vrnn", "latent_size": 0}])
def test_a_model_without_a_latent_is_refused(given):
    with pytest.raises(UserError, match=r"^the model (rnn|vrnn) has no latent to decode: take"):
        Decoder(factory.build("categorical", **given))


def test_frames_of_numbers_are_refused():
    with pytest.raises(UserError, match=r"^only latents of symbols are decoded"):
        Decoder(factory.build("gaussian"))


def test_a_symbol_must_be_left():
    with pytest.raises(UserError, match=r"^every symbol is forbidden: leave one$"):
        Decoder(model_of("vrnn"), forbidden=range(SYMBOLS))


@pytest.mark.parametrize(
    ("latents", "steps", "message"),
    [
        (np.zeros((2, 3)), None, "latents must be finite"),
        (np.full((1, 2, 2), np.nan), None, "latents must be finite"),
        (np.array([[["a"]]]), None, "latents must be finite"),
        (np.zeros((1, 4, 2)), 3, "there are latents of 4 steps for 3 steps to decode: give 1 to 3"),
        (np.zeros((1, 0, 2)), 3, "there are latents of 0 steps for 3 steps"),
    ],
)
def test_impossible_latents_are_refused(latents, steps, message):
    with pytest.raises(UserError, match=f"^{message}"):
        Given.of(latents, steps)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"top_k": 0}, "top_k is 0; give a whole number, 1 or more"),
        ({"temperature": -1.0}, "temperature is -1.0; give a number of 0 or more"),
        ({"temperature": [1.0, 1.0]}, "temperature is"),
        ({"seed": 0.5}, "seed is 0.5; give a whole number"),
    ],
)
def test_impossible_requests_are_refused(asked, message):
    model = model_of("vrnn")
    with pytest.raises(UserError, match=f"^{message}"):
        Decoder(model).sample(given_of(model), **asked)


def test_other_impossible_requests_are_refused():
    decoder = Decoder(model_of("vrnn"))
    with pytest.raises(UserError, match="^width is 0; give"):
        decoder.beam_search(given_of(model_of("vrnn")), 0)
    with pytest.raises(UserError, match=r"^latents have shape \(1, 2, 3\) and their shares"):
        decoder.greedy(Given.of(np.zeros((1, 2, 3))))
