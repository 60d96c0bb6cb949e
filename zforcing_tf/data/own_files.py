"""Files that users bring: what is there, and a name for exactly this."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from zforcing_tf.errors import UserError


def given_path(manual_dir: str, dataset: str, what: str) -> Path:
    """The file or folder that `--manual_dir` names.

    Args:
      manual_dir: value of the flag.
      dataset: its name, for the error.
      what: what is expected there, such as "a folder of wav or flac files".

    Raises:
      UserError: none is given, or there is nothing.
    """
    if not manual_dir:
        raise UserError(f"--dataset={dataset} needs --manual_dir: give {what}")
    path = Path(manual_dir).expanduser().absolute()
    if not path.exists():
        raise UserError(f"--manual_dir={manual_dir} does not exist: give {what}")
    return path


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files below a folder with one of the suffixes (lower case, with the dot), sorted.

    Links are followed, but into no folder that holds them.

    Raises:
      UserError: a link leads nowhere.
    """
    found = []
    for directory, names, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(directory)
        names[:] = sorted(
            name for name in names if not _holds(os.path.realpath(f"{directory}/{name}"), here)
        )
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("._"):
                path = Path(directory) / name
                if not path.exists():
                    raise UserError(
                        f"{path} is a link to {os.readlink(path)}, which is not there: mend or "
                        "remove the link"
                    )
                found.append(path)
    return found


def _holds(folder: str, path: str) -> bool:
    """Whether a path is a folder or below it; both real."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def fingerprint(files: Sequence[Path], *settings: object) -> str:
    """A short name that changes with the files (path, size, time of change) and the settings.

    It is the name of a builder's configuration: what was prepared of other files is not taken for
    that of these.
    """
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:16]


def find_copies(files: Sequence[Path]) -> dict[Path, Path]:
    """For each file that holds the same bytes as one before it, that one."""
    by_size: dict[int, list[Path]] = {}
    for path in files:
        by_size.setdefault(path.stat().st_size, []).append(path)
    copies, seen = {}, dict[bytes, Path]()
    for size, group in by_size.items():
        for path in group if size and len(group) > 1 else ():
            digest = _digest(path)
            if digest in seen:
                copies[path] = seen[digest]
            seen.setdefault(digest, path)
    return copies


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.digest()
