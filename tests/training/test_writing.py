"""Disks that are full and places that cannot be written: one sentence, before the first step if
that can be known by then.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tests.limits import files_of_at_most
from zforcing_tf.config import to_flags_text
from zforcing_tf.data.registry import load
from zforcing_tf.errors import UserError
from zforcing_tf.training.checkpoint import Checkpoints, Progress, load_model
from zforcing_tf.training.fit import compiled_model, fit
from zforcing_tf.training.history import History
from zforcing_tf.training.run_directory import RunDirectory
from zforcing_tf.training.summaries import Summaries
from zforcing_tf.training.writing import GO_ON, writing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["checkpoints", "summaries", "samples"])
def test_a_file_where_a_folder_must_be(experiment, name):
    run = Path(experiment.run.run_dir)
    run.mkdir()
    (run / name).touch()
    with pytest.raises(UserError, match=rf"^{run / name} is a file; move it away, or give another"):
        fit(experiment)
    assert not (run / "config.json").exists()


@pytest.mark.parametrize("name", ["log.txt", "history.csv", "data.json", "flags.txt", ".lock"])
def test_a_folder_where_a_file_must_be(experiment, name):
    run = Path(experiment.run.run_dir)
    (run / name).mkdir(parents=True)
    with pytest.raises(UserError, match=rf"^cannot write {run / name}: Is a directory; mend that"):
        fit(experiment)
    assert not list(run.glob("checkpoints/*"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_summaries_that_cannot_be_made(experiment, split):
    summaries = Path(experiment.run.run_dir) / "summaries"
    summaries.mkdir(parents=True)
    (summaries / split).touch()
    with pytest.raises(UserError, match=rf"^cannot write {summaries}: .*ot a directory; mend that"):
        fit(experiment)


def test_a_disk_that_fills_up_during_training(experiment):
    """Nothing of the checkpoint that did not fit is left; what there was is still good."""
    with files_of_at_most(6000), pytest.raises(UserError) as caught:
        fit(experiment)
    checkpoints = Path(experiment.run.run_dir) / "checkpoints"
    assert str(caught.value).startswith(f"cannot write {checkpoints}: ")
    assert str(caught.value).endswith("File too large; " + GO_ON)
    assert list(checkpoints.iterdir()) == []
    assert fit(experiment)["epochs"] == 2


def test_summaries_on_a_full_disk(tmp_path):
    summaries = Summaries(tmp_path)
    values = {f"{'long' * 20}_{i}": 1.0 for i in range(500)}
    with files_of_at_most(6000), pytest.raises(UserError) as caught:
        for step in range(20):
            summaries.scalars("train", step, values)
        summaries.flush()
    assert str(caught.value).startswith(f"cannot write {tmp_path}")
    assert str(caught.value).endswith("File too large; " + GO_ON)


def test_a_history_on_a_full_disk_stays_as_it_was(tmp_path):
    history = History(tmp_path / "history.csv")
    history.append(1, 10, {"elbo": -1.5}, {"elbo": -2.5})
    before = history.rows()
    many = {f"metric_{i}": float(i) for i in range(1000)}
    with files_of_at_most(2000), pytest.raises(UserError, match="history.csv: File too large; "):
        history.append(2, 20, many, {})
    assert history.rows() == before
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_the_program_says_one_sentence(experiment, tmp_path):
    """A real process, and TensorFlow's own failure to write a checkpoint in it."""
    flags = tmp_path / "flags.txt"
    flags.write_text(to_flags_text(experiment))
    done = subprocess.run(
        [sys.executable, "-m", "zforcing_tf.train", f"--flagfile={flags}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write ")
    assert done.stderr.endswith(GO_ON + "\n") and done.stderr.count("\n") == 1


def test_errors_of_another_kind_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(UserError, match="Not a directory"), writing(tmp_path):
        raise NotADirectoryError(20, "Not a directory")
    with pytest.raises(UserError, match="InternalError; "), writing(tmp_path):
        raise tf.errors.InternalError(None, None, "")


def test_what_is_said_is_in_the_log(experiment, capsys):
    run = RunDirectory(experiment.run.run_dir)
    run.open_for_training(experiment)
    run.say("one\ntwo")
    run.say("three")
    assert run.log.read_text() == capsys.readouterr().out == "one\ntwo\nthree\n"


def test_a_checkpoint_that_fails_leaves_the_one_before(experiment):
    fit(experiment)
    step = load_model(experiment.run.run_dir, "last")[3]
    model = compiled_model(experiment, load(experiment.data).spec)
    checkpoints = Checkpoints(Path(experiment.run.run_dir) / "checkpoints", model)
    model.step_counter.assign(step + 1)
    with files_of_at_most(6000), pytest.raises(tf.errors.OpError):
        checkpoints.save("last", Progress(epoch=3))
    assert load_model(experiment.run.run_dir, "last")[3] == step
