"""Checkpoints: complete or invisible, kept in number, and the way back from damage."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError
from zforcing_tf.training.checkpoint import Checkpoints, Progress, load_model
from zforcing_tf.training.fit import compiled_model

SPEC = DataSpec("linear_gaussian", "real", 3, 30, None)


@pytest.fixture
def checkpoints(experiment, tmp_path):
    """Three `last` checkpoints, two of them kept; weights are all 1, 2, 3 in turn."""
    model = compiled_model(experiment, SPEC)
    checkpoints = Checkpoints(tmp_path / "checkpoints", model, keep=2)
    for step in (1, 2, 3):
        fill(model, step)
        checkpoints.save("last", Progress(epoch=step, best_elbo=-float(step), seconds=0.5))
    fill(model, 9)
    return checkpoints


def fill(model, value):
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        variable.assign(np.full(variable.shape, value))
    model.step_counter.assign(value)


def newest(checkpoints):
    return checkpoints.paths("last")[-1]


def data_file(path):
    return next(path.glob("state.data-*"))


def test_restores_weights_optimizer_step_and_progress(checkpoints):
    assert checkpoints.restore("last") == Progress(epoch=3, best_elbo=-3.0, seconds=0.5)
    model = checkpoints._model
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        np.testing.assert_array_equal(variable, np.full(variable.shape, 3))
    assert int(model.step_counter) == 3


def test_keeps_as_many_as_asked(checkpoints):
    assert [path.name for path in checkpoints.paths("last")] == ["last-00000002", "last-00000003"]
    assert checkpoints.restore("best") is None


def truncate(path):
    file = data_file(path)
    os.truncate(file, file.stat().st_size // 2)


def flip(path):
    file = data_file(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def empty_index(path):
    (path / "state.index").write_bytes(b"")


def lose_data(path):
    data_file(path).unlink()


def garble_progress(path):
    (path / "progress.json").write_text("{")


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()


DAMAGE = [truncate, flip, empty_index, lose_data, garble_progress, empty_folder]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_falls_back_loudly(checkpoints, damage, caplog):
    damage(newest(checkpoints))
    assert checkpoints.restore("last").epoch == 2
    model = checkpoints._model
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        np.testing.assert_array_equal(variable, np.full(variable.shape, 2))
    assert "last-00000003 is damaged" in caplog.text


def test_all_damaged_is_an_error_that_says_what_to_do(checkpoints):
    for path in checkpoints.paths("last"):
        truncate(path)
    with pytest.raises(UserError, match="2 tried.*restore the folder from a copy, or delete it"):
        checkpoints.restore("last")


def test_what_was_being_written_is_invisible_and_removed(checkpoints):
    partial = checkpoints.directory / ".partial-last-00000004"
    shutil.copytree(newest(checkpoints), partial)
    truncate(partial)
    assert checkpoints.restore("last").epoch == 3
    assert not partial.exists()


def test_a_failed_write_leaves_the_earlier_ones(checkpoints, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save("last", Progress(epoch=4))
    assert checkpoints.restore("last").epoch == 3


def test_a_checkpoint_of_other_sizes_is_an_error(checkpoints, experiment):
    model = dataclasses.replace(experiment.model, recurrent_size=7)
    other = compiled_model(dataclasses.replace(experiment, model=model), SPEC)
    with pytest.raises(UserError, match="no checkpoint in"):
        Checkpoints(checkpoints.directory, other).restore("last")


def test_load_model_without_a_run(tmp_path):
    with pytest.raises(UserError, match="no run at"):
        load_model(Path(tmp_path / "nothing"))
    with pytest.raises(UserError, match="give 'best' or 'last'"):
        load_model(Path(tmp_path), "newest")
