"""What is not finite reaches no weight, is named, and ends a training that does not leave it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.conftest import Start, finish, weights, write_data
from tests.reliability.test_kills import newest_step


def outlier(x: np.ndarray) -> None:
    x[3, 0] = 1e30  # its square is infinite


def all_outliers(x: np.ndarray) -> None:
    x[:, 0] = 1e30


def given(folder: Path, change: object) -> str:
    return f"--manual_dir={write_data(folder / 'wrong.npz', change)}"  # type: ignore[arg-type]


@pytest.mark.reliability
def test_a_sequence_that_overflows_is_left_out_and_said(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    output, error = finish(start(run, given(tmp_path, outlier), "--train_epochs=2"))
    said = [line for line in output.splitlines() if line.startswith("update ")]
    assert len(said) == 2 and all("skipped: not finite was the bound" in line for line in said)
    assert output.count("skipped updates 1") == 2 and error == ""
    assert all(np.isfinite(w).all() for w in weights(run))


@pytest.mark.reliability
def test_update_after_update_ends_with_a_diagnosis(start: Start, tmp_path: Path) -> None:
    run, wrong = tmp_path / "run", given(tmp_path, all_outliers)
    output, error = finish(start(run, wrong, "--max_skipped_updates=7"), 2)
    assert error.startswith("error: the last 7 updates were skipped, as the bound")
    assert "of batch 2 of epoch 2 8 of 8 sequences have none (the first is in row 0); its " in error
    assert "its largest number is 1e+30" in error and error.count("\n") == 1
    assert "no more of this epoch are said" in output
    assert newest_step(run) == 7
    for after, before in zip(weights(run), first_weights(start, tmp_path), strict=True):
        if after.size > 1:  # all but the counter of steps
            np.testing.assert_array_equal(after, before)


def first_weights(start: Start, tmp_path: Path) -> list[np.ndarray]:
    """Of a run that skipped a single update."""
    run = tmp_path / "first"
    finish(start(run, given(tmp_path, all_outliers), "--max_skipped_updates=1"), 2)
    return weights(run)


@pytest.mark.reliability
def test_float16_goes_on_after_its_scale_was_too_large(start: Start, tmp_path: Path) -> None:
    """The first updates of a scaled loss may overflow: skipped, while the scale comes down."""
    run = tmp_path / "run"
    output, _ = finish(start(run, "--dtype=mixed_float16", "--train_epochs=8"))
    assert "best epoch" in output
    assert all(np.isfinite(w).all() for w in weights(run))
    assert os.path.exists(run / "results.json")
