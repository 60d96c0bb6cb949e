"""What killed processes leave, and who removes it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zforcing_tf import leftovers


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    host = socket.gethostname()
    kept = {
        f".staging-7-{host}-{os.getppid()}",  # at work
        f".staging-7-another-{ended_process()}",  # nobody knows
        f".staging-7-{host}-x",
        "7",
        "staging",
    }
    removed = {f".staging-{name}-{host}-{ended_process()}" for name in ("7", "words.v1")}
    for name in kept | removed:
        (tmp_path / name / "half").mkdir(parents=True)
    leftovers.remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_staging_path_is_one_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ended_process()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: process)
        path = leftovers.staging_path(tmp_path / "words")
    assert path.parent == tmp_path
    path.mkdir()
    leftovers.remove_abandoned(tmp_path)
    assert not path.exists()
