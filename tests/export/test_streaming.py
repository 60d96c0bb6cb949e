"""Streams and continuations as SavedModels answer them, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from export.cases import Arrays
from export.streaming import fingerprint
from tests import model_factory
from tests.export.served import LENGTHS, SEED, Served, request, served
from tests.slowly import slow_unless

ONES = np.ones(4, np.float32)
SESSIONS = np.arange(4, dtype=np.int64)
MODELS = [
    ("bernoulli", "full", "float32"),
    ("gaussian", "rnn", "float64"),
    ("gaussian_mixture", "srnn_gru", "float32"),
    ("categorical", "vrnn", "float32"),
]
each_model = pytest.mark.parametrize(
    "model", [slow_unless(model in MODELS[::3], model, id=":".join(model)) for model in MODELS]
)


def state_of(answer: Arrays) -> Arrays:
    return {name: value for name, value in answer.items() if name.startswith("state_")}


def streamed(one: Served, frames: np.ndarray) -> list[Arrays]:
    """What `step` says of frames [4, T, ...], one after the other."""
    answers = []
    state = one.ask("initial_state", session=SESSIONS)
    for t in range(frames.shape[1]):
        answers.append(one.ask("step", x=frames[:, t], seed=SEED, temperature=ONES, **state))
        state = state_of(answers[-1])
    return answers


@each_model
def test_a_stream_that_is_sent_its_own_samples_is_what_generate_gives(
    model: tuple[str, str, str],
) -> None:
    one = served(*model)
    wanted = {"num_steps": np.full(4, 6, np.int32), "seed": SEED, "temperature": ONES}
    frames = one.ask("generate", **wanted)["x"]
    for t, answer in enumerate(streamed(one, frames)[:-1]):
        np.testing.assert_allclose(answer["x_sample"], frames[:, t + 1], rtol=1e-4, atol=1e-4)
        assert answer["state_step"].tolist() == [t + 1] * 4


def test_a_frame_that_is_improbable_is_said_to_be() -> None:
    one = served("gaussian", "rnn", "float64")
    frames = model_factory.frames("gaussian", 4, 3).astype(np.float64)
    usual = streamed(one, frames)[2]["log_prob"]
    frames[1, 2] += 20
    unusual = streamed(one, frames)[2]["log_prob"]
    assert unusual[1] < usual[1] - 10
    np.testing.assert_array_equal(unusual[[0, 2, 3]], usual[[0, 2, 3]])


@each_model
def test_a_continuation_goes_on_from_the_end_of_each_row(model: tuple[str, str, str]) -> None:
    one = served(*model)
    wanted = {"num_steps": np.array([3, 1, 2, 4], np.int32), "temperature": ONES}
    together = one.ask("continue", **request(one), **wanted)
    assert together["lengths"].tolist() == [3, 1, 2, 4]
    padded = request(one)
    junk = -1 if padded["x"].dtype == np.int32 else np.nan
    padded["x"][np.arange(5) >= LENGTHS[:, None]] = junk
    np.testing.assert_array_equal(one.ask("continue", **padded, **wanted)["x"], together["x"])
    for row, length in enumerate(LENGTHS):
        alone = {name: value[row : row + 1] for name, value in {**request(one), **wanted}.items()}
        alone["x"] = alone["x"][:, :length]
        found, steps = one.ask("continue", **alone)["x"], wanted["num_steps"][row]
        np.testing.assert_allclose(found[0], together["x"][row, :steps], rtol=1e-4, atol=1e-4)


def test_the_fingerprint_follows_each_weight() -> None:
    one, same, other = (model_factory.build("gaussian", seed, model="vrnn") for seed in (1, 1, 2))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    weight = same.emission.trainable_variables[-1]
    weight.assign(weight + 1e-6)
    assert fingerprint(one) != fingerprint(same)
    assert 0 <= fingerprint(one) < 2**63


def good() -> Arrays:
    one = served()
    state = one.ask("initial_state", session=SESSIONS)
    return {"x": request(one)["x"][:, 0], "seed": SEED, "temperature": ONES, **state}


def changed(array: np.ndarray, place: tuple[int, ...] | int, value: float) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        ("state_model", 2, 17,
         "state_model[2] is not that of this model; begin anew with initial_state"),
        ("state_step", 1, -1, "state_step[1] is -1, which no stream has; begin anew"),
        ("state_step", 3, 2**31 - 1, "state_step[3] is 2147483647, which no stream has"),
        ("state_h", (0, 3), np.nan,
         "state_h[0] holds a number that is not finite; begin anew with initial_state"),
        ("state_features", (3, 0), np.inf, "state_features[3] holds a number that is not finite"),
        ("x", (1, 2), np.nan, "x[1, 0] holds a number that is not finite: [0 0 nan]"),
        ("x", (1, 2), 3, "x[1, 0] holds a number outside of 0 to 1: "),
        ("temperature", 0, -1, "temperature[0] is -1; give a finite number, 0 or more"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_named(
    name: str, place: tuple[int, ...] | int, value: float, sentence: str
) -> None:
    inputs = good()
    inputs["x"] = np.zeros_like(inputs["x"])
    refused = served().refusal("step", **{**inputs, name: changed(inputs[name], place, value)})
    assert sentence in refused


@pytest.mark.parametrize("name", ["seed", "temperature", "state_model", "state_h", "state_x"])
def test_other_numbers_of_rows_are_named(name: str) -> None:
    inputs = good()
    refused = served().refusal("step", **{**inputs, name: inputs[name][:3]})
    assert f"{name} has 3 rows and x has 4; give one to each row" in refused


def test_a_state_of_another_model_is_refused() -> None:
    """One of the same sizes: nothing but its fingerprint tells."""
    other = served("gaussian", "layer_norm")
    state = served("gaussian", "zforcing").ask("initial_state", session=SESSIONS)
    x = model_factory.frames("gaussian", 4, 1)[:, 0]
    refused = other.refusal("step", x=x, seed=SEED, temperature=ONES, **state)
    assert "state_model[0] is not that of this model" in refused


def test_no_streams_at_all() -> None:
    one, inputs = served(), good()
    assert "session has no rows" in one.refusal("initial_state", session=SESSIONS[:0])
    none = {name: value[:0] for name, value in inputs.items()}
    assert "x has no rows; send one sequence at least" in one.refusal("step", **none)


def test_a_continuation_checks_what_it_goes_on_from() -> None:
    one = served()
    right = {**request(one), "num_steps": LENGTHS, "temperature": ONES}
    for wrong, sentence in [
        ({"lengths": LENGTHS + 1}, "lengths[0] is 6; x has 5 steps: give 1 to 5"),
        ({"num_steps": LENGTHS - 1}, "num_steps[3] is 0; give 1 or more"),
        ({"num_steps": LENGTHS[:3], "temperature": ONES[:3], "seed": SEED[:3]}, "seed has 3 rows"),
        ({"temperature": -ONES}, "temperature[0] is -1; give a finite number"),
    ]:
        assert sentence in one.refusal("continue", **{**right, **wrong})
