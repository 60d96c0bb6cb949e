"""A SavedModel through TensorFlow's C API: no Python answers a request."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from export import c_api, verify
from export.cases import Case
from export.endpoint import NOTHING_MORE
from tests.export.served import LENGTHS, SEED, request, served
from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError

LIBRARY = Path(tf.__file__).with_name(c_api.LIBRARY)
ONES = np.ones(4, np.float32)
pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason=f"no {LIBRARY}")


def answered(folder: Path, *asked: tuple[str, dict[str, Any]]) -> tuple[Any, Any]:
    """Answers by `<number>.<output>`, and errors, of requests to the model of the tests."""
    requests = {
        f"{number}.{signature}.{name}": value
        for number, (signature, inputs) in enumerate(asked)
        for name, value in inputs.items()
    }
    np.savez(folder / "requests.npz", **requests)  # type: ignore[arg-type]
    path = str(served().path)
    (folder / "tensors.json").write_text(json.dumps(verify.graph_tensors(path)))
    arguments = [path, str(folder), str(LIBRARY), ":".join(filter(None, sys.path))]
    subprocess.run([sys.executable, "-I", c_api.__file__, *arguments], check=True)
    with np.load(folder / "answers.npz") as arrays:
        return dict(arrays), json.loads((folder / "errors.json").read_text())


def test_it_answers_and_refuses_as_the_python_loader_does(tmp_path: Path) -> None:
    one = served()
    right = request(one)
    wrong = {**right, "lengths": LENGTHS + 1}
    cold = {"num_steps": LENGTHS, "seed": SEED, "temperature": -ONES}
    flat = {**right, "x": right["x"][0]}
    answers, errors = answered(
        tmp_path, ("score", right), ("score", wrong), ("generate", cold), ("score", flat),
        ("score", right),
    )  # fmt: skip
    for name, value in one.ask("score", **right).items():
        for number in (0, 4):  # it goes on after refusals
            np.testing.assert_allclose(answers[f"{number}.{name}"], value, rtol=1e-6)
    assert sorted(errors) == ["1", "2", "3"]
    assert {code for code, _ in errors.values()} == {3}  # INVALID_ARGUMENT
    assert "lengths[0] is 6; x has 5 steps: give 1 to 5" in errors["1"][1]
    assert "temperature[0] is -1; give a finite number, 0 or more" in errors["2"][1]


def test_a_stream_through_it(tmp_path: Path) -> None:
    one = served()
    state = one.ask("initial_state", session=np.arange(4))
    inputs = {"x": request(one)["x"][:, 0], "seed": SEED, "temperature": ONES, **state}
    answers, errors = answered(tmp_path, ("step", inputs))
    assert errors == {}
    for name, value in one.ask("step", **inputs).items():
        np.testing.assert_allclose(answers[f"0.{name}"], value, rtol=1e-5, atol=1e-6)


def expected() -> verify.Expectations:
    one = served()
    x = request(one)["x"]
    split = Split("validation", x.reshape(-1, x.shape[-1]), np.full(4, 5, np.int32))
    return verify.expectations(one.model, one.listing, split, NOTHING_MORE)


def test_a_refusal_where_an_answer_was_expected_ends_the_verification(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = expected()
    ask = verify._ask

    def only_the_server_refuses(script: Any, where: str, arguments: list[str]) -> None:
        ask(script, where, arguments)
        if script is c_api:
            Path(arguments[1], "errors.json").write_text('{"0": [3, "no\\nmore"]}')

    monkeypatch.setattr(verify, "_ask", only_the_server_refuses)
    sentence = r"loaded as a server does, refuses a batch to score \(no\); nothing was exported"
    with pytest.raises(UserError, match=sentence):
        verify.verify(served().path, found)


def test_without_the_library_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(c_api, "LIBRARY", "libnone.so")
    with caplog.at_level(logging.WARNING):
        verify.verify(served().path, expected())
    assert "libnone.so is not there: not verified by the C++ loader of a server" in caplog.text


def test_cases_of_any_kind_have_arrays_that_it_takes() -> None:
    kinds = {value.dtype.name for case in expected().cases for value in case.inputs.values()}
    assert kinds <= set(c_api._CODES) and isinstance(expected().cases[0], Case)
