"""Files that users bring: what is there, and a name for exactly this."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from zforcing_tf.config import DataConfig
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
        raise UserError(f"--manual_dir={shown(path)} does not exist: give {what}")
    _check_name(path)
    return path


def shown(path: os.PathLike[str]) -> str:
    """A path in a message, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unreadable(path: os.PathLike[str], error: OSError) -> UserError:
    """What to say of a file or folder that the system does not let be read."""
    if os.path.islink(path) and not os.path.exists(path):
        return UserError(
            f"{shown(path)} is a link to {shown(Path(os.readlink(path)))}, which is not there: "
            "mend or remove the link"
        )
    return UserError(
        f"{shown(path)} cannot be read ({error.strerror}): see that you may read it, or take it "
        "out of the folder"
    )


def folder_entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; UserError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def status(path: Path) -> os.stat_result:
    """`path.stat()`; UserError if that is refused, or there is nothing behind a link."""
    try:
        return path.stat()
    except OSError as error:
        raise unreadable(path, error) from error


def _check_name(path: Path) -> None:
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"{shown(path)} has a name that is not in UTF-8: rename it (convmv -f LATIN1 -t UTF-8)"
        ) from None


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files below a folder with one of the suffixes (lower case, with the dot), sorted.

    Links are followed, but into no folder that holds them.

    Raises:
      UserError: a link that leads nowhere, a folder that cannot be read, a name that is not in
        UTF-8, or something that is no file.
    """

    def refuse(error: OSError) -> None:
        name = os.path.basename(os.fspath(error.filename))
        if name.startswith(".") or name == "lost+found":
            return  # what systems keep for themselves at the root of a disk
        raise unreadable(Path(error.filename), error) from error

    found = []
    for directory, names, files in os.walk(folder, followlinks=True, onerror=refuse):
        here = os.path.realpath(directory)
        names[:] = sorted(
            name for name in names if not _holds(os.path.realpath(f"{directory}/{name}"), here)
        )
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("._"):
                path = Path(directory) / name
                _check_name(path)
                if not stat.S_ISREG(status(path).st_mode):
                    raise UserError(f"{path} is no file but a device or pipe: take it away")
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
        known = status(path)
        _check_name(path)
        digest.update(f"{path.absolute()}\0{known.st_size}\0{known.st_mtime_ns}\0".encode())
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:16]


def skipping(config: DataConfig) -> str | bool:
    """How bad records are treated, for `fingerprint`."""
    return config.skip_bad_records and "what is left is divided"


def find_copies(files: Sequence[Path]) -> dict[Path, Path]:
    """For each file that holds the same bytes as one before it, that one.

    A file that cannot be read is no copy; who reads it will say so.
    """
    by_size: dict[int, list[Path]] = {}
    for path in files:
        with contextlib.suppress(OSError):
            by_size.setdefault(path.stat().st_size, []).append(path)
    copies, seen = {}, dict[bytes, Path]()
    for size, group in by_size.items():
        for path in group if size and len(group) > 1 else ():
            try:
                digest = _digest(path)
            except OSError:
                continue
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
