"""A version of a model appears whole or not at all.

A model server loads the folders whose names are numbers. So a version is written into a folder of
another name, `.staging-<version>-<host>-<process>`, and renamed when all of it is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from zforcing_tf import leftovers
from zforcing_tf.errors import UserError
from zforcing_tf.training import durable

MARK = "assets.extra/signatures.json"
"""What each export has."""


def refuse_place(export_dir: Path) -> None:
    """Raises UserError if no version could be written there: before any work is done."""
    there = next(path for path in (export_dir, *export_dir.parents) if os.path.lexists(path))
    if not there.is_dir():
        found = f"{there} is no folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        found = f"{there} is not writable"
    else:
        return
    raise UserError(f"cannot export to {export_dir}: {found}; give another --export_dir")


def refuse_existing(path: Path) -> None:
    """Raises UserError if a version is there: a server may be using it."""
    if os.path.lexists(path):
        raise UserError(
            f"{path} exists already; give another number with --version, or remove that folder"
        )


@contextlib.contextmanager
def staged(export_dir: Path, version: int) -> Iterator[Path]:
    """Makes a folder for a version, which gets its name when the block ends well.

    However the block is left otherwise, the folder is removed; if the process is killed, the next
    export into `export_dir` on the same machine removes it.

    Args:
        export_dir: of all versions of the model; made if it is missing.
        version: at least 0.

    Raises:
        UserError: the version exists, or `export_dir` cannot be made or written.
    """
    final = export_dir / str(version)
    staging = leftovers.staging_path(final)
    refuse_existing(final)
    with _explained(export_dir):
        export_dir.mkdir(parents=True, exist_ok=True)
        leftovers.remove_abandoned(export_dir)
        staging.mkdir()
    try:
        yield staging
        with _explained(export_dir):
            durable.flush(staging)
            refuse_existing(final)
            durable.rename(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_older(export_dir: Path, version: int, keep: int) -> None:
    """Removes the oldest exports below a version, so that `keep` stay with it; 0: none.

    What is no export of this program stays whatever its name. One that goes is renamed first, so
    that no server finds half of it.
    """
    if not keep:
        return
    older = sorted(
        int(path.name)
        for path in export_dir.iterdir()
        if path.name.isdecimal() and int(path.name) < version and (path / MARK).is_file()
    )
    for number in older[: max(0, len(older) - keep + 1)]:
        path = export_dir / str(number)
        hidden = leftovers.staging_path(path)
        try:
            os.rename(path, hidden)
        except OSError as error:
            raise UserError(
                f"version {version} is exported to {export_dir}, but the older version {number} "
                f"cannot be removed ({error.strerror}): remove it by hand"
            ) from error
        shutil.rmtree(hidden, ignore_errors=True)


@contextlib.contextmanager
def _explained(export_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            reason = "another process is writing the same version there, or it is a file"
        else:
            reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"cannot export to {export_dir}: {reason}; mend that, or give another --export_dir"
        ) from error
