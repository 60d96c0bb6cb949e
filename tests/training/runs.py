"""Trainings in processes of their own, and whether two runs are the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from zforcing_tf.training.checkpoint import load_model
from zforcing_tf.training.history import History

ROOT = Path(__file__).resolve().parents[2]


def start(*command):
    """Python in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    """Waits for a process that is to end with a code; what it printed since."""
    output, error = process.communicate(timeout=120)
    assert process.returncode == code, error
    assert "Traceback" not in error
    return output


def weights(run_dir, which="last"):
    return load_model(run_dir, which)[0].get_weights()


def assert_same_run(one, other):
    """Weights and each number of the learning curves, to the last bit."""
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    rows, expected = (History(Path(run) / "history.csv").rows() for run in (one, other))
    assert rows == expected
