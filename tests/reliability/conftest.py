"""Trainings in real processes: what they are of, and how they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import launch_local_workers
from tests.training.runs import ROOT
from zforcing_tf.training.checkpoint import load_model
from zforcing_tf.training.history import History

LENGTHS = (7, 3, 5, 1, 6, 2, 7, 4)
STEPS_PER_EPOCH = 5
SETTINGS = (
    "--dataset=array",
    "--model=zforcing",
    "--recurrent_size=6",
    "--latent_size=2",
    "--embedding_size=4",
    "--hidden_size=5",
    "--dropout=0.1",
    "--kl_weight_start=0.2",
    "--kl_weight_step=0.05",
    "--auxiliary_weight_start=0.01",
    "--auxiliary_weight_end=0.01",
    "--batch_size=8",
    "--learning_rate=0.01",
    "--summary_samples=0",
    "--checkpoint_every_steps=2",
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 sequences of unlike lengths to train on: of a batch of 8 the last has 5."""
    return write_data(tmp_path_factory.mktemp("data") / "data.npz")


def write_data(path: Path, change: Callable[[np.ndarray], Any] = lambda x: None) -> Path:
    generator, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 37), ("valid", 9), ("test", 7)):
        lengths = np.array([LENGTHS[i % len(LENGTHS)] for i in range(count)], np.int32)
        x = generator.standard_normal((count, max(LENGTHS), 3)).astype(np.float32)
        if split == "train":
            change(x)
        arrays |= {split: x, f"{split}_lengths": lengths}
    np.savez(path, **arrays)
    return path


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(data: Path) -> Start:
    """Starts a training; flags given last win."""

    def starting(run_dir: Path, *flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "zforcing_tf.train", *SETTINGS,
                   f"--manual_dir={data}", f"--data_dir={data.parent / 'tfds'}",
                   f"--run_dir={run_dir}", *flags]  # fmt: skip
        return subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return starting


@pytest.fixture
def start_workers(data: Path) -> Callable[..., list[subprocess.Popen[str]]]:
    """Starts two workers of a training; `second` has flags for the second one alone."""

    def starting(
        run_dir: Path, *flags: str, second: tuple[str, ...] = ()
    ) -> list[subprocess.Popen[str]]:
        addresses = launch_local_workers.free_addresses(2)
        given = [*SETTINGS, f"--manual_dir={data}", f"--data_dir={data.parent / 'tfds'}",
                 f"--run_dir={run_dir}", *flags]  # fmt: skip
        return [
            launch_local_workers.start(i, addresses, [*given, *(second if i else ())])
            for i in range(2)
        ]

    return starting


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """What a process printed, and what it complained of, when it has ended with a code."""
    output, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    assert "Traceback" not in error
    return output, error


def finish_workers(workers: list[subprocess.Popen[str]], code: int = 0) -> None:
    for worker in workers:
        assert worker.wait(timeout=300) == code


def weights(run_dir: Path) -> list[np.ndarray]:
    return load_model(run_dir, "last")[0].get_weights()


def assert_same_run(one: Path, other: Path, tolerance: float = 0.0) -> None:
    """Weights and each number of the learning curves; without a tolerance to the last bit."""
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    rows, expected = (History(run / "history.csv").rows() for run in (one, other))
    assert len(rows) == len(expected)
    for row, right in zip(rows, expected, strict=True):
        assert row.keys() == right.keys()
        # Metrics add up in float32, each replica its own.
        for name, value in row.items():
            np.testing.assert_allclose(
                value, right[name], rtol=1e-5 * bool(tolerance), err_msg=name
            )
