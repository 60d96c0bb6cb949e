"""Frames of numbers or symbols as they come, without any preparation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import DataKind, Dataset, DataSpec
from zforcing_tf.data.stored import Stored

DTYPES: dict[DataKind, type[np.generic]] = {
    "real": np.float32,
    "binary": np.uint8,
    "symbol": np.int32,
}
"""How rows are stored."""
MOST_SYMBOLS = 2**20
"""Symbols of a vocabulary, at most: each has weights of its own."""


def fault(rows: npt.NDArray[Any], kind: DataKind) -> str:
    """The first number of a sequence that cannot be used and its step, or nothing.

    Args:
      rows: [T, ...].
      kind: what they are to be.
    """
    if kind == "real":
        with np.errstate(over="ignore", invalid="ignore"):
            good, reason = np.isfinite(rows.astype(np.float32)), "is no finite number of 32 bits"
    elif kind == "binary":
        good, reason = (rows == 0) | (rows == 1), "is neither 0 nor 1"
    else:
        good = (rows >= 0) & (rows < MOST_SYMBOLS)
        reason = (
            f"is no symbol of 0 to {MOST_SYMBOLS - 1}: quantities are given as floating-point "
            "numbers, symbols are numbered from 0"
        )
    if good.all():
        return ""
    place: tuple[Any, ...] = np.unravel_index(int(np.argmin(good)), good.shape)
    return f"holds {rows[place]} in step {place[0]}, which {reason}"


def number_dataset(
    stored: Stored,
    title: str,
    kind: DataKind,
    frame_size: int,
    image_shape: tuple[int, int] | None = None,
    scale: float = 1.0,
    vocabulary_size: int = MOST_SYMBOLS,
    notes: Sequence[str] = (),
) -> Dataset:
    """The dataset of stored rows.

    Args:
      stored: rows of the type in `DTYPES`.
      title: name of the dataset in its description.
      kind: what rows are. Of symbols there are as many as the greatest says.
      frame_size: D, if they are no symbols.
      image_shape: see `DataSpec`.
      scale: by which numbers are divided.
      vocabulary_size: if there are more symbols, it is noted.
      notes: see `Dataset`.
    """
    if kind == "symbol":
        frame_size = 1 + int(max(known.greatest for known in stored.statistics.values()))
        if frame_size > vocabulary_size:
            notes = (
                *notes,
                f"{title}: {frame_size:,} symbols, as the greatest is {frame_size - 1}, though "
                f"--vocabulary_size={vocabulary_size}, which is of words and characters; if they "
                "are quantities, give floating-point numbers",
            )

    def decode(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if kind == "symbol":
            return rows
        return rows.astype(np.float32) / np.float32(scale)

    dataset = stored.dataset(
        lambda longest: DataSpec(title, kind, frame_size, longest, image_shape), decode
    )
    if kind == "real":
        train = stored.statistics["train"]
        notes = (
            *notes,
            f"{title}: real numbers in their own units"
            + f" / {scale:g}" * (scale != 1)
            + f", of mean {train.mean / scale:g} and standard deviation "
            f"{train.standard_deviation / scale:g} over the training split",
        )
    return dataclasses.replace(dataset, notes=(*dataset.notes, *notes))
