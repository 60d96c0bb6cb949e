"""Wrong requests fail with a sentence that says what was wrong, where, and what to do."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf.errors import UserError
from zforcing_tf.requests import check_generation, checked

X = factory.batch()["x"]  # [3, 5, 3], lengths 5, 3, 1
LENGTHS = np.array(factory.LENGTHS, np.int32)
SYMBOLS = factory.batch("categorical")["x"]


@functools.cache
def model(emission: str = "bernoulli", name: str = "zforcing"):
    return factory.build(emission, model=name)


def changed(x: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    x = x.copy()
    x[place] = value
    return x


BAD_SEQUENCES = {
    "rank 2": (X[0], None, r"shape \(5, 3\); this model takes \[B, T, 3\]"),
    "rank 4": (X[None], None, r"shape \(1, 3, 5, 3\)"),
    "width": (X[..., :2], None, r"width 2; this model takes \[B, T, 3\]"),
    "no steps": (X[:, :0], None, "no steps"),
    "ragged": ([[[0, 0, 0]], [[0, 0, 0]] * 2], None, r"x is no rectangular array .*\[B, T, 3\]"),
    "None": (None, None, "x is no rectangular array"),
    "text": (np.full((1, 2, 3), "a"), None, "x holds string; give numbers"),
    "complex": (X.astype(complex), None, "x holds complex128; give numbers"),
    "NaN": (changed(X, (1, 2, 0), np.nan), LENGTHS, r"x\[1, 2, 0\] is nan, which is not finite"),
    "Inf": (changed(X, (0, 0, 1), np.inf), LENGTHS, r"x\[0, 0, 1\] is inf, which is not finite"),
    "beyond float32": (
        X.astype(np.float64) + 1e300,
        None,
        "is inf, which is not finite in float32",
    ),
    "not binary": (changed(X, (2, 0, 1), 1.5), None, r"x\[2, 0, 1\] is 1.5.* within 0 to 1"),
    "negative": (changed(X, (2, 0, 1), -1.0), None, r"x\[2, 0, 1\] is -1.0.* within 0 to 1"),
    "length 0": (X, [5, 0, 1], r"lengths\[1\] is 0; x has 5 steps: give 1 to 5"),
    "length 6": (X, [5, 3, 6], r"lengths\[2\] is 6; x has 5 steps: give 1 to 5"),
    "length -1": (X, [-1, 3, 1], r"lengths\[0\] is -1"),
    "length beyond int32": (X, np.array([2**32 + 1, 3, 1]), r"lengths\[0\] is 4294967297"),
    "lengths float": (X, [5.0, 3.0, 1.0], "lengths are float32; give whole numbers"),
    "lengths text": (X, ["5", "3", "1"], "lengths holds string"),
    "lengths None": (X, [None, 3, 1], "lengths is no rectangular array"),
    "one length": (X, 5, r"lengths have shape \(\); x has 3 rows"),
    "two lengths": (X, [5, 3], r"lengths have shape \(2,\); x has 3 rows"),
    "lengths in a column": (X, LENGTHS[:, None], r"lengths have shape \(3, 1\)"),
}
BAD_SYMBOLS = {
    "frames": (X, None, r"shape \(3, 5, 3\); this model takes \[B, T\] symbols"),
    "float": (SYMBOLS.astype(np.float32), None, "x is float32; .*int32"),
    "too large": (changed(SYMBOLS, (1, 2), 6), None, r"x\[1, 2\] is 6.* symbol of 0 to 5"),
    "negative": (changed(SYMBOLS, (0, 0), -1), None, r"x\[0, 0\] is -1.* symbol of 0 to 5"),
    "beyond int32": (SYMBOLS.astype(np.int64) + 2**32, None, r"x\[0, 0\] is 42949673\d\d"),
    "length": (SYMBOLS, [6, 3, 1], r"lengths\[0\] is 6"),
}


@pytest.mark.parametrize("method", ["score", "encode", "reconstruct"])
@pytest.mark.parametrize("case", BAD_SEQUENCES)
def test_bad_sequences(case, method):
    x, lengths, message = BAD_SEQUENCES[case]
    with pytest.raises(UserError, match=message):
        getattr(model(), method)(x, lengths)


@pytest.mark.parametrize("case", BAD_SYMBOLS)
def test_bad_symbols(case):
    x, lengths, message = BAD_SYMBOLS[case]
    with pytest.raises(UserError, match=message):
        model("categorical").score(x, lengths)


@pytest.mark.parametrize("case", ["rank 2", "width", "no steps", "NaN", "text"])
def test_bad_prefix(case):
    x, _, message = BAD_SEQUENCES[case]
    with pytest.raises(UserError, match=message):
        model().generate(2, prefix=x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6, -3.0])
def test_padding_may_hold_anything(value):
    clean, dirty = X.copy(), X.copy()
    for row, length in enumerate(LENGTHS):
        clean[row, length:], dirty[row, length:] = 0, value
    for ours, expected in zip(
        model().score(dirty, LENGTHS), model().score(clean, LENGTHS), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


def test_symbols_in_padding_may_be_anything():
    dirty = changed(SYMBOLS, (1, 4), 10**6)
    dirty = changed(dirty, (2, 1), -7)
    scores = model("categorical").score(dirty, LENGTHS)
    np.testing.assert_array_equal(scores.elbo, model("categorical").score(SYMBOLS, LENGTHS).elbo)


@pytest.mark.parametrize(
    ("x", "lengths"),
    [
        (X.tolist(), LENGTHS.tolist()),
        (X.astype(np.float64), LENGTHS.astype(np.int64)),
        (X.astype(np.float16), LENGTHS.astype(np.uint8)),
        (X.astype(np.int32), LENGTHS),
        (X > 0, LENGTHS),
        (tf.constant(X), tf.constant(LENGTHS)),
    ],
)
def test_numbers_of_any_type_are_taken(x, lengths):
    expected = model().score(X, LENGTHS).elbo
    np.testing.assert_array_equal(model().score(x, lengths).elbo, expected)


def test_all_steps_are_valid_by_default():
    expected = model().score(X, [5, 5, 5])
    np.testing.assert_array_equal(model().score(X).elbo, expected.elbo)


def test_probabilities_are_scored_by_expectation():
    """A frame of 0.25s has the mean log density of its roundings."""
    x = np.zeros((1, 1, 3), np.float32)
    rnn = model(name="rnn")
    low, middle, high = (rnn.score(x + v).log_prob_per_step for v in (0, 0.25, 1))
    np.testing.assert_allclose(middle, 0.75 * low + 0.25 * high, rtol=1e-5)


def test_no_rows():
    scores = model().score(X[:0], LENGTHS[:0])
    assert scores.elbo.shape == (0,) and scores.kl_per_step.shape == (0, 5)
    assert model().encode(X[:0], LENGTHS[:0]).latent.shape == (0, 5, 2)
    assert model().generate(4, 0).shape == (0, 4, 3)


def test_in_a_graph_known_shapes_are_checked():
    family, dtype = model().emission.family, tf.float32

    def trace(*shape: int | None) -> None:
        spec = tf.TensorSpec(shape, tf.float32)
        graph = tf.function(lambda x: checked(family, dtype, x, None), autograph=False)
        graph.get_concrete_function(spec)

    trace(None, None, 3)
    trace(None, None, None)
    for shape in ((None, 3), (None, None, 4), (None, 0, 3)):
        with pytest.raises(UserError):
            trace(*shape)


@pytest.mark.parametrize("method", ["score", "encode", "reconstruct"])
@pytest.mark.parametrize("seed", [0.5, "a", [1, 2], np.zeros((2, 2), np.int32)])
def test_bad_seed(method, seed):
    with pytest.raises(UserError, match="seed"):
        getattr(model(), method)(X, LENGTHS, seed)


BAD_GENERATION = {
    "no steps": ({"num_steps": 0}, "num_steps is 0; give a whole number, 1 or more"),
    "negative steps": ({"num_steps": -1}, "num_steps is -1"),
    "half a step": ({"num_steps": 2.5}, "num_steps is 2.5"),
    "negative number": ({"num_sequences": -1}, "num_sequences is -1; .* 0 or more"),
    "half a sequence": ({"num_sequences": 1.5}, "num_sequences is 1.5"),
    "cold": ({"temperature": -1.0}, "temperature is -1.0; give numbers of 0 or more"),
    "NaN": ({"temperature": np.nan}, "temperature is nan"),
    "hot": ({"temperature": np.inf}, "temperature is inf"),
    "text": ({"temperature": "hot"}, "temperature is hot"),
    "temperatures": ({"temperature": [1.0, 1.0, 1.0]}, r"temperature has shape \(3,\) for 2"),
}


@pytest.mark.parametrize("case", BAD_GENERATION)
def test_check_generation(case):
    values, message = BAD_GENERATION[case]
    request = {"num_steps": 2, "num_sequences": 2, "temperature": 1.0, **values}
    with pytest.raises(UserError, match=message):
        check_generation(**request, rows=2)


@pytest.mark.parametrize("case", BAD_GENERATION)
def test_bad_generation(case):
    values, message = BAD_GENERATION[case]
    with pytest.raises(UserError, match=message):
        model().generate(**{"num_steps": 2, "num_sequences": 2, **values})


def test_bad_seed_of_a_generation():
    for seed in (0.5, [1, 2], np.zeros((3, 3), np.int32)):
        with pytest.raises(UserError, match="seed"):
            model().generate(2, 3, seed=seed)
    with pytest.raises(UserError, match="seed has 2 rows, x has 3"):
        model().generate(2, prefix=X, seed=np.zeros((2, 2), np.int32))


def test_row_seeds_decide_the_number_of_sequences():
    assert model().generate(2, seed=np.zeros((4, 2), np.int32)).shape == (4, 2, 3)
    assert model().generate(2, temperature=[0.5], seed=[[1, 2]]).shape == (1, 2, 3)
