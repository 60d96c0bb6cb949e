"""The program: what it writes, when it refuses, and what is there when it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export import bare_process, model_card, saved_model, signatures, verify, warmup
from export.saved_model import export
from tests import model_factory
from tests.export.conftest import STEP
from zforcing_tf import models
from zforcing_tf.data import registry
from zforcing_tf.errors import UserError
from zforcing_tf.training import checkpoint, durable
from zforcing_tf.training.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"float32": "DT_FLOAT", "int32": "DT_INT32", "int64": "DT_INT64"}
HOST = socket.gethostname()
ALWAYS = ["MODEL_CARD.md", "config.json", "data.json", "export.json", "signatures.json"]
VARIABLES = "variables/variables.data-00000-of-00001"


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, from another folder than the repository's."""
    return subprocess.run(
        [sys.executable, "-m", "export.saved_model", *arguments],
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TF_CPP", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def exported(
    run_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What the program wrote and said."""
    export_dir = tmp_path_factory.mktemp("exports") / "models" / "first"
    done = program(f"--run_dir={run_dir}", f"--export_dir={export_dir}")
    return export_dir, done


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the process that verifies, for tests of what lies around it."""
    monkeypatch.setattr(verify, "verify", lambda *_: None)


def test_the_program_writes_one_version_and_says_how_to_load_it(exported):
    export_dir, done = exported
    assert (done.returncode, done.stderr) == (0, "")
    path = export_dir / str(STEP)
    assert os.listdir(export_dir) == [str(STEP)]
    lines = done.stdout.splitlines()
    assert lines[0] == str(path)
    listing = json.loads((path / "assets.extra" / "signatures.json").read_text())
    assert saved_model.summary(listing) in done.stdout
    assert "score            lengths int32 [?], seed int32 [?, 2], x float32 [?, ?, 3]" in lines
    assert done.stdout.endswith(saved_model.snippet(path, listing, 30) + "\n")


def test_the_snippet_scores_with_tensorflow_alone(exported):
    export_dir, done = exported
    code = f"import runpy; runpy.run_path({bare_process.__file__!r})['hide']()\n"
    code += "\n".join(done.stdout.splitlines()[-5:])
    shown = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    score = tf.saved_model.load(str(export_dir / str(STEP))).signatures["score"]
    elbo = score(
        x=tf.zeros([2, 30, 3]), lengths=tf.fill([2], 30), seed=tf.constant([[0, 1], [0, 2]])
    )["elbo"]
    assert shown.stdout.startswith(f"tf.Tensor({elbo.numpy()}, shape=(2,), dtype=float32)")


def test_the_weights_are_those_of_the_best_epoch(run_dir, exported):
    export_dir, _ = exported
    stored = tf.train.load_checkpoint(str(export_dir / str(STEP) / "variables" / "variables"))
    config = RunDirectory(run_dir).open_for_reading()
    model = models.build(config, registry.load(config.data).spec)
    model_factory.randomise(model, seed=STEP)
    for i, variable in enumerate(signatures.serving_module(model)[0].weights):
        value = stored.get_tensor(f"weights/{i}/.ATTRIBUTES/VARIABLE_VALUE")
        np.testing.assert_array_equal(value, variable)


def test_what_the_run_was_goes_along(run_dir, exported):
    extra = exported[0] / str(STEP) / "assets.extra"
    for name in ("config.json", "data.json", "results.json"):
        assert (extra / name).read_text() == (run_dir / name).read_text()
    assert sorted(os.listdir(extra)) == sorted([*ALWAYS, "results.json", warmup.FILE])


def test_saved_model_cli_lists_the_signatures(exported):
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--all"]
    path = exported[0] / str(STEP)
    done = subprocess.run([*cli, "--dir", str(path)], capture_output=True, text=True, check=True)
    listing = json.loads((path / "assets.extra" / "signatures.json").read_text())
    shown = done.stdout.split("signature_def['")[1:]
    found = {part.partition("'")[0]: part for part in shown}
    assert set(found) - {"__saved_model_init_op"} == set(listing)
    for name, sides in listing.items():
        for side, word in (("inputs", "input"), ("outputs", "output")):
            for tensor, spec in sides[side].items():
                shape = ", ".join("-1" if size is None else str(size) for size in spec["shape"])
                kind = {"float32": "DT_FLOAT", "int32": "DT_INT32", "int64": "DT_INT64"}[
                    spec["dtype"]
                ]
                expected = f"{word}s['{tensor}'] tensor_info:\n        dtype: {kind}\n"
                expected += f"        shape: ({shape})\n"
                assert expected in found[name]


def test_a_version_that_exists_is_left_as_it_is(tmp_path, cheap):
    path = export("run", tmp_path)
    before = (path / VARIABLES).stat()
    with pytest.raises(UserError) as caught:
        export("run", tmp_path)
    assert str(caught.value) == (
        f"{path} exists already; give another number with --version, or remove that folder"
    )
    assert (path / VARIABLES).stat() == before
    assert export("run", tmp_path, version=7) == tmp_path / "7"
    assert sorted(os.listdir(tmp_path)) == [str(STEP), "7"]


def test_the_last_weights_can_be_exported_too(run_dir, exported, tmp_path, unverified):
    last = export(run_dir, tmp_path, "last")
    assert last == tmp_path / str(STEP + 1)
    best = exported[0] / str(STEP)
    assert (last / VARIABLES).read_bytes() != (best / VARIABLES).read_bytes()


def test_results_are_left_out_where_there_are_none(run_dir, tmp_path, cheap):
    bare = tmp_path / "run"
    shutil.copytree(run_dir, bare, ignore=shutil.ignore_patterns("results.json"))
    extra = export(bare, tmp_path / "exports") / "assets.extra"
    assert sorted(os.listdir(extra)) == sorted([*ALWAYS, warmup.FILE])


def test_a_changed_weight_is_found_and_nothing_appears(run_dir, tmp_path, monkeypatch):
    write = saved_model.write_model

    def wrong(module, signatures, path):
        module.weights[-1].assign_add(tf.fill(module.weights[-1].shape, 0.05))
        write(module, signatures, path)

    monkeypatch.setattr(saved_model, "write_model", wrong)
    with pytest.raises(UserError, match=r"signature score, output elbo, a batch\): the largest"):
        export(run_dir, tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, unverified: None) -> None:
    """Makes `export` quick: a model of one variable in place of the run's."""

    tiny = tf.Module()
    tiny.weights = [tf.Variable([1.0])]
    score = tf.function(
        lambda x: {"elbo": x * tiny.weights[0]},
        input_signature=[tf.TensorSpec((None,), name="x")],
        autograph=False,
    )
    served = tiny, {"score": score.get_concrete_function()}
    config = model_factory.experiment(dataset="linear_gaussian")
    spec = registry.load(config.data).spec
    monkeypatch.setattr(RunDirectory, "open_for_reading", lambda _: config)
    monkeypatch.setattr(checkpoint, "load_model", lambda *_: (None, config, spec, STEP))
    monkeypatch.setattr(signatures, "serving_module", lambda *_: served)
    expected = verify.Expectations({}, (), 0.0)
    monkeypatch.setattr(verify, "expectations", lambda *_: expected)


STAGES: list[tuple[object, str]] = [
    (saved_model, "write_model"),
    (saved_model, "_describe"),
    (model_card, "model_card"),
    (verify, "verify"),
    (warmup, "write_warmup"),
    (durable, "flush"),
    (os, "rename"),
]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("module", "name"), STAGES, ids=[name for _, name in STAGES])
def test_a_failure_at_any_stage_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cheap: None,
    module: object,
    name: str,
    when: str,
    error: type[BaseException],
) -> None:
    """With the rename the export is done; an error after it comes too late."""
    original: Callable[..., object] = getattr(module, name)
    reached = []

    def stopped(*arguments: object) -> None:
        reached.extend(path.name for path in tmp_path.iterdir())
        if when == "after":
            original(*arguments)
        raise error

    monkeypatch.setattr(module, name, stopped)
    with pytest.raises(error):
        export("run", tmp_path)
    assert reached == [f".staging-{STEP}-{HOST}-{os.getpid()}"]
    renamed = (name, when) == ("rename", "after")
    assert os.listdir(tmp_path) == ([str(STEP)] if renamed else [])


def test_a_killed_export_is_invisible_and_swept_up_by_the_next(run_dir, tmp_path, cheap):
    code = f"""
import time
from export import saved_model, verify
verify.verify = lambda *_: (print("staged", flush=True), time.sleep(300))
saved_model.export({str(run_dir)!r}, {str(tmp_path)!r})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "staged\n"
    staged = f".staging-{STEP}-{HOST}-{process.pid}"
    assert os.listdir(tmp_path) == [staged]
    export("run", tmp_path, version=1)
    assert sorted(os.listdir(tmp_path)) == [staged, "1"]  # it is running
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [staged, "1"]
    assert (tmp_path / staged / "saved_model.pb").exists()
    export("run", tmp_path, version=2)
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_only_folders_of_processes_that_ended_here_are_swept_up(tmp_path, cheap):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    kept = [
        f".staging-5-{HOST}-{os.getppid()}",
        f".staging-5-another.host-{finished.pid}",
        ".staging-mine",
        "notes",
    ]
    swept = [f".staging-5-{HOST}-{finished.pid}", f".staging-{STEP}-{HOST}-{os.getpid()}"]
    for name in kept + swept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    export("run", tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, str(STEP)])
    assert not (tmp_path / str(STEP) / "file").exists()


def test_a_version_that_appears_meanwhile_is_left_as_it_is(tmp_path, cheap, monkeypatch):
    def race(*_: object) -> None:
        (tmp_path / str(STEP)).mkdir()

    monkeypatch.setattr(verify, "verify", race)
    with pytest.raises(UserError, match="exists already"):
        export("run", tmp_path)
    assert os.listdir(tmp_path) == [str(STEP)]
    assert os.listdir(tmp_path / str(STEP)) == []


def test_folders_that_cannot_be_written_are_named(tmp_path, cheap, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot export to .*/file: .* --export_dir"):
        export("run", tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot export to .*/file/below: .*/file is no folder; "):
        export("run", tmp_path / "file" / "below")
    with pytest.raises(UserError, match="--export_dir is empty"):
        export("run", "")
    with pytest.raises(UserError, match="gs://bucket/model is not a local folder"):
        export("run", "gs://bucket/model")

    def full(*_: object, **__: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(UserError, match=r"cannot be written to .* \(No space left on device\)"):
        export("run", tmp_path / "full")
    assert os.listdir(tmp_path / "full") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--run_dir is empty; give the folder of a run, such as runs/first"),
        (["--run_dir=/none"],
         "--export_dir is empty; give the model's folder, such as exports/digits"),
        (["--run_dir=/none", "--export_dir=/tmp/none"],
         "no run at /none; train one with python -m zforcing_tf.train --run_dir=/none"),
        (["--version=-1"], "flag --version=-1: -1 is not an integer in the range "
         "[0, 9223372036854775807] (--help lists the flags)"),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_one_sentence(arguments, sentence):
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"error: {sentence}"
