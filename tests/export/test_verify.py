"""The process with TensorFlow alone, and what it takes to fail in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from export import bare_process, verify
from export.verify import Expectations, expectations
from tests import model_factory
from tests.export.served import served
from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError

ask = verify._ask
MODEL = ("bernoulli", "zforcing", "float32")


def split(emission: str = "bernoulli", lengths: tuple[int, ...] = (4, 1, 300, 9)) -> Split:
    frames = model_factory.frames(emission, sum(lengths))
    return Split("validation", frames, np.array(lengths, np.int32))


@pytest.fixture(scope="module")
def expected() -> Expectations:
    one = served(*MODEL)
    return expectations(one.model, one.listing, split())


def in_this_process(script: ModuleType, where: str, arguments: list[str]) -> None:
    """Stands for the process with TensorFlow alone, which takes seconds to start."""
    if script is not bare_process:
        ask(script, where, arguments)
        return
    modules, path = dict(sys.modules), list(sys.meta_path)
    hidden = [name for name in sys.modules if name.partition(".")[0] in bare_process.HIDDEN]
    try:
        for name in hidden:
            del sys.modules[name]
        bare_process.main(*arguments, "")
    finally:
        sys.meta_path[:] = path
        sys.modules.update(modules)


def test_a_sound_model_passes_in_a_bare_process(expected):
    verify.verify(served(*MODEL).path, expected)


def test_nothing_of_ours_can_be_imported_there():
    assert all(map(importlib.util.find_spec, bare_process.HIDDEN))  # each is to be had here
    root = Path(__file__).resolve().parents[2]
    program = f"""
import importlib, runpy, sys
sys.path += {[path for path in sys.path if path] + [str(root)]}
bare = runpy.run_path({bare_process.__file__!r})
assert importlib.util.find_spec("zforcing_tf")
bare["hide"]()
for name in (*bare["HIDDEN"], "zforcing_tf.models"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error.name)
import json
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*bare_process.HIDDEN, "zforcing_tf"]


def test_a_model_that_imports_ours_is_not_let_through(expected, monkeypatch):
    monkeypatch.setattr(verify, "_ask", in_this_process)
    # As if what loads the model had imported it behind the finders' back.
    monkeypatch.setattr(bare_process, "hide", lambda: sys.modules.update(keras=sys))
    with pytest.raises(ImportError, match="the SavedModel imported keras"):
        verify.verify(served(*MODEL).path, expected)


def test_requests_are_of_the_split(expected):
    sequences = [case for case in expected.cases if case.signature == "score"]
    batch = sequences[0].inputs
    # By length; each second row cut to half of it, the longest to what is asked at most.
    assert batch["lengths"].tolist() == [1, 4, 5, verify.LONGEST]
    data = split()
    x, _ = data.padded([1, 0, 3, 2])
    np.testing.assert_array_equal(batch["x"], x[:, : verify.LONGEST])
    assert batch["x"][2, 5:9].any()  # real frames stand in the padding
    assert [case.name for case in sequences] == [
        "a batch",
        "the same batch again",
        "the batch with other padding",
        "row 0 alone",
        "row 3 alone",
    ]
    assert np.isnan(sequences[2].inputs["x"][0, 1:]).all()
    assert sequences[4].inputs["x"].shape == (1, verify.LONGEST, model_factory.FRAME_SIZE)


def test_a_split_of_one_frame_is_enough():
    one = served("categorical", "zforcing", "mixed_bfloat16")
    found = expectations(one.model, one.listing, split("categorical", (1,)))
    assert {case.signature for case in found.cases} == {
        "score",
        "encode",
        "reconstruct",
        "generate",
        "continue",
        "initial_state",
        "step",
    }
    assert all(len(case.inputs["x"]) == 1 for case in found.cases if "x" in case.inputs)


def agree(cases: Iterable[verify.Case], answers: list[verify.Arrays], tolerance: float) -> bool:
    try:
        verify.compare(list(cases), answers, tolerance)
    except UserError:
        return False
    return True


def test_a_change_of_any_weight_is_seen(expected):
    """Each weight that the SavedModel holds, on its own."""
    one = served(*MODEL)
    answers = [one.ask(case.signature, **case.inputs) for case in expected.cases]
    assert agree(expected.cases, answers, 0.1 * expected.tolerance)
    model = model_factory.build("bernoulli", model="zforcing")
    batch = expected.cases[0].inputs
    for variable in (*model.cell.trainable_variables, *model.emission.trainable_variables):
        before = variable.numpy()
        variable.assign(before + 0.1)
        found = verify.cases(model, batch["x"], batch["lengths"])
        assert not agree(found, answers, 10 * expected.tolerance), variable.path
        variable.assign(before)
    found = verify.cases(model, batch["x"], batch["lengths"])
    assert agree(found, answers, expected.tolerance)


def test_few_rows_alone_may_be_drawn_otherwise(expected, caplog):
    """One rounding tips what is drawn in a row; more than that is no rounding."""
    flipping = [case for case in expected.cases if case.may_flip]
    assert {case.signature for case in flipping} == {"generate", "continue"}
    alone = [case for case in flipping if case.signature == "generate"]
    assert len(alone) == verify.ROWS
    answers = [dict(case.expected) for case in expected.cases]
    for flips in range(verify.ROWS + 1):
        assert agree(expected.cases, answers, 1e-4) == (flips <= verify.FLIPS)
        if flips < verify.ROWS:
            place = expected.cases.index(alone[flips])
            answers[place]["x"] = 1 - answers[place]["x"]
    assert "taken for a matter of rounding: " in caplog.text


def test_no_row_of_a_batch_may_be_drawn_otherwise(expected):
    answers = [dict(case.expected) for case in expected.cases]
    (place, *_) = [i for i, case in enumerate(expected.cases) if case.signature == "generate"]
    answers[place]["x"] = answers[place]["x"].copy()
    answers[place]["x"][0, 0, 0] = 1 - answers[place]["x"][0, 0, 0]
    assert not agree(expected.cases, answers, 1e-4)


def test_noise_that_does_not_follow_the_seed_is_seen(expected):
    """As if each row had the noise of its place in the batch: those alone all get that of row 0."""
    one = served(*MODEL)
    answers = []
    for case in expected.cases:
        seed = np.zeros((1, 2), np.int32) + [0, 3]  # of the first row, in `cases`
        inputs = {**case.inputs, "seed": seed.astype(np.int32)} if case.may_flip else case.inputs
        answers.append(one.ask(case.signature, **inputs))
    assert not agree(expected.cases, answers, expected.tolerance)


def disagreement(case: verify.Case, output: str, found: np.ndarray) -> str:
    with pytest.raises(UserError) as caught:
        verify._compare(case, output, found, case.expected[output], 1e-4)
    return str(caught.value)


def test_a_difference_is_named():
    elbo = np.array([-200.0, -10.0], np.float32)
    case = verify.Case("row 3 alone", "score", {}, {"elbo": elbo, "lengths": np.array([3, 4])})
    verify._compare(case, "elbo", elbo + np.float32(0.019), elbo, 1e-4)
    message = disagreement(case, "elbo", elbo + np.float32(0.5))
    assert message == (
        "the SavedModel does not answer as the Python model does (signature score, output elbo, "
        "row 3 alone): the largest difference is 0.5, and only 0.02 is rounding; nothing was "
        "exported: use the versions in requirements.txt, or report this"
    )
    assert "difference is nan" in disagreement(case, "elbo", elbo * np.float32(np.nan))
    assert "float32 [1] instead of float32 [2]" in disagreement(case, "elbo", elbo[:1])
    assert "float64 [2] instead of float32 [2]" in disagreement(case, "elbo", elbo.astype(float))
    assert "difference is 1, and only 0 is" in disagreement(case, "lengths", np.array([3, 5]))


def test_another_listing_is_refused(expected, monkeypatch):
    monkeypatch.setattr(verify, "_ask", in_this_process)
    listing = {**expected.listing, "step": {}}
    with pytest.raises(UserError, match="lists other signatures than were exported"):
        verify.verify(served(*MODEL).path, Expectations(listing, expected.cases, 1.0))


def test_a_model_that_does_not_load_is_refused_with_the_reason(expected, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(served(*MODEL).path, broken)
    (broken / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"fails in a process with TensorFlow alone \(.+\); nothing"
    ):
        verify.verify(broken, expected)


def test_a_model_whose_own_answers_are_not_finite_is_refused():
    one = served(*MODEL)
    model = model_factory.build("bernoulli", model="zforcing")
    model.emission.trainable_variables[0].assign_add(
        np.full(model.emission.trainable_variables[0].shape, np.nan)
    )
    with pytest.raises(UserError, match=r"own answer to score \(elbo\) is not finite"):
        expectations(model, one.listing, split())


def test_verification_leaves_nothing_behind(expected, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_ask", in_this_process)
    monkeypatch.setattr(verify.tempfile, "tempdir", str(tmp_path))
    before = sorted(os.walk(served(*MODEL).path))
    verify.verify(served(*MODEL).path, expected)
    assert not any(tmp_path.iterdir())
    assert sorted(os.walk(served(*MODEL).path)) == before
