"""Learning curves of a run as a table, one row an epoch; reading them needs no TensorFlow."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from zforcing_tf.errors import UserError
from zforcing_tf.training.json_files import write_atomically
from zforcing_tf.training.writing import GO_ON, writing


class History:
    """The file `history.csv`.

    Args:
        path: of the file; made with the first epoch.

    Raises:
        UserError: from each method that writes, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, float]]:
        """All rows; none before the first epoch.

        Raises:
            UserError: the file is damaged, or cannot be read.
        """
        if not self.path.is_file():
            return []
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
            if not all({"epoch", "step"} <= row.keys() for row in rows):
                raise ValueError("a row has no epoch or no step")
        except (OSError, csv.Error, TypeError, ValueError) as error:
            raise UserError(f"{self.path} cannot be used ({error}); move it away") from error
        return rows

    def keep(self, epochs: int) -> None:
        """Drops rows of epochs later than that, which will be trained again."""
        self._write([row for row in self.rows() if row["epoch"] <= epochs])

    def append(
        self, epoch: int, step: int, train: Mapping[str, float], validation: Mapping[str, float]
    ) -> None:
        """Adds an epoch."""
        row: dict[str, float] = {"epoch": epoch, "step": step}
        row |= {f"train_{name}": value for name, value in train.items()}
        row |= {f"validation_{name}": float(value) for name, value in validation.items()}
        self._write([*self.rows(), row])

    def _write(self, rows: list[dict[str, float]]) -> None:
        with writing(self.path, GO_ON):
            if not rows:
                self.path.unlink(missing_ok=True)
                return
            names = list(dict.fromkeys(name for row in rows for name in row))
            text = io.StringIO()
            writer = csv.DictWriter(text, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(self.path, text.getvalue())
