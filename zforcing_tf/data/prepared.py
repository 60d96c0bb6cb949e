"""Prepares a dataset of TensorFlow Datasets on first use, quietly and safely.

TensorFlow Datasets writes into a folder called `incomplete.*` and renames it when all is written:
a dataset is there as a whole or not at all, whenever the program is killed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from absl import logging

from zforcing_tf.errors import UserError

Found = TypeVar("Found")

_SORTED_IN = 1100  # files, and some to spare
_ROOM = "see that the folder can be written and has room, or choose another --data_dir"


def read_prepared(
    name: str,
    make_builder: Callable[[str], Any],
    data_dir: str,
    read: Callable[[Any], Found],
    advice: str = _ROOM,
    source: str = "",
    manual_dir: str = "",
) -> Found:
    """What `read` makes of a dataset, which is prepared first if it is not there.

    Args:
      name: the dataset.
      make_builder: from the root folder to a `tfds.core.DatasetBuilder`. Its messages for users are
        `UserError`s.
      data_dir: root folder; empty for the default of TensorFlow Datasets, the environment variable
        `TFDS_DATA_DIR` or else `~/tensorflow_datasets`.
      read: from the prepared builder to the result.
      advice: what to do if the dataset cannot be prepared, the end of a sentence.
      source: address from which the dataset is downloaded, if it is.
      manual_dir: where the user keeps what cannot be downloaded, if anything.

    Raises:
      UserError: the folder cannot be written, the preparation failed, or what a previous one wrote
        is damaged.
    """
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = Path(data_dir or default).expanduser()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file: choose a folder for prepared datasets with --data_dir")
    with _damage_named(name, root / name), _quiet(logging.ERROR):
        builder = make_builder(os.fspath(root))
    if not Path(builder.data_dir).exists():
        _prepare(name, builder, root, advice, source, manual_dir)
        with _damage_named(name, root / name), _quiet(logging.ERROR):
            builder = make_builder(os.fspath(root))
    with _damage_named(name, Path(builder.data_dir)), _quiet():
        return read(builder)


def ordered_key(index: int, count: int) -> int:
    """The key of a record that is to stay where it is among others.

    Records that do not fit into its memory TensorFlow Datasets sorts in 1,000 files, by key of 128
    bits: keys 0, 1, 2, ... would all be in the first, and then all in memory.

    Args:
      index: place of the record, from 0.
      count: records, at least; that there are fewer costs evenness alone.
    """
    return (index << 128) // count


def _prepare(
    name: str, builder: Any, root: Path, advice: str, source: str, manual_dir: str
) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    _check_writable(name, root)
    folder = Path(builder.data_dir)
    logging.info("preparing the dataset %s in %s (once)", name, folder)
    try:
        if source:
            _check_reachable(source)
        _allow_open_files()
        with _quiet():
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, manual_dir=manual_dir or None
                )
            )
    except Exception as error:  # whatever it was, it left nothing that could be read
        if folder.parent != root / name:  # that of this configuration, if it is empty
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        for cause in _causes(error):
            if isinstance(cause, UserError):
                raise cause from None
        if not folder.exists():  # else another process was faster, which is as good
            written = (OSError, tf.errors.OpError)
            if advice == _ROOM and not any(isinstance(e, written) for e in _causes(error)):
                advice = "mend what it is made of, if that is yours, or report this"
            reason = _reason(error)
            if reason.startswith("Manual directory"):  # TFDS then names a folder of its own
                given = f"--manual_dir={manual_dir} is missing or empty"
                reason = given if manual_dir else "no --manual_dir is given"
            raise UserError(
                f"dataset {name!r} could not be prepared in {folder} ({reason}): {advice}"
            ) from error
    # What killed processes left. One that is still at work finds the finished dataset, as above.
    for remains in folder.parent.glob(f"incomplete.*_{folder.name}"):
        shutil.rmtree(remains, ignore_errors=True)


def _allow_open_files() -> None:
    """Room for the 1,000 files in which records are sorted; TensorFlow Datasets keeps them open.

    It asks for it itself, but only if one of these is refused, and not one that is read from.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = (
            soft + _SORTED_IN if hard == resource.RLIM_INFINITY else min(hard, soft + _SORTED_IN)
        )
        if soft != resource.RLIM_INFINITY and wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_reachable(source: str) -> None:
    """OSError within seconds where TensorFlow Datasets would try again for many minutes."""
    # An answer that refuses is an answer: the download itself will say more.
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(source, method="HEAD"), timeout=20).close()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _check_writable(name: str, root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(
            f"dataset {name!r} cannot be written to {root} ({error.strerror}): "
            "choose a folder that can be written with --data_dir"
        ) from error


@contextlib.contextmanager
def _damage_named(name: str, folder: Path) -> Iterator[None]:
    """Whatever fails inside is the fault of files that a previous preparation left in a folder."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # A full disk or a refused file is no damage. A missing one is.
        refused = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        if refused or not folder.exists():
            raise
        raise UserError(
            f"dataset {name!r} in {folder} is damaged ({_reason(error)}): "
            "delete that folder and run again, and it will be prepared anew"
        ) from error


@contextlib.contextmanager
def _quiet(least: int = logging.WARNING) -> Iterator[None]:
    """Neither progress bars nor messages of TensorFlow Datasets, except warnings and errors.

    With `least` = ERROR no warnings either: it has one for each configuration that a program makes
    itself, which is how files that users bring are told apart.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(min(verbosity, least))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _reason(error: Exception) -> str:
    """The first line of an error's message, for the middle of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
