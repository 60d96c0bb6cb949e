"""What the client reads, writes and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zforcing_tf import tables
from zforcing_tf.errors import UserError

from .transport import Arrays, Listing

_SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".sph")
_SHOWN = 20


def read(path: Path, one: bool = False) -> tuple[list[Any], str]:
    """Sequences of a file or folder, and for which signatures: "", "_text" or "_audio".

    Args:
        path: of it.
        one: whether it is a single sequence, whose frames are wanted.

    Raises:
        UserError: it cannot be read.
    """
    if not path.exists():
        raise UserError(f"--input={path} does not exist: give a file or folder")
    if path.is_dir() or path.suffix.lower() in _SOUNDS:
        return _recordings(path), "_audio"
    if path.suffix.lower() in (".npz", ".npy"):
        return _arrays(path, one), ""
    from zforcing_tf.data.text_lines import text_lines

    lines = list(text_lines(path))
    if not lines:
        raise UserError(f"{path} holds no line of text: give a sentence a line")
    return lines, "_text"


def _recordings(path: Path) -> list[Any]:
    from zforcing_tf.data.description import FULL_SCALE
    from zforcing_tf.data.own_files import files_below
    from zforcing_tf.data.recordings import read_recording

    files = files_below(path, _SOUNDS) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no recordings ({', '.join(_SOUNDS)})")
    return [read_recording(file, 0).samples.astype(np.float32) / FULL_SCALE for file in files]


def _arrays(path: Path, one: bool) -> list[Any]:
    try:
        found: Any = np.load(path, allow_pickle=False)
        arrays = {"x": found} if isinstance(found, np.ndarray) else dict(found)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): give plain arrays") from error
    if "x" not in arrays:
        raise UserError(f"{path} has no array 'x' but {', '.join(arrays)}: call the sequences x")
    x, lengths = arrays["x"], arrays.get("lengths")
    if one:
        return list(x)
    if lengths is None:
        return list(x)
    if len(lengths) != len(x) or (lengths > x.shape[1]).any():
        raise UserError(f"the lengths in {path} do not fit its sequences {list(x.shape)}")
    return [row[: int(length)] for row, length in zip(x, lengths, strict=True)]


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


def write(path: Path, answers: Sequence[Arrays]) -> None:
    """All answers as arrays [N, ...]; shorter ones are filled up with zeros.

    Raises:
        UserError: the file cannot be written.
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
    try:
        np.savez(path, **arrays)
    except OSError as error:
        raise UserError(f"--output={path} cannot be written ({error.strerror})") from error
