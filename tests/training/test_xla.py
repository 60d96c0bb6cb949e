"""What `--enable_xla=auto` chooses, that measuring changes nothing, and that the choice is kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import assert_same_run
from tests.training.test_fit import stop_at
from zforcing_tf.data import registry
from zforcing_tf.data.feed import Feed
from zforcing_tf.errors import UserError
from zforcing_tf.training import xla
from zforcing_tf.training.fit import Stopped, compiled_model, fit
from zforcing_tf.training.run_directory import RunDirectory
from zforcing_tf.training.xla import Times


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (Times(1000, 10.0), False),
        (Times(1000, 10.0, 4.0, 5.0, 1), True),  # 9.0 s, not 10
        (Times(1000, 10.0, 4.0, 3.0, 2), False),  # 10.0 s
        (Times(1000, 10.0, 9.8, 0.0, 1), False),  # a difference that clocks do not tell
        (Times(1000, 10.0, 20.0, 0.0, 1), False),
        (Times(1000_000, 10.0, 9.0, 50.0, 8), True),
    ],
)
def test_the_shorter_run_is_chosen_compilations_included(times, expected):
    assert times.enable_xla is expected


def test_the_choice_in_words():
    assert Times(1000, 10.0, 4.04, 3.5, 1).in_words() == (
        "XLA: on (10.0 ms a step without it, 4.0 with it after 3.5 s to compile, "
        "up to 1 times in 1000 steps)"
    )
    assert Times(90, 10.0).in_words().startswith("XLA: off (10.0 ms a step without it, so that 90")


@pytest.fixture
def clock(monkeypatch):
    """Makes XLA a hundred times quicker or slower than it is; counts what is measured."""

    def set_to(factor):
        measured = []

        def seconds(call):
            call()
            measured.append(call)
            return factor if call is not measured[0] else 1.0

        monkeypatch.setattr(xla, "_seconds", seconds)
        return measured

    return set_to


def test_a_short_run_does_not_try(experiment, changed, clock, capsys):
    measured = clock(0.01)
    fit(changed(experiment, enable_xla="auto", train_epochs=1))
    assert len({id(call) for call in measured}) == 1
    assert capsys.readouterr().out.startswith("XLA: off (1000.0 ms a step without it, so that 4 ")


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "form"), [(0.01, "on"), (100.0, "off")])
def test_auto_trains_as_what_it_chose(
    experiment, changed, tmp_path, monkeypatch, clock, factor, form
):
    """To the last bit, though it measures first; stopped in the second epoch and resumed."""
    explicit = changed(experiment, run_dir=str(tmp_path / "explicit"), enable_xla=form)
    fit(explicit)
    monkeypatch.setattr(xla, "SHORT_RUN", 0.0)
    measured = clock(factor)
    automatic = changed(experiment, enable_xla="auto")
    stop_at(monkeypatch, 6)
    with pytest.raises(Stopped):
        fit(automatic)
    kept = json.loads((Path(experiment.run.run_dir) / "xla.json").read_text())
    assert kept["enable_xla"] is (form == "on")
    assert kept["steps"] == 8 and kept["compilations"] == 2 * 8  # ragged, and a smaller last batch
    monkeypatch.undo()
    clock(1 / factor)  # would choose the other form
    count = len(measured)
    fit(automatic)
    assert len(measured) == count
    assert_same_run(experiment.run.run_dir, explicit.run.run_dir)


def test_measuring_changes_nothing(experiment, changed):
    experiment = changed(experiment, enable_xla="auto")
    dataset = registry.load(experiment.data)
    model = compiled_model(experiment, dataset.spec)
    before = [np.array(v) for v in model.variables + model.optimizer.variables]
    directory = RunDirectory(experiment.run.run_dir)
    feed = Feed(dataset.train, experiment.data, experiment.run)
    xla._measured(experiment.run, feed, model, directory)
    for old, new in zip(before, model.variables + model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_both_forms_are_measured_on_the_same_sequences(experiment):
    dataset = registry.load(experiment.data)
    feed = Feed(dataset.train, experiment.data, experiment.run)
    plain, rounded = (next(iter(xla._first_batches(feed, enabled))) for enabled in (False, True))
    np.testing.assert_array_equal(plain["lengths"], rounded["lengths"])
    assert rounded["x"].shape[1] >= plain["x"].shape[1]


@pytest.mark.slow
def test_two_replicas_do_without(experiment, changed, capsys):
    experiment = changed(
        experiment, enable_xla="auto", distribution_strategy="mirrored", train_epochs=1
    )
    fit(experiment)
    assert "XLA: off (auto measures graphs on one device only)" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", '{"enable_xla": 1}'])
def test_a_damaged_choice_is_not_made_again(tmp_path, text):
    run = RunDirectory(tmp_path)
    run.xla.write_text(text)
    with pytest.raises(UserError, match="xla.json cannot be used: .* or give --enable_xla and"):
        run.read_xla()
