"""Folders that are written under another name first, and what killed processes leave of these."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path


def staging_path(final: Path) -> Path:
    """Where this process writes what becomes `final`, beside it: a name that tells who writes."""
    return final.parent / f".staging-{final.name}{temporary_suffix()}"


def temporary_suffix() -> str:
    """How the name of a temporary folder that begins with `.staging-` ends, to be known by."""
    return f"-{socket.gethostname()}-{os.getpid()}"


def remove_abandoned(folder: Path, sparing_own: bool = False) -> None:
    """Removes what killed processes of this machine have left at a `staging_path` in a folder.

    Args:
        folder: in which to look.
        sparing_own: whether another thread of this process may be writing there; else what has our
            number is from an earlier process that had it.
    """
    staging = re.compile(r"\.staging-.+-" + re.escape(socket.gethostname()) + r"-(\d+)")
    for path in folder.iterdir():
        found = staging.fullmatch(path.name)
        if found and not _is_running(int(found[1]), sparing_own):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int, own: bool) -> bool:
    """Whether a process is there; `own`: what to say of ours, whose number an earlier one had."""
    if process == os.getpid():
        return own
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
