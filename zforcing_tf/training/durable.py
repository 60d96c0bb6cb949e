"""Names that are given only to what is on the disk, so that a power cut takes neither."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def flush(folder: Path) -> None:
    """Waits until all that a folder holds is on the disk.

    Raises:
        OSError: the disk refuses.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            flush_names(path)
    flush_names(folder)


def flush_names(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames what `flush` was called for, and waits until the name is on the disk.

    Raises:
        OSError: it cannot be renamed.
    """
    os.rename(source, target)
    flush_names(target.parent)
