"""JSON files that are there whole or as they were before."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zforcing_tf.errors import UserError
from zforcing_tf.training import durable


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: the file cannot be read, or does not hold an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise UserError("it does not hold a JSON object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes an object. Numbers that are not finite become null: JSON has no others.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    write_atomically(path, json.dumps(_plain(values), indent=2, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes a file under another name, makes sure that it is on the disk, and renames it.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        durable.flush_names(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _plain(value: Any) -> Any:
    """A value made of what JSON knows; scalars of NumPy and TensorFlow become those of Python."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
