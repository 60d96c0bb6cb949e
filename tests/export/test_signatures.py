"""What SavedModels answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export import checks, verify
from export.saved_model import summary
from tests import model_factory
from tests.export.served import LENGTHS, SEED, distance, request, served
from tests.slowly import slow_unless
from zforcing_tf.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "bernoulli.txt"
MODELS = [
    ("bernoulli", "rnn", "float32"),
    ("bernoulli", "full", "float32"),
    ("gaussian", "rnn", "float64"),
    ("gaussian", "layer_norm", "float32"),
    ("gaussian_mixture", "rnn", "mixed_bfloat16"),
    ("gaussian_mixture", "zforcing", "float64"),
    ("discretised_logistic_mixture", "autoregressive", "float32"),
    ("categorical", "rnn", "float32"),
    ("categorical", "zforcing", "mixed_bfloat16"),
]
SYMBOLIC = MODELS[-1]
_SOON = [MODELS[1], MODELS[6], MODELS[8]]
"""Each kind of data, precision and optional part; `make slow` has all."""
each_model = pytest.mark.parametrize(
    "model",
    [slow_unless(model in _SOON, model, id=":".join(model)) for model in MODELS],
)
ONES = np.ones(4, np.float32)


def test_signatures_are_the_golden_ones():
    assert summary(served().listing) + "\n" == GOLDEN.read_text()


@each_model
def test_listing_is_what_a_reader_finds(model):
    one = served(*model)
    assert one.exported == one.listing
    assert one.listing["serving_default"] == one.listing["score"]
    outputs = [spec for side in one.listing.values() for spec in side["outputs"].values()]
    float_type = "float64" if "float64" in model else "float32"
    assert {spec["dtype"] for spec in outputs} <= {float_type, "int32", "int64"}


@each_model
def test_answers_are_those_of_the_python_model(model):
    """In a batch, in the same again, alone, and whatever padding holds."""
    one = served(*model)
    inputs = request(one)
    tolerance = {"float32": 1e-5, "float64": 1e-12, "mixed_bfloat16": 0.05}[model[2]]
    seen = set()
    for case in verify.cases(one.model, inputs["x"], LENGTHS):
        assert distance(case, one.ask(case.signature, **case.inputs)) <= tolerance, case
        seen.add(case.signature)
    assert seen == set(one.signatures) - {"serving_default"}


@each_model
def test_padding_of_any_kind_changes_no_bit(model):
    one = served(*model)
    inputs = request(one)
    x = inputs["x"]
    padding = np.arange(5) >= LENGTHS[:, None]
    for signature in ("score", "encode", "reconstruct"):
        reference = one.ask(signature, **inputs)
        junk = [-1, 10**6] if x.dtype == np.int32 else [np.nan, np.inf, 1e6]
        for fill in [*(x.dtype.type(value) for value in junk), x[:, :1]]:
            other = np.where(padding.reshape(4, 5, *[1] * (x.ndim - 2)), fill, x)
            answer = one.ask(signature, **{**inputs, "x": other})
            for name, value in reference.items():
                np.testing.assert_array_equal(answer[name], value)
                if value.ndim > 1:
                    assert not value[padding].any()


@each_model
def test_generates_as_many_frames_as_each_row_wants(model):
    one = served(*model)
    answer = one.ask("generate", num_steps=LENGTHS, seed=SEED, temperature=ONES)
    np.testing.assert_array_equal(answer["lengths"], LENGTHS)
    frame = () if "categorical" in model else (model_factory.FRAME_SIZE,)
    assert answer["x"].shape == (4, 5, *frame)
    assert not answer["x"][np.arange(5) >= LENGTHS[:, None]].any()
    again = one.ask("generate", num_steps=LENGTHS, seed=SEED, temperature=ONES)
    np.testing.assert_array_equal(again["x"], answer["x"])
    longer = one.ask("generate", num_steps=LENGTHS + 9, seed=SEED, temperature=ONES)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(longer["x"][row, :length], answer["x"][row, :length], atol=1e-6)


@each_model
def test_chance_is_in_the_seed_and_the_temperature(model):
    one = served(*model)
    num_steps, same = np.full(4, 12, np.int32), np.tile(SEED[:1], (4, 1))
    warm = one.ask("generate", num_steps=num_steps, seed=SEED, temperature=ONES)["x"]
    assert np.any(warm[0] != warm[1])
    rows = one.ask("generate", num_steps=num_steps, seed=same, temperature=ONES)["x"]
    np.testing.assert_allclose(rows, np.broadcast_to(rows[:1], rows.shape), rtol=1e-5, atol=1e-5)
    cold = one.ask("generate", num_steps=num_steps, seed=SEED, temperature=0 * ONES)["x"]
    np.testing.assert_allclose(cold, np.broadcast_to(cold[:1], cold.shape), rtol=1e-5, atol=1e-5)
    assert np.any(warm != cold)


def test_symbols_are_reconstructed_as_probabilities():
    one = served(*SYMBOLIC)
    x_mean = one.ask("reconstruct", **request(one))["x_mean"]
    assert x_mean.shape == (4, 5, model_factory.VOCABULARY)
    assert x_mean.min() >= 0
    total = (np.arange(5) < LENGTHS[:, None]).astype(float)
    np.testing.assert_allclose(x_mean.sum(-1), total, atol=1e-6)


def test_the_seed_moves_latents_by_its_noise_alone():
    one = served()
    inputs = request(one)
    answers = one.ask("encode", **inputs)
    other = one.ask("encode", **{**inputs, "seed": SEED + 1})
    np.testing.assert_array_equal(
        answers["latent_loc"][:, 0], other["latent_loc"][:, 0]
    )  # the first posterior has no latent before it
    assert np.all(answers["latent"][:, 0] != other["latent"][:, 0])


def test_what_only_training_needs_stays_behind():
    one = served()
    assert one.model.auxiliary is not None
    assert one.model.backward_emission is not None
    expected = [tuple(v.shape) for p in (one.model.cell, one.model.emission) for v in p.variables]
    stored = tf.train.list_variables(str(one.path / "variables" / "variables"))
    shapes = [tuple(shape) for name, shape in stored if name.startswith("weights/")]
    assert sorted(shapes) == sorted(expected)
    assert len(stored) == len(expected) + 1  # and TensorFlow's own description of the objects


X = np.zeros((2, 4, model_factory.FRAME_SIZE), np.float32)
SYMBOLS = np.zeros((2, 4), np.int32)
GOOD = {"lengths": np.array([4, 2], np.int32), "seed": SEED[:2]}


def changed(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"lengths": np.array([4, 5], np.int32)},
         "lengths[1] is 5; x has 4 steps: give 1 to 4"),
        ({"lengths": np.array([0, 2], np.int32)},
         "lengths[0] is 0; x has 4 steps: give 1 to 4"),
        ({"lengths": np.array([4, -3], np.int32)},
         "lengths[1] is -3; x has 4 steps: give 1 to 4"),
        ({"lengths": np.array([4], np.int32)},
         "lengths has 1 rows and x has 2; give one to each row"),
        ({"seed": SEED[:3]}, "seed has 3 rows and x has 2; give one to each row"),
        ({"seed": SEED[:2, :1]},
         "Shape of tensor seed [2,1] is not compatible with expected shape [?,2]"),
        ({"x": X[:0], "lengths": GOOD["lengths"][:0], "seed": SEED[:0]},
         "x has no rows; send one sequence at least"),
        ({"x": X[:, :0]}, "x has no steps; a sequence needs one at least"),
        ({"x": X[..., :2]},
         "Shape of tensor x [2,4,2] is not compatible with expected shape [?,?,3]"),
        ({"x": X[0]}, "Shape of tensor x [4,3] is not compatible with expected shape [?,?,3]"),
        ({"x": changed(X, (1, 1, 2), np.nan)},
         "x[1, 1] holds a number that is not finite: [0 0 nan]; give finite ones"),
        ({"x": changed(X, (0, 3, 0), -np.inf)},
         "x[0, 3] holds a number that is not finite: [-inf 0 0]; give finite ones"),
        ({"x": changed(X, (1, 0, 1), 7)}, "x[1, 0] holds a number outside of 0 to 1: [0 7 0]"),
        ({"x": changed(X, (0, 3, 2), -0.5)},
         "x[0, 3] holds a number outside of 0 to 1: [0 0 -0.5]"),
        ({"x": changed(changed(X, (0, 0, 0), 7), (1, 1, 2), np.nan)},
         "x[1, 1] holds a number that is not finite: [0 0 nan]; give finite ones"),
    ],
)  # fmt: skip
def test_wrong_sequences_are_answered_with_a_sentence(wrong, sentence):
    assert sentence in served().refusal("score", **{"x": X, **GOOD, **wrong})


def test_both_sides_refuse_the_same_frames():
    """A number that the family has no density for; in the padding it is nobody's concern."""
    one, outside = served(), changed(X, (1, 1, 0), 7)
    with pytest.raises(UserError, match="not within 0 to 1"):
        one.model.score(outside, **GOOD)
    one.refusal("score", x=outside, **GOOD)
    in_padding = changed(X, (1, 3, 0), 7)
    answer = one.ask("score", x=in_padding, **GOOD)["elbo"]
    np.testing.assert_allclose(answer, one.model.score(in_padding, **GOOD).elbo, rtol=1e-5)
    unlimited = served("gaussian", "layer_norm")
    assert np.isfinite(unlimited.ask("score", x=outside, **GOOD)["elbo"]).all()


@pytest.mark.parametrize("signature", ["serving_default", "encode", "reconstruct"])
def test_each_signature_checks_its_sequences(signature):
    message = served().refusal(signature, **{"x": X, **GOOD, "lengths": np.array([4, 5], np.int32)})
    assert "lengths[1] is 5; x has 4 steps: give 1 to 4" in message


@pytest.mark.parametrize("symbol", [-1, model_factory.VOCABULARY])
def test_symbols_out_of_range_are_named_unless_in_the_padding(symbol):
    one = served(*SYMBOLIC)
    message = one.refusal("score", x=changed(SYMBOLS, (1, 1), symbol), **GOOD)
    assert f"x[1, 1] is {symbol}; give symbols of 0 to 5" in message
    one.ask("score", x=changed(SYMBOLS, (1, 2), symbol), **GOOD)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_steps": np.array([3, 0], np.int32)}, "num_steps[1] is 0; give 1 or more"),
        ({"num_steps": np.array([-2, 1], np.int32)}, "num_steps[0] is -2; give 1 or more"),
        ({"num_steps": np.array([1, 50_001], np.int32)},
         "num_steps asks for 100002 frames (rows times the longest); "
         f"one request gives {checks.MOST_FRAMES} at most: send several"),
        ({"num_steps": np.array([2**31 - 1, 1], np.int32)}, "asks for 4294967294 frames"),
        ({"num_steps": np.array([3], np.int32)},
         "seed has 2 rows and num_steps has 1; give one to each row"),
        ({"temperature": ONES[:1]},
         "temperature has 1 rows and num_steps has 2; give one to each row"),
        ({"temperature": np.array([1, -0.5], np.float32)},
         "temperature[1] is -0.5; give a finite number, 0 or more"),
        ({"temperature": np.array([np.nan, 1], np.float32)},
         "temperature[0] is nan; give a finite number, 0 or more"),
        ({"temperature": np.array([np.inf, 1], np.float32)},
         "temperature[0] is inf; give a finite number, 0 or more"),
        ({"num_steps": LENGTHS[:0], "seed": SEED[:0], "temperature": ONES[:0]},
         "num_steps has no rows; ask for one sequence at least"),
        ({"seed": SEED[0]}, "Shape of tensor seed [2] is not compatible with expected shape [?,2]"),
    ],
)  # fmt: skip
def test_wrong_wishes_are_answered_with_a_sentence(wrong, sentence):
    right = {"num_steps": LENGTHS[:2], "seed": SEED[:2], "temperature": ONES[:2]}
    assert sentence in served().refusal("generate", **{**right, **wrong})


def test_answers_go_on_after_a_refusal():
    one = served()
    before = one.ask("score", x=X, **GOOD)["elbo"]
    one.refusal("score", x=changed(X, (0, 0, 0), np.nan), **GOOD)
    np.testing.assert_array_equal(one.ask("score", x=X, **GOOD)["elbo"], before)
