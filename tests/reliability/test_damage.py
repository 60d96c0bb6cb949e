"""Damaged checkpoints, full disks, folders in use: nothing is lost, it is said (R3, R6, R14)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reliability.conftest import Start, assert_same_run, finish
from tests.reliability.test_kills import EPOCHS, newest_step, wait_for_step


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def deleted(path: Path) -> None:
    path.unlink()


FILES = ("state.index", "state.data-00000-of-00001", "progress.json", "checksums.json")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stopped") / "run"


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("through") / "run"


@pytest.mark.reliability
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [truncated, bit_flipped, deleted])
def test_a_damaged_checkpoint_falls_back_and_changes_nothing(
    start: Start,
    stopped: Path,
    through: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    file: str,
) -> None:
    if not through.exists():
        process = start(stopped, EPOCHS)
        wait_for_step(stopped, 30, [process])
        process.send_signal(signal.SIGTERM)
        finish(process, 143)
        finish(start(through, EPOCHS))
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    newest = run / "checkpoints" / f"last-{newest_step(run):08d}"
    damage(newest / file)
    _, error = finish(start(run, EPOCHS))
    if (damage, file) == (deleted, "checksums.json"):
        assert error == ""  # as of earlier versions, which wrote none
    else:
        assert f"{newest} is damaged (" in error and "trying the one before it" in error
    assert_same_run(run, through)


@pytest.mark.reliability
def test_two_processes_in_one_folder(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(run, "--train_epochs=100000")
    wait_for_step(run, 2, [first])
    _, error = finish(start(run, "--train_epochs=100000"), 2)
    assert error == (
        f"error: process {first.pid} is training in {run}; wait until it ends, or give another "
        "--run_dir\n"
    )
    _, error = finish(start(run, "--latent_size=3"), 2)
    first.send_signal(signal.SIGTERM)
    finish(first, 143)
    _, error = finish(start(run, "--latent_size=3"), 2)
    assert f"{run} holds another experiment (latent_size: 2 -> 3)" in error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB, which takes root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.reliability
def test_a_disk_that_is_too_small_is_found_before_the_first_step(
    start: Start, small_disk: Path
) -> None:
    run = small_disk / "run"
    output, error = finish(start(run, "--recurrent_size=64"), 2)
    assert error.startswith(f"error: {run}/checkpoints has room for 0 MiB, and the checkpoints of")
    assert "epoch " not in output
    assert newest_step(run) == 0
    finish(start(run, "--recurrent_size=64", "--train_epochs=1"), 2)
    finish(start(small_disk / "other", "--train_epochs=1", "--keep_checkpoints=1"), 0)


@pytest.mark.reliability
def test_folders_that_cannot_be_written(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/run")):
        output, error = finish(start(folder), 2)
        assert error.startswith("error: ") and str(folder) in error and error.count("\n") == 1
        assert output == ""
