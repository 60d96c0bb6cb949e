"""A training that is killed at random moments ends as if nothing had happened (R1, R2, R3)."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.conftest import (
    STEPS_PER_EPOCH,
    Start,
    assert_same_run,
    finish,
    finish_workers,
)

EPOCHS = f"--train_epochs={60 // STEPS_PER_EPOCH}"
StartWorkers = Callable[..., "list[subprocess.Popen[str]]"]


def newest_step(run: Path) -> int:
    """Of the checkpoints that are there."""
    steps = [int(path.name[5:13]) for path in run.glob("checkpoints/last-*")]
    return max(steps, default=0)


def wait_for_step(run: Path, step: int, processes: list[subprocess.Popen[str]]) -> None:
    """Until a checkpoint of that step or a later one is there, and one that was not before."""
    until = time.monotonic() + 120
    step = max(step, newest_step(run) + 1)
    while newest_step(run) < step:
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        time.sleep(0.001)


def moments(count: int, seed: int) -> list[int]:
    """Steps of a training of 60 at which it is disturbed."""
    return sorted(random.Random(seed).sample(range(2, 56), count))


@pytest.mark.parametrize(
    "kills",
    [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.reliability)],
)
def test_kills_change_nothing(start: Start, tmp_path: Path, kills: int) -> None:
    """A checkpoint is written every two steps, each of a few milliseconds: kills hit all stages."""
    run, through = tmp_path / "run", tmp_path / "through"
    undisturbed = start(through, EPOCHS)
    chance = random.Random(kills)
    for step in moments(kills, seed=kills):
        process = start(run, EPOCHS)
        wait_for_step(run, step, [process])
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    output, _ = finish(start(run, EPOCHS))
    assert f"resuming {run} after " in output
    finish(undisturbed)
    assert_same_run(run, through)


@pytest.mark.reliability
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_change_nothing(
    start: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run, through, epochs = tmp_path / "run", tmp_path / "through", "--train_epochs=60"
    undisturbed = start(through, epochs)
    for step in moments(3, seed=code):
        process = start(run, epochs)
        wait_for_step(run, step, [process])
        process.send_signal(number)
        output, error = finish(process, code)
        assert "the same command goes on from the checkpoint" in output
        assert error.startswith("\nstopping after this step")
    finish(start(run, epochs))
    finish(undisturbed)
    assert_same_run(run, through)


@pytest.mark.reliability
def test_a_worker_is_killed(start_workers: StartWorkers, tmp_path: Path) -> None:
    """The other one ends with a sentence; started again, both go on as if nothing had happened."""
    run, through = tmp_path / "run", tmp_path / "through"
    for step, victim in zip(moments(3, seed=3), (1, 0, 1), strict=True):
        workers = start_workers(run, EPOCHS)
        wait_for_step(run, step, workers)
        workers[victim].kill()
        assert workers[victim].wait() == -signal.SIGKILL
        survivor = workers[1 - victim]
        # Where TensorFlow's own threads find out first, they end the process for us.
        assert survivor.wait(timeout=120) in (75, -signal.SIGABRT)
    finish_workers(start_workers(run, EPOCHS))
    finish_workers(start_workers(through, EPOCHS))
    assert_same_run(run, through)


@pytest.mark.reliability
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_worker_ends_both(
    start_workers: StartWorkers, tmp_path: Path, told: int
) -> None:
    run, through = tmp_path / "run", tmp_path / "through"
    workers = start_workers(run, EPOCHS)
    wait_for_step(run, 21, workers)
    workers[told].send_signal(signal.SIGTERM)
    finish_workers(workers, 143)
    assert 21 <= newest_step(run) < 60
    finish_workers(start_workers(run, EPOCHS))
    finish_workers(start_workers(through, EPOCHS))
    assert_same_run(run, through)
