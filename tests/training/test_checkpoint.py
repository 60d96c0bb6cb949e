"""Checkpoints: complete or invisible, kept in number, and the way back from damage."""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError
from zforcing_tf.training.checkpoint import Checkpoints, Progress, load_model
from zforcing_tf.training.fit import compiled_model, fit

SPEC = DataSpec("linear_gaussian", "real", 3, 30, None)


@pytest.fixture
def checkpoints(experiment, tmp_path):
    """Three `last` checkpoints, two of them kept; weights are all 1, 2, 3 in turn."""
    model = compiled_model(experiment, SPEC)
    checkpoints = Checkpoints(tmp_path / "checkpoints", model, keep=2)
    for step in (1, 2, 3):
        fill(model, step)
        checkpoints.save("last", Progress(epoch=step, best_bound=-float(step), seconds=0.5))
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
    assert checkpoints.restore("last") == Progress(epoch=3, best_bound=-3.0, seconds=0.5)
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


def change_progress(path):
    file = path / "progress.json"
    file.write_text(file.read_text().replace('"epoch": 3', '"epoch": 4'))


DAMAGE = [
    truncate,
    flip,
    empty_index,
    lose_data,
    garble_progress,
    empty_folder,
    change_progress,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_falls_back_loudly(checkpoints, damage, caplog):
    damage(newest(checkpoints))
    assert checkpoints.restore("last").epoch == 2
    model = checkpoints._model
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        np.testing.assert_array_equal(variable, np.full(variable.shape, 2))
    assert "last-00000003 is damaged" in caplog.text


def test_checkpoints_of_earlier_versions_have_no_checksums(checkpoints, caplog):
    (newest(checkpoints) / "checksums.json").unlink()
    assert checkpoints.restore("last").epoch == 3
    assert caplog.text == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_room_on_the_disk(checkpoints, monkeypatch, wanted):
    """Two `last` ones are there; two `best` ones and one for the change are not."""
    variables = [*checkpoints._model.variables, *checkpoints._model.optimizer.variables]
    size = sum(v.value.shape.num_elements() * v.value.dtype.size for v in variables)
    free = int(3.7 * size) if wanted else int(3.5 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    if wanted:
        return checkpoints.check_room()
    with pytest.raises(UserError, match=r"has room for 0 MiB, .* a smaller --keep_checkpoints"):
        checkpoints.check_room()


def test_who_does_not_write_needs_no_room(checkpoints, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    Checkpoints(checkpoints.directory, checkpoints._model, 2, writes=False).check_room()


def test_a_damaged_one_is_put_aside(checkpoints):
    """Else it were the newest for ever, and sound ones would be removed as older."""
    truncate(newest(checkpoints))
    checkpoints.restore_weights("last")
    assert [path.name for path in checkpoints.paths("last")] == ["last-00000002", "last-00000003"]
    save_best(checkpoints, 2, 3)
    assert checkpoints.restore("last").epoch == 2
    assert [path.name for path in checkpoints.paths("last")] == ["last-00000002"]
    assert (checkpoints.directory / "last-00000003.damaged").is_dir()
    assert [path.name for path in checkpoints.paths("best")] == ["best-00000002"]
    assert checkpoints.restore("last").epoch == 2


def test_what_was_just_written_stays(checkpoints):
    """Even where an older training has left later ones."""
    checkpoints.keep = 1
    fill(checkpoints._model, 2)
    written = checkpoints.save("last", Progress(epoch=7))
    assert written in checkpoints.paths("last")


def test_all_damaged_is_an_error_that_says_what_to_do(checkpoints):
    for path in checkpoints.paths("last"):
        truncate(path)
    with pytest.raises(UserError) as caught:
        checkpoints.restore("last")
    assert str(caught.value) == (
        f"no checkpoint in {checkpoints.directory} can be read (2 of the kind 'last' tried, the "
        "reasons stand above); restore one from a copy, or train again in another --run_dir"
    )


def save_best(checkpoints, *steps):
    for step in steps:
        fill(checkpoints._model, step)
        checkpoints.save("best", Progress(epoch=step, best_epoch=step))


def test_a_damaged_best_one_falls_back_too(checkpoints, caplog):
    save_best(checkpoints, 1, 2, 3)
    names = [path.name for path in checkpoints.paths("best")]
    assert names == ["best-00000002", "best-00000003"]
    truncate(checkpoints.paths("best")[-1])
    assert checkpoints.restore_weights("best").best_epoch == 2
    assert int(checkpoints._model.step_counter) == 2
    assert "best-00000003 is damaged" in caplog.text
    truncate(checkpoints.paths("best")[0])
    with pytest.raises(UserError, match="or use the last one with --checkpoint=last, or train"):
        checkpoints.restore_weights("best")


def test_results_are_of_the_epoch_that_could_be_read(experiment, changed):
    experiment = changed(experiment, train_epochs=3)
    found = fit(experiment)
    checkpoints = Path(experiment.run.run_dir) / "checkpoints"
    names = sorted(path.name for path in checkpoints.glob("best-*"))
    assert found["best_epoch"] == 3 and names == ["best-00000008", "best-00000012"]
    truncate(checkpoints / names[-1])
    again = fit(experiment)
    assert (again["best_epoch"], again["step"]) == (2, 8)


def test_one_that_vanishes_is_not_called_damaged(checkpoints, monkeypatch, caplog):
    """A training that goes on replaces checkpoints while others read them."""
    paths, calls = Checkpoints.paths, []

    def outdated(self, kind):
        calls.append(kind)
        return paths(self, kind) if len(calls) > 1 else [self.directory / "last-00000001"]

    monkeypatch.setattr(Checkpoints, "paths", outdated)
    assert checkpoints.restore_weights("last").epoch == 3
    assert caplog.text == ""


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(8))
def test_a_complete_one_is_there_whenever_a_process_is_killed(checkpoints, monkeypatch, moment):
    """A step is saved again, as after a resumption; from some moment on nothing more happens."""
    for old in checkpoints.paths("last")[:-1]:
        shutil.rmtree(old)
    done = []

    def until_killed(function):
        def called(*arguments, **options):
            if len(done) == moment:
                raise Killed
            done.append(function)
            return function(*arguments, **options)

        return called

    fill(checkpoints._model, 4)
    checkpoints._model.step_counter.assign(3)
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        for module, name in ((os, "rename"), (shutil, "rmtree")):
            patch.setattr(module, name, until_killed(getattr(module, name)))
        checkpoints.save("last", Progress(epoch=4))
    reader = Checkpoints(checkpoints.directory, checkpoints._model)
    assert reader.restore_weights("last").epoch in (3, 4)
    assert reader.restore("last").epoch in (3, 4)
    assert float(checkpoints._model.trainable_variables[0].numpy().flat[0]) in (3, 4)
    checkpoints.save("last", Progress(epoch=5))
    assert os.listdir(checkpoints.directory) == ["last-00000003"]
    assert checkpoints.restore("last").epoch == 5


def test_all_is_on_the_disk_before_it_gets_its_name(checkpoints, monkeypatch):
    happened, fsync, rename = [], os.fsync, os.rename

    def flushed(descriptor):
        happened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(source, target):
        happened.append(f"-> {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    path = checkpoints.save("best", Progress(epoch=4))
    now = happened.index(f"-> {path.name}")
    files = {file.name for file in path.iterdir()}
    assert len(files) >= 3
    assert files | {f".partial-{path.name}"} == set(happened[:now])
    assert happened[now + 1] == checkpoints.directory.name


def test_steps_are_ordered_as_numbers(checkpoints):
    for step in (99_999_999, 100_000_000):
        checkpoints._model.step_counter.assign(step)
        checkpoints.save("last", Progress(epoch=step))
    assert checkpoints.restore("last").epoch == 100_000_000


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
