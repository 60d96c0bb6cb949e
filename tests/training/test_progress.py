"""What a user sees while a model trains, and the profile of some steps."""

import dataclasses

import pytest
import tensorflow as tf

from tests.slowly import slow_unless
from zforcing_tf.data import registry
from zforcing_tf.training import progress
from zforcing_tf.training.fit import fit


@pytest.fixture
def profiler(monkeypatch):
    """Stands for TensorFlow's; tells when it was started and stopped, in training steps."""

    class Profiler:
        def __init__(self):
            self.happened, self.running, self.step = [], False, 0

        def start(self, folder):
            assert not self.running
            self.running = True
            self.happened.append(("start", self.step))

        def stop(self):
            assert self.running
            self.running = False
            self.happened.append(("stop", self.step))

    profiler, begin = Profiler(), progress.StepCallback.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        profiler.step = self._step
        begin(self, batch, logs)

    monkeypatch.setattr(progress.StepCallback, "on_train_batch_begin", on_train_batch_begin)
    monkeypatch.setattr(tf.profiler.experimental, "start", profiler.start)
    monkeypatch.setattr(tf.profiler.experimental, "stop", profiler.stop)
    return profiler


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        slow_unless(False, "2,3", [("start", 1), ("stop", 2)]),
        slow_unless(True, "3,6", [("start", 2), ("stop", 5)]),
        slow_unless(False, "4,4", [("start", 3), ("stop", 3)]),
        slow_unless(True, "7,100", [("start", 6), ("stop", 7)]),
        slow_unless(False, "9,10", []),
        slow_unless(True, "", []),
    ],
)
def test_a_profile_is_of_the_steps_asked_for(experiment, changed, profiler, steps, expected):
    """Four steps an epoch and two epochs: within one, over both, beyond the end."""
    fit(changed(experiment, profile_steps=steps))
    assert profiler.happened == expected
    assert not profiler.running


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        slow_unless(False, "2,3", [("start", 0), ("stop", 0)]),
        slow_unless(True, "4,6", [("start", 3), ("stop", 4)]),
        slow_unless(False, "9,10", []),
    ],
)
def test_a_profile_is_of_whole_executions(experiment, changed, profiler, steps, expected):
    """Three steps and one, in each of two epochs; noted is the first step of the execution."""
    fit(changed(experiment, profile_steps=steps, steps_per_execution=3))
    assert profiler.happened == expected
    assert not profiler.running


def test_a_training_that_begins_later_is_profiled_from_there(experiment, changed, profiler):
    fit(changed(experiment, train_epochs=1))
    fit(changed(experiment, profile_steps="2,6"))
    assert profiler.happened == [("start", 4), ("stop", 5)]


def test_a_profile_over_two_epochs_is_written(experiment, changed, tmp_path):
    """TensorFlow's own profiler."""
    fit(changed(experiment, profile_steps="4,5"))
    assert list((tmp_path / "run" / "summaries").glob("plugins/profile/*/*.xplane.pb"))


TRAIN = {"elbo": -80.1, "kl_per_step": 0.25}
VALIDATION = {"elbo": -81.5, "kl_per_step": 0.5}


@pytest.mark.parametrize(
    ("own", "best", "line"),
    [
        ({}, False,
         "epoch   7/100  train elbo   -80.100  kl   0.250  validation elbo   -81.500  kl   0.500"),
        ({"auxiliary_per_step": -5.6, "skipped_updates": 2.0}, True,
         "epoch   7/100  train elbo   -80.100  kl   0.250  auxiliary cost     5.60  "
         "skipped updates 2  validation elbo   -81.500  kl   0.500  best"),
        ({"skipped_updates": 0.0}, True,
         "epoch   7/100  train elbo   -80.100  kl   0.250  "
         "validation elbo   -81.500  kl   0.500  best"),
    ],
)  # fmt: skip
def test_the_line_of_an_epoch(own, best, line):
    """The auxiliary term is a log density; what is shown is the cost, lower is better."""
    assert progress.epoch_line(7, 100, {**TRAIN, **own}, VALIDATION, best) == line


def test_bounds_of_pieces_and_of_whole_sequences_are_shown_for_a_step():
    train, validation = ({**TRAIN, "nats_per_step": -2.0}, {**VALIDATION, "nats_per_step": -2.5})
    assert progress.epoch_line(7, 100, train, validation, best=False, per_step=True) == (
        "epoch   7/100  train elbo/step    -2.000  kl   0.250  "
        "validation elbo/step    -2.500  kl   0.500"
    )


@pytest.mark.parametrize(("terminal", "expected"), [(True, 1), (False, 0)])
def test_a_progress_bar_on_terminals_only(monkeypatch, terminal, expected):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert progress.verbosity() == expected


def test_what_was_left_out_is_said_once(experiment, changed, monkeypatch, capsys):
    load = registry.load
    skipped = tuple(f"{number}.wav: is empty" for number in range(12))

    def loaded(*arguments):
        return dataclasses.replace(load(*arguments), skipped=skipped, notes=("of a kind",))

    monkeypatch.setattr(registry, "load", loaded)
    fit(changed(experiment, train_epochs=1))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "of a kind"
    assert rest[:10] == [f"left out: {record}" for record in skipped[:10]]
    assert rest[10] == "left out: 2 more" and rest[11].startswith("epoch 1/1")
    fit(changed(experiment, train_epochs=2))
    assert "left out" not in capsys.readouterr().out
