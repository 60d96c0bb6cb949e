"""The folder of a run: made, resumed, refused, locked; results that survive two writers."""

import errno
import json
import os
import platform
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from zforcing_tf import config as configuration
from zforcing_tf.config import ExperimentConfig, ModelConfig, RunConfig
from zforcing_tf.errors import UserError
from zforcing_tf.training import json_files
from zforcing_tf.training.run_directory import RunDirectory

HOLD_LOCK = """
import sys, time
from zforcing_tf.training.run_directory import RunDirectory
with RunDirectory(sys.argv[1]).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def experiment(path: Path, *, train_epochs: int = 3, recurrent_size: int = 8) -> ExperimentConfig:
    return ExperimentConfig(
        model=ModelConfig(recurrent_size=recurrent_size),
        run=RunConfig(run_dir=str(path), train_epochs=train_epochs),
    )


def message(caught: pytest.ExceptionInfo[UserError]) -> str:
    return str(caught.value)


def test_a_new_run_writes_what_describes_it(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path / "a" / "b"), experiment(tmp_path / "a" / "b")
    assert run.open_for_training(config) is False
    assert run.open_for_reading() == config
    names = {path.name for path in run.path.iterdir()}
    described = {"config.json", "flags.txt", "environment.json", "log.txt"}
    assert names == described | {"checkpoints", "summaries", "samples"}
    values = flags.FlagValues()
    configuration.define_flags(flag_values=values)
    values(["program", f"--flagfile={run.flags}"])
    assert configuration.from_flags(values) == config
    environment = json.loads(run.environment.read_text())
    assert environment["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert environment["python"] == platform.python_version()
    assert environment["cpus"] == os.cpu_count()
    assert platform.node() not in (environment["platform"], "")


def test_the_same_experiment_is_resumed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.open_for_training(experiment(tmp_path)) is False
    run.environment.write_text("{}")
    assert run.open_for_training(experiment(tmp_path)) is True
    longer = experiment(tmp_path, train_epochs=5)
    assert run.open_for_training(longer) is True
    assert run.open_for_reading() == longer
    assert "--train_epochs=5\n" in run.flags.read_text()
    assert run.environment.read_text() == "{}"


def test_another_experiment_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path), experiment(tmp_path)
    run.open_for_training(config)
    before = run.flags.read_bytes(), run.config.read_bytes()
    with pytest.raises(UserError) as caught:
        run.open_for_training(experiment(tmp_path, recurrent_size=9, train_epochs=9))
    assert message(caught) == (
        f"{tmp_path} holds another experiment (recurrent_size: 8 -> 9); give another --run_dir, "
        f"or its own flags with --flagfile={tmp_path}/flags.txt"
    )
    assert (run.flags.read_bytes(), run.config.read_bytes()) == before


def test_a_start_that_was_killed_before_the_configuration_is_a_new_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    run.flags.write_text("--seed=")
    assert run.open_for_training(experiment(tmp_path)) is False


def test_checkpoints_without_a_configuration_are_not_trained_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    (run.checkpoints / "last").touch()
    with pytest.raises(UserError, match=r"holds checkpoints, but .*config\.json is missing; put"):
        run.open_for_training(experiment(tmp_path))


def test_reading_where_no_run_is(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        RunDirectory(tmp_path / "none").open_for_reading()
    path = tmp_path / "none"
    assert message(caught) == (
        f"no run at {path}; train one with python -m zforcing_tf.train --run_dir={path}"
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "it cannot be read"),
        ("", "it cannot be read"),
        ("[]", "it does not hold a JSON object"),
        ('{"model": {"depth": 1}}', r"unknown settings: model\.depth"),
        ('{"model": {"latent_size": -1}}', "--latent_size=-1 is not possible"),
    ],
)
def test_a_damaged_configuration(tmp_path: Path, text: str, reason: str) -> None:
    run = RunDirectory(tmp_path)
    run.config.write_text(text)
    for attempt in (run.open_for_reading, lambda: run.open_for_training(experiment(tmp_path))):
        with pytest.raises(UserError, match=rf"{run.config} cannot be used: {reason}"):
            attempt()
    assert run.config.read_text() == text


def test_paths_that_cannot_be_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--run_dir is empty; give the folder of the run"):
        RunDirectory("")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=rf"--run_dir={file} is a file; give a folder"):
        RunDirectory(file).open_for_training(experiment(file))
    below = file / "run"
    with pytest.raises(UserError) as caught, RunDirectory(below).lock():
        pass
    assert message(caught) == (
        f"cannot write {below}: Not a directory; mend that, or give another --run_dir"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}: Permission denied"):
        RunDirectory(tmp_path).open_for_training(experiment(tmp_path))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(tmp_path)
    run.write_results({"a": 1})

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*results\.json: No space left on device"):
        run.write_results({"a": 2})
    assert run.read_results() == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_results_are_merged_by_key(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_results() == {}
    run.write_results({"test": {"elbo": np.float32(-1.5)}, "epochs": 3})
    run.write_results({"test": {"kl": [np.int64(2), float("nan")], "bound": -np.inf}})
    assert run.read_results() == {"test": {"kl": [2, None], "bound": None}, "epochs": 3}


def test_a_damaged_results_file_is_not_overwritten(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.results.write_text("{")
    with pytest.raises(UserError, match=r"results\.json cannot be used: .*; move it away"):
        run.write_results({"a": 1})
    assert run.results.read_text() == "{"


def test_two_writers_lose_no_result(tmp_path: Path) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 10):
            RunDirectory(tmp_path).write_results({str(number): number})

    threads = [threading.Thread(target=write, args=(10 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RunDirectory(tmp_path).read_results() == {str(i): i for i in range(30)}


def test_one_process_trains_in_a_run_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
            run = RunDirectory(tmp_path / "run")
            with pytest.raises(UserError) as caught, run.lock():
                pass
            assert message(caught) == (
                f"process {holder.pid} is training in {run.path}; "
                "wait until it ends, or give another --run_dir"
            )
        finally:
            holder.kill()
    with run.lock():
        assert (run.path / ".lock").read_text() == f"{os.getpid()} {platform.node()}"
        (run.path / ".lock").write_text("17 another.host")
        with pytest.raises(UserError, match=r"^process 17 on another\.host is training in "):
            run.lock().__enter__()


def test_the_lock_ends_with_its_block_even_if_that_fails(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock(), pytest.raises(UserError, match=f"process {os.getpid()} is training"):
        run.lock().__enter__()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unknown)
    run = RunDirectory(tmp_path)
    with run.lock():
        run.write_results({"a": 1})
    assert run.read_results() == {"a": 1}


def test_home_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDirectory("~/run").path == tmp_path / "run"


def test_json_of_tensors(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    json_files.write_json(tmp_path / "x.json", {"a": tf.constant([1.5, 2.0]), "b": tf.constant(3)})
    assert json_files.read_json(tmp_path / "x.json") == {"a": [1.5, 2.0], "b": 3}
