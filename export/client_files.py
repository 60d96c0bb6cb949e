"""What the client reads, writes and prints."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf import tables
from zforcing_tf.errors import UserError

from .transport import Arrays, Listing

_SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".sph")
_SHOWN = 20


def read(path: Path, one: bool = False, sample_rate: int = 0) -> tuple[list[Any], str]:
    """Sequences of a file or folder, and for which signatures: "", "_text" or "_audio".

    Args:
        path: of it.
        one: whether it is a single sequence, whose frames are wanted.
        sample_rate: that of the model, to which recordings are brought.

    Raises:
        UserError: it cannot be read, or is not what is wanted.
    """
    if not path.exists():
        raise UserError(f"--input={path} does not exist: give a file or folder")
    sound = path.is_dir() or path.suffix.lower() in _SOUNDS
    if one and (sound or path.suffix.lower() not in (".npz", ".npy")):
        raise UserError(f"--input={path} is no array: a stream takes an npz or npy file of frames")
    if sound:
        if not sample_rate:
            raise UserError(
                "recordings need --sample_rate, that of the model, as a server does not tell it: "
                "MODEL_CARD.md in the assets.extra of its SavedModel does"
            )
        return _recordings(path, sample_rate), "_audio"
    if path.suffix.lower() in (".npz", ".npy"):
        return _arrays(path, one), ""
    from zforcing_tf.data.text_lines import text_lines

    lines = list(text_lines(path))
    if not lines:
        raise UserError(f"{path} holds no line of text: give a sentence a line")
    return lines, "_text"


def _recordings(path: Path, sample_rate: int) -> list[Any]:
    from zforcing_tf.data.description import FULL_SCALE
    from zforcing_tf.data.own_files import files_below
    from zforcing_tf.data.recordings import read_recording

    files = files_below(path, _SOUNDS) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no recordings ({', '.join(_SOUNDS)})")
    return [
        read_recording(file, sample_rate).samples.astype(np.float32) / FULL_SCALE for file in files
    ]


def _arrays(path: Path, one: bool) -> list[Any]:
    try:
        found: Any = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            arrays = {"x": found}
        else:
            with found:
                arrays = dict(found)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): give plain arrays") from error
    if "x" not in arrays:
        raise UserError(f"{path} has no array 'x' but {', '.join(arrays)}: call the sequences x")
    x, lengths = arrays["x"], arrays.get("lengths")
    if x.dtype.kind not in "biuf":
        raise UserError(f"x in {path} holds {x.dtype}: give numbers")
    if x.ndim < (1 if one else 2):
        wanted = "[T, D] or [T]" if one else "[N, T, D] or [N, T]"
        raise UserError(f"x in {path} has the shape {list(x.shape)}: give {wanted}")
    if not len(x):
        raise UserError(f"x in {path} is empty: give {'frames' if one else 'sequences'}")
    if one or lengths is None:
        return list(x)
    return [row[:length] for row, length in zip(x, _lengths(path, x, lengths), strict=True)]


def _lengths(path: Path, x: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> list[int]:
    if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu":
        raise UserError(
            f"lengths in {path} is {lengths.dtype} of shape {list(lengths.shape)}: give a whole "
            f"number for each of the {len(x)} sequences"
        )
    wrong = np.flatnonzero((lengths < 1) | (lengths > x.shape[1]))
    if len(wrong):
        raise UserError(
            f"lengths[{wrong[0]}] in {path} is {lengths[wrong[0]]}: give 1 to {x.shape[1]}, the "
            "steps of x"
        )
    found: list[int] = lengths.tolist()
    return found


def signatures(listing: Listing) -> str:
    """A listing for people."""
    from .saved_model import summary

    return summary({name: one for name, one in sorted(listing.items()) if name[:2] != "__"})


def table(answers: Sequence[Arrays]) -> str:
    """The first answers, what is one number or one text of each."""
    if not answers:
        return "nothing"
    columns = [tables.Column("sequence", "", [str(k) for k in range(len(answers[:_SHOWN]))])]
    for name, first in answers[0].items():
        if np.ndim(first):
            continue
        values = [one[name] for one in answers[:_SHOWN]]
        shown = [v.decode(errors="replace") if isinstance(v, bytes) else v.item() for v in values]
        columns.append(tables.Column(name, name, shown))
    more = len(answers) - _SHOWN
    return tables.as_text(columns) + (f"\n... and {more} more" if more > 0 else "")


def check_output(path: Path) -> None:
    """Raises UserError if answers could not be written there: before they are asked for."""
    if path.suffix != ".npz":
        raise UserError(f"--output={path} is no npz file: give a name that ends in .npz")
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "it is a folder" if path.is_dir() else f"{folder} is no folder to write into"
        raise UserError(f"--output={path} cannot be written: {reason}")


def write(path: Path, answers: Sequence[Arrays]) -> None:
    """All answers as arrays [N, ...]; shorter ones are filled up with zeros.

    Raises:
        UserError: the file cannot be written. What was there before is still there then.
    """
    arrays: dict[str, Any] = {}
    for name in answers[0] if answers else ():
        values = [np.asarray(one[name]) for one in answers]
        shape = np.max([value.shape for value in values], axis=0).astype(int)
        array = np.zeros((len(values), *shape), np.result_type(*values))
        for row, value in enumerate(values):
            place: Any = (row, *(slice(0, size) for size in value.shape))
            array[place] = value
        arrays[name] = array
    unfinished = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    try:
        np.savez(unfinished, **arrays)
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"--output={path} cannot be written ({error.strerror})") from error
    finally:
        unfinished.unlink(missing_ok=True)
