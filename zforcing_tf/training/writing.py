"""What cannot be written, as one sentence: where, why, what to do."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from zforcing_tf.errors import UserError

OTHER_RUN = "mend that, or give another --run_dir"
GO_ON = "mend that, then the same command goes on from the last checkpoint"


@contextlib.contextmanager
def writing(path: Path, remedy: str = OTHER_RUN) -> Iterator[None]:
    """Errors of the file system inside, Python's or TensorFlow's, become a `UserError`.

    Args:
        path: what is being written.
        remedy: what a user can do, the end of the sentence.

    Raises:
        UserError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        why = reason(error)
        if why is None:
            raise
        raise UserError(f"cannot write {path}: {why}; {remedy}") from error


def reason(error: Exception) -> str | None:
    """Why the file system refused; None for an error of another kind."""
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else str(error)
    # Not imported here: wrong run directories are to be named before TensorFlow has started. Its
    # own writers have a class of error for each reason, none of them an OSError.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    lines = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
