"""Training as a whole: what a run leaves, and that interruptions change nothing."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.slowly import slow_unless
from tests.training.runs import assert_same_run, finish, start, weights
from zforcing_tf.config import to_flags_text
from zforcing_tf.data import pipeline, registry
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.checkpoint import load_model
from zforcing_tf.training.fit import Stopped, _Training, compiled_model, fit
from zforcing_tf.training.history import History
from zforcing_tf.training.progress import StepCallback
from zforcing_tf.training.run_directory import RunDirectory


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


def test_the_validation_bound_is_the_one_that_chose_the_epoch(experiment, changed):
    experiment = changed(experiment, seed=3)
    results = fit(experiment)
    rows = History(Path(experiment.run.run_dir) / "history.csv").rows()
    best = rows[results["best_epoch"] - 1]
    for name in ("elbo", "nats_per_step", "kl_per_step"):
        expected = pytest.approx(best[f"validation_{name}"], rel=1e-5)
        assert results["validation"][name] == expected, name
    assert best["validation_elbo"] == max(row["validation_elbo"] for row in rows)
    assert (results["test"]["seed"], results["test"]["num_samples"]) == (3, 1)
    assert (results["test"]["checkpoint"], results["test"]["step"]) == ("best", results["step"])


def test_going_on_equals_going_through(experiment, changed, tmp_path):
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    fit(changed(experiment, train_epochs=1))
    fit(experiment)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)


@pytest.mark.parametrize(("enable_xla", "expected"), [("off", None), ("on", 8)])
def test_xla_sees_few_lengths(experiment, changed, monkeypatch, enable_xla, expected):
    """It compiles for each, which takes seconds; one copy of the data serves all epochs."""
    asked, gather = [], pipeline.gather

    def recorded(split, num_lengths=None):
        if split.name == "train":
            asked.append(num_lengths)
        return gather(split, num_lengths)

    monkeypatch.setattr(pipeline, "gather", recorded)
    experiment = changed(experiment, enable_xla=enable_xla)
    dataset = registry.load(experiment.data)
    run = RunDirectory(experiment.run.run_dir)
    run.open_for_training(experiment)
    _Training(experiment, dataset, compiled_model(experiment, dataset.spec), run)
    assert asked == [expected]


def test_a_finished_run_is_left_as_it_is(experiment):
    first = fit(experiment)
    before = weights(experiment.run.run_dir)
    assert fit(experiment)["test"] == first["test"]
    assert first["protocol"] == "whole sequences"
    for a, b in zip(before, weights(experiment.run.run_dir), strict=True):
        np.testing.assert_array_equal(a, b)


def stop_at(monkeypatch, *steps):
    """Sends the process a signal after each of these training steps."""
    end = StepCallback.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step_counter.numpy()) in steps:
            signal.raise_signal(signal.SIGTERM)
        end(self, batch, logs)

    monkeypatch.setattr(StepCallback, "on_train_batch_end", on_train_batch_end)


def with_an_overflow(monkeypatch):
    """A sequence of the training data makes each update that sees it overflow."""
    load = registry.load

    def loaded(*arguments):
        dataset = load(*arguments)
        dataset.train.values[123, 1] = 1e30
        return dataset

    monkeypatch.setattr(registry, "load", loaded)


@pytest.mark.slow
def test_interruptions_anywhere_change_nothing(experiment, changed, tmp_path, monkeypatch):
    """Four steps an epoch, stopped three times in the second: each row, and the skipped updates."""
    with_an_overflow(monkeypatch)
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    stop_at(monkeypatch, 5, 6, 7)
    for batch in (1, 2, 3):
        with pytest.raises(Stopped) as caught:
            fit(experiment)
        assert caught.value.exit_code == 143
        (last,) = (Path(experiment.run.run_dir) / "checkpoints").glob(f"last-{4 + batch:08d}")
        assert json.loads((last / "progress.json").read_text())["batch"] == batch
    fit(experiment)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)
    rows = History(Path(experiment.run.run_dir) / "history.csv").rows()
    assert [row["train_skipped_updates"] for row in rows] == [1.0, 1.0]


@pytest.mark.parametrize(
    "steps_per_execution", [slow_unless(steps == 3, steps) for steps in (2, 3, 100)]
)
def test_several_steps_an_execution_change_nothing(
    experiment, changed, tmp_path, monkeypatch, steps_per_execution
):
    """Four batches an epoch: dividing it, not dividing it, beyond it; and with an overflow."""
    with_an_overflow(monkeypatch)
    one = changed(experiment, run_dir=str(tmp_path / "one"))
    fit(one)
    fit(changed(experiment, steps_per_execution=steps_per_execution))
    assert_same_run(experiment.run.run_dir, one.run.run_dir)
    results = [RunDirectory(run).read_results() for run in (one.run.run_dir, tmp_path / "run")]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.slow
def test_an_execution_that_a_signal_ends_is_counted_whole(
    experiment, changed, tmp_path, monkeypatch
):
    """Stopped after batch 1 and, resumed in groups of two from there, after batches 2 and 3."""
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        fit(experiment)
    monkeypatch.undo()
    stop_at(monkeypatch, 7)
    grouped = changed(experiment, steps_per_execution=2)
    with pytest.raises(Stopped):
        fit(grouped)
    (last,) = (Path(experiment.run.run_dir) / "checkpoints").glob("last-00000007")
    assert json.loads((last / "progress.json").read_text())["batch"] == 3
    fit(grouped)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)


@pytest.mark.slow
def test_an_interruption_on_two_replicas(experiment, changed, tmp_path, monkeypatch):
    """Sums are put back as each replica's share; equal to rounding."""
    experiment = changed(experiment, distribution_strategy="mirrored", num_gpus=0)
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    stop_at(monkeypatch, 6)
    with pytest.raises(Stopped):
        fit(experiment)
    fit(experiment)
    rows, expected = (
        History(Path(config.run.run_dir) / "history.csv").rows() for config in (experiment, through)
    )
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["off", "mirrored"])
@pytest.mark.parametrize("where", ["last step", "before validation", "in validation"])
def test_a_signal_around_validation_leaves_only_that_to_do(
    experiment, changed, tmp_path, monkeypatch, where, strategy
):
    """The epoch's training is kept; validation, which may take long, is not waited for."""
    averaged = dataclasses.replace(experiment.optimizer, ema_momentum=0.9)
    experiment = dataclasses.replace(experiment, optimizer=averaged)
    experiment = changed(experiment, distribution_strategy=strategy, eval_batch_size=64)
    through = changed(experiment, run_dir=str(tmp_path / "through"))
    fit(through)
    with monkeypatch.context() as patched:
        batches, end = [], StepCallback.on_test_batch_end
        if where == "last step":
            stop_at(patched, 4)
        if where == "before validation":
            evaluate = SequenceModel.evaluate

            def signalled(self, *arguments, **options):
                signal.raise_signal(signal.SIGTERM)
                return evaluate(self, *arguments, **options)

            patched.setattr(SequenceModel, "evaluate", signalled)

        def on_test_batch_end(self, batch, logs=None):
            batches.append(batch)
            if where == "in validation" and batch == 1:
                signal.raise_signal(signal.SIGTERM)
            end(self, batch, logs)

        patched.setattr(StepCallback, "on_test_batch_end", on_test_batch_end)
        with pytest.raises(Stopped) as caught:
            fit(experiment)
    assert caught.value.exit_code == 143
    assert batches == {"last step": [], "before validation": [0], "in validation": [0, 1]}[where]
    run = Path(experiment.run.run_dir)
    (last,) = (run / "checkpoints").glob("last-*")
    progress = json.loads((last / "progress.json").read_text())
    assert (last.name, progress["epoch"], progress["batch"]) == ("last-00000004", 0, 4)
    assert not (run / "history.csv").exists()
    fit(experiment)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3, 4, 6])
def test_a_run_goes_on_after_its_updates_were_skipped(experiment, changed, monkeypatch, limit):
    """It ended within an epoch of four batches, with the epoch, or within the next."""
    experiment = changed(experiment, max_skipped_updates=limit)
    with monkeypatch.context() as patched:
        load = registry.load

        def loaded(*arguments):
            dataset = load(*arguments)
            dataset.train.values[:] = 1e30
            return dataset

        patched.setattr(registry, "load", loaded)
        with pytest.raises(UserError, match=f"the last {limit} updates were skipped, as the bound"):
            fit(experiment)
        # The sum of data.json notices other data, and so has to see the same.
        again = changed(experiment, max_skipped_updates=0)
        found = fit(again)
    assert found["epochs"] == 2
    rows = History(Path(experiment.run.run_dir) / "history.csv").rows()
    assert [row["train_skipped_updates"] for row in rows] == [4.0, 4.0]


WAIT_AFTER_STEP_6 = """
import time
from zforcing_tf import train
from zforcing_tf.training.progress import StepCallback
from zforcing_tf.training.run_directory import RunDirectory

end = StepCallback.on_train_batch_end

def on_train_batch_end(self, batch, logs=None):
    if int(self.model.step_counter.numpy()) == 6:
        print("step 6", flush=True)
        while self._interruption.received is None:
            time.sleep(0.01)
    end(self, batch, logs)

StepCallback.on_train_batch_end = on_train_batch_end
train.run()
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [slow_unless(True, signal.SIGTERM, 143), slow_unless(False, signal.SIGINT, 130)],
)
def test_a_signal_leaves_a_checkpoint_and_nothing_changes(experiment, tmp_path, number, code):
    """A real signal to a real process in the middle of the second epoch; then bit-equal."""
    run, through = Path(experiment.run.run_dir), tmp_path / "through"
    flags = tmp_path / "flags.txt"
    flags.write_text(to_flags_text(experiment))
    process = start("-c", WAIT_AFTER_STEP_6, f"--flagfile={flags}")
    assert process.stdout.readline().startswith("epoch 1/2")
    assert process.stdout.readline() == "step 6\n"
    process.send_signal(number)
    assert "the same command goes on" in finish(process, code)
    progress = json.loads((run / "checkpoints" / "last-00000006" / "progress.json").read_text())
    assert (progress["epoch"], progress["batch"]) == (1, 2)
    command = ("-m", "zforcing_tf.train", f"--flagfile={flags}")
    resumed, undisturbed = start(*command), start(*command, f"--run_dir={through}")
    assert f"resuming {run} after epoch 1, batch 2" in finish(resumed)
    finish(undisturbed)
    assert_same_run(run, through)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    """The step that is running would take a minute."""
    code = """
import time
from zforcing_tf.training.interruption import Interruption
with Interruption():
    print("running", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.1)
"""
    for first, second, expected in (
        (signal.SIGTERM, signal.SIGINT, 130),
        (signal.SIGINT, signal.SIGTERM, 143),
    ):
        process = start("-c", code)
        assert process.stdout.readline() == "running\n"
        began = time.monotonic()
        process.send_signal(first)
        process.stderr.readline()
        assert process.stderr.readline().startswith("stopping after this step; once more")
        assert process.poll() is None
        process.send_signal(second)
        process.communicate(timeout=30)
        assert process.returncode == expected
        assert time.monotonic() - began < 30


def test_a_second_signal_does_not_wait_for_a_call_to_return():
    """As into TensorFlow, within which Python runs no handler of its own."""
    code = """
import ctypes
from zforcing_tf import programs
from zforcing_tf.training.interruption import Interruption
def blocked():
    print("running", flush=True)
    for _ in range(6):  # a signal ends the sleep that is running
        ctypes.CDLL(None).sleep(20)
def main():
    %s
programs.run(main, ["program"])
"""
    for body in ("blocked()", "with Interruption(): blocked()"):
        process = start("-c", code % body.replace(": ", ":\n        "))
        assert process.stdout.readline() == "running\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 143
        assert time.monotonic() - began < 15


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
    model = dataclasses.replace(experiment.model, emission="discretised_logistic_mixture")
    with pytest.raises(UserError, match="not within -1 to 1, as --emission=discretised"):
        fit(dataclasses.replace(experiment, model=model))
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


@pytest.mark.parametrize(
    "unsound", [slow_unless(np.isnan(v), v) for v in (np.nan, np.inf, -np.inf)]
)
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
