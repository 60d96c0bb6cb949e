"""Replicas do not change the mathematics, and a run goes on with another number of them (R7)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.conftest import (
    Start,
    assert_same_run,
    finish,
    finish_workers,
    write_data,
)

WIDE = "--dtype=float64"  # where rounding leaves twelve digits, a mistake has nowhere to hide
EPOCHS = "--train_epochs=4"  # of five steps: four with 8 sequences, one with 5
TWO = ("--distribution_strategy=mirrored", "--num_logical_devices=2")
TOLERANCE = 1e-10
StartWorkers = Callable[..., "list[subprocess.Popen[str]]"]


def assert_same_results(one: Path, other: Path) -> None:
    """Those of the best epoch, which workers find together."""
    found, expected = (json.loads((run / "results.json").read_text()) for run in (one, other))
    for split in ("validation", "test"):
        assert found[split].keys() == expected[split].keys()
        for name, value in expected[split].items():
            if isinstance(value, float):
                np.testing.assert_allclose(found[split][name], value, rtol=1e-6, err_msg=name)
            else:
                assert found[split][name] == value, name


@pytest.mark.reliability
@pytest.mark.parametrize("bound", [(), ("--bound=fivo", "--num_samples=3")], ids=["elbo", "fivo"])
def test_devices_and_workers_are_one_device(
    start: Start, start_workers: StartWorkers, tmp_path: Path, bound: tuple[str, ...]
) -> None:
    """20 steps, unequal lengths, a last batch that does not divide."""
    one, devices, workers = (tmp_path / name for name in ("one", "devices", "workers"))
    flags = (WIDE, EPOCHS, *bound)
    processes = [start(one, *flags), start(devices, *flags, *TWO)]
    for process in processes:
        finish(process)
    finish_workers(start_workers(workers, *flags))
    for other in (devices, workers):
        assert_same_run(other, one, TOLERANCE)
        assert_same_results(other, one)


@pytest.mark.reliability
def test_a_share_may_be_empty(start_workers: StartWorkers, start: Start, tmp_path: Path) -> None:
    """The last batch has one sequence: 37 in batches of 9."""
    one, workers = tmp_path / "one", tmp_path / "workers"
    flags = (WIDE, "--train_epochs=2", "--batch_size=9", "--eval_batch_size=8")
    finish(start(one, *flags))
    finish_workers(start_workers(workers, *flags))
    assert_same_run(workers, one, TOLERANCE)
    assert_same_results(workers, one)


@pytest.mark.reliability
def test_a_run_goes_on_with_another_number_of_replicas(
    start: Start, start_workers: StartWorkers, tmp_path: Path
) -> None:
    """One device, two, two workers, one again: an epoch each."""
    run, through = tmp_path / "run", tmp_path / "through"
    finish(start(run, WIDE, "--train_epochs=1"))
    output, _ = finish(start(run, WIDE, "--train_epochs=2", *TWO))
    assert "resuming" in output
    finish_workers(start_workers(run, WIDE, "--train_epochs=3"))
    finish(start(run, WIDE, "--train_epochs=4"))
    finish(start(through, WIDE, EPOCHS))
    assert_same_run(run, through, TOLERANCE)


@pytest.mark.reliability
def test_workers_must_have_the_same(
    start_workers: StartWorkers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flags and folder; what is wrong shows before the first step, and once."""
    run = tmp_path / "run"
    other_data = f"--manual_dir={write_data(tmp_path / 'x.npz', other)}"
    for flag in ("--learning_rate=0.02", other_data):
        finish_workers(start_workers(run, "--train_epochs=1", second=(flag,)), 2)
    finish_workers(start_workers(run, "--train_epochs=1", second=(f"--run_dir={tmp_path}/b",)), 2)
    error = capfd.readouterr().err
    assert error.count("worker 0: error: worker 1 of 2 (counted from 0) cannot go on, and s") == 3
    assert "given other flags than the first one (learning_rate: 0.01 -> 0.02)" in error
    assert f"worker 1: error: {run} was trained on other data than is there now" in error
    assert f"worker 1: error: this worker does not see {tmp_path}/b/config.json, which" in error
    assert not list(run.glob("checkpoints/*"))
    finish_workers(start_workers(run, "--train_epochs=1"))
    log = (run / "log.txt").read_text()
    assert log.count("best epoch 1 of 1") == log.count("epoch 1/1") == 1


def other(x: np.ndarray) -> None:
    x += 1


@pytest.mark.reliability
def test_float16_goes_on_with_its_scale(start: Start, tmp_path: Path) -> None:
    """A scale is a state as well: equal to the last bit."""
    run, through = tmp_path / "run", tmp_path / "through"
    for epochs in (1, 4):
        finish(start(run, "--dtype=mixed_float16", f"--train_epochs={epochs}"))
    finish(start(through, "--dtype=mixed_float16", "--train_epochs=4"))
    assert_same_run(run, through)


@pytest.mark.reliability
def test_a_worker_without_an_address(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--distribution_strategy=multi_worker_mirrored")
    _, error = finish(process, 2)
    assert error.startswith(
        "error: --distribution_strategy=multi_worker_mirrored, but TF_CONFIG is not set; set it"
    )
