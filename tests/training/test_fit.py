"""Training as a whole: what a run leaves, and that interruptions change nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zforcing_tf.config import to_flags_text
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.checkpoint import load_model
from zforcing_tf.training.fit import fit
from zforcing_tf.training.history import History


def weights(run_dir, which="last"):
    return load_model(run_dir, which)[0].get_weights()


def assert_same_run(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert History(Path(one) / "history.csv").rows() == History(Path(other) / "history.csv").rows()


def test_a_run_leaves_what_the_documentation_says(experiment, capsys):
    results = fit(experiment)
    run = Path(experiment.run.run_dir)
    for name in ("config.json", "flags.txt", "environment.json", "data.json", "log.txt"):
        assert (run / name).stat().st_size > 0
    assert json.loads((run / "results.json").read_text())["test"] == results["test"]
    assert results["epochs"] == 2
    assert results["step"] == 4 * results["best_epoch"]
    rows = History(run / "history.csv").rows()
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert rows[1]["validation_elbo"] > rows[0]["validation_elbo"]
    assert list((run / "summaries" / "validation").iterdir())
    assert capsys.readouterr().out.count("validation elbo") == 2
    model, config, spec, step = load_model(run)
    assert config == experiment
    assert spec.name == "linear_gaussian"
    assert step == results["step"]


def test_going_on_equals_going_through(experiment, changed, tmp_path):
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    fit(changed(experiment, train_epochs=1))
    fit(experiment)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)


def test_a_finished_run_is_left_as_it_is(experiment):
    first = fit(experiment)
    before = weights(experiment.run.run_dir)
    assert fit(experiment)["test"] == first["test"]
    for a, b in zip(before, weights(experiment.run.run_dir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_nothing_changes(
    experiment, changed, tmp_path, number, code
):
    """Stopped in the middle of an epoch by a real signal, then finished: bit-equal."""
    through = changed(experiment, run_dir=str(tmp_path / "through"), batch_size=10)
    flags = tmp_path / "flags.txt"
    flags.write_text(to_flags_text(changed(experiment, batch_size=10)))
    command = [sys.executable, "-m", "zforcing_tf.train", f"--flagfile={flags}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [*command, "--train_epochs=1000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("epoch    1/1000")
    time.sleep(0.2)
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "the same command goes on" in output
    assert "Traceback" not in error
    last = sorted((Path(experiment.run.run_dir) / "checkpoints").glob("last-*"))[-1]
    progress = json.loads((last / "progress.json").read_text())
    epochs = progress["epoch"] + 1
    done = subprocess.run(
        [*command, f"--train_epochs={epochs}"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    subprocess.run(
        [*command, f"--run_dir={through.run.run_dir}", f"--train_epochs={epochs}"],
        env=environment,
        check=True,
        capture_output=True,
    )
    for a, b in zip(weights(experiment.run.run_dir), weights(through.run.run_dir), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_experiment_is_refused_with_the_difference(experiment):
    fit(experiment)
    other = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, latent_size=3)
    )
    with pytest.raises(UserError, match=r"latent_size: 2 -> 3"):
        fit(other)


def test_bad_data_leaves_no_run_behind(experiment):
    data = dataclasses.replace(experiment.data, max_length=12)
    with pytest.raises(UserError, match="--max_length"):
        fit(dataclasses.replace(experiment, data=data))
    assert not Path(experiment.run.run_dir).exists()


def test_patience_ends_a_training(experiment, changed):
    tiny = dataclasses.replace(experiment.optimizer, learning_rate=1e-12)
    experiment = dataclasses.replace(
        changed(experiment, patience=2, train_epochs=50), optimizer=tiny
    )
    assert fit(experiment)["epochs"] < 50


def with_validation_bounds(monkeypatch, bounds):
    """Puts other bounds in the place of what validation finds, epoch by epoch."""
    bounds, evaluate = iter(bounds), SequenceModel.evaluate

    def found(self, *arguments, **options):
        return {**evaluate(self, *arguments, **options), "elbo": next(bounds)}

    monkeypatch.setattr(SequenceModel, "evaluate", found)


@pytest.mark.parametrize("unsound", [np.nan, np.inf, -np.inf])
def test_an_epoch_whose_bound_is_not_finite_is_never_the_best(
    experiment, changed, monkeypatch, caplog, unsound
):
    """Neither as the first, where nothing could be better any more, nor later."""
    with_validation_bounds(monkeypatch, [unsound, -50.0, unsound, -40.0, -45.0])
    results = fit(changed(experiment, train_epochs=5))
    assert results["best_epoch"] == 4
    assert "the validation bound of epoch 1 is" in caplog.text
    assert "the validation bound of epoch 3 is" in caplog.text
    assert "epoch 2 is" not in caplog.text


def test_a_run_without_any_finite_bound_says_so(experiment, monkeypatch):
    with_validation_bounds(monkeypatch, [np.nan, np.nan])
    with pytest.raises(UserError, match="no epoch of .* had a finite validation bound"):
        fit(experiment)


def test_history_drops_what_will_be_trained_again(tmp_path):
    history = History(tmp_path / "history.csv")
    for epoch in (1, 2, 3):
        history.append(epoch, 10 * epoch, {"elbo": -1.5}, {"elbo": -2.5})
    history.keep(2)
    assert [row["step"] for row in history.rows()] == [10.0, 20.0]
    assert history.rows()[0]["validation_elbo"] == -2.5
    history.keep(0)
    assert history.rows() == []
