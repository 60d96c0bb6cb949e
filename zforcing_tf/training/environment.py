"""What a result may depend on besides the configuration: versions and machine."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "absl-py",
    "keras",
    "numpy",
    "scikit-learn",
    "tensorflow",
    "tensorflow-datasets",
    "tensorflow-probability",
)


def environment() -> dict[str, Any]:
    """Versions of Python and packages, platform, processors, and the commit if this is a checkout.

    Nothing in it names a person or a machine.
    """
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Commit of the checkout that this file belongs to, with `+` after it if files have changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    answers = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain"]):
        git = ["git", "-C", str(root), *command]
        try:
            done = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(done.stdout.strip())
    commit, changes = answers
    return commit + "+" if changes else commit
