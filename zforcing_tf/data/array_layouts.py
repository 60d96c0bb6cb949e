"""Sequences in the arrays of users, and which are for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.file_splits import parts_by_rule
from zforcing_tf.data.plain_arrays import ArrayFile
from zforcing_tf.data.spec import SPLIT_NAMES, DataKind
from zforcing_tf.data_config import LONGEST
from zforcing_tf.errors import UserError

LAYOUT = (
    "an npz file with the arrays train, validation and test, each [sequences, steps, numbers], or "
    "with one array x that is split by rule, or an npy file"
)
_NAMES = {"train": ("train",), "validation": ("validation", "valid"), "test": ("test",)}


Fault = Callable[[npt.NDArray[Any], DataKind], str]
"""What is wrong with the rows of a sequence; empty if nothing is."""


class SequenceArray:
    """The sequences of one array.

    Args:
      file: the file.
      name: of the array, `[N, T, D]` or `[N, T]`; or, the sequences one after the other, `[R, D]`
        or `[R]`.
      lengths_name: of the array of the steps of each sequence, `[N]`, if there is one. The rows
        are taken to be those of all sequences, one after the other, if it sums to R.
      skip_bad: whether sequences of lengths that cannot be are `wrong`, rather than errors.

    Attributes:
      where: name of the array in messages.
      values: the array.
      lengths: `[N] int64`, steps of each sequence.
      wrong: sequences whose length cannot be, each with the reason.

    Raises:
      UserError: a shape or type that cannot be used, or lengths that do not fit.
    """

    def __init__(
        self, file: ArrayFile, name: str, lengths_name: str | None, skip_bad: bool = False
    ) -> None:
        self.wrong: dict[int, str] = {}
        self.where = file.where(name)
        self.values = file.read(name)
        shape = self.values.shape
        if self.values.dtype.kind not in "buif":
            raise UserError(f"{self.where} is {self.values.dtype}: give numbers")
        if not self.values.size:
            raise UserError(f"{self.where} is empty, of shape {list(shape)}: give sequences")
        self._starts: npt.NDArray[np.int64] | None = None
        if lengths_name is None:
            if self.values.ndim not in (2, 3):
                raise UserError(
                    f"{self.where} has the shape {list(shape)}: give [sequences, steps, numbers] "
                    f"or [sequences, steps], or with the steps of each sequence in {name}_lengths "
                    "all sequences one after the other"
                )
            self.lengths = np.full(len(self.values), shape[1], np.int64)
            return
        where, lengths = file.where(lengths_name), file.read(lengths_name)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not lengths.size:
            raise UserError(
                f"{where} is {lengths.dtype} of shape {list(lengths.shape)}: give one integer for "
                "each sequence, its steps"
            )
        if lengths.max() > LONGEST:
            sequence = int(np.argmax(lengths > LONGEST))
            raise UserError(
                f"{where} says that sequence {sequence} has {lengths[sequence]} steps: give the "
                "steps that it has"
            )
        if self.values.ndim not in (1, 2, 3):
            raise UserError(
                f"{self.where} has the shape {list(shape)}: give [sequences, steps, numbers], or "
                "all sequences one after the other"
            )
        self.lengths = lengths.astype(np.int64)
        self._check_lengths(where, skip_bad)

    def _check_lengths(self, where: str, skip_bad: bool) -> None:
        shape, lengths = self.values.shape, self.lengths
        total = int(lengths.sum())
        joined = self.values.ndim < 3 and total == shape[0] and lengths.min() >= 0
        padded = self.values.ndim in (2, 3) and len(lengths) == shape[0]
        if padded and lengths.min() < 1:
            joined = False  # else a row would have belonged to one sequence by chance
        if joined or padded:
            longest = shape[0] if joined else shape[1]
            for sequence in np.flatnonzero((lengths < 1) | (lengths > longest)).tolist():
                reason = f"says that sequence {sequence} has {lengths[sequence]} steps"
                if lengths[sequence] > longest:
                    reason += f", but {self.where} has {longest}"
                if not skip_bad:
                    raise UserError(
                        f"{where} {reason}: give the steps of each sequence without padding, 1 or "
                        "more, or have such sequences left out with --skip_bad_records"
                    )
                self.wrong[sequence] = reason
        if joined:
            self._starts = np.cumsum(lengths) - lengths
            return
        if padded:
            self.lengths = np.clip(lengths, 0, shape[1])
        else:
            raise UserError(
                f"{where} has {len(lengths)} lengths that sum to {total}, but {self.where} is of "
                f"shape {list(shape)}: give a length for each sequence of [sequences, steps, ...], "
                "or lengths that sum to its rows"
            )

    @property
    def frame_size(self) -> int:
        """D; 1 where the array has no such axis."""
        axes = 1 if self._starts is not None else 2
        return self.values.shape[axes] if self.values.ndim > axes else 1

    def rows(self, index: int) -> npt.NDArray[Any]:
        """One sequence, [T, D]."""
        length = self.lengths[index]
        if self._starts is None:
            found = self.values[index, :length]
        else:
            found = self.values[self._starts[index] : self._starts[index] + length]
        return found.reshape(length, self.frame_size)

    def good(self) -> Iterator[npt.NDArray[Any]]:
        """All sequences that are not `wrong`."""
        return (self.rows(k) for k in range(len(self.lengths)) if k not in self.wrong)


class ArraySplits(NamedTuple):
    """Sequences of each split, as an array and which of its sequences; and what they hold."""

    parts: dict[str, tuple[SequenceArray, Sequence[int]]]
    kind: DataKind
    frame_size: int


def read_splits(path: Path, feature: str = "", fault: Fault | None = None) -> ArraySplits:
    """The sequences of a file.

    - If `feature` is empty and there are the arrays train, validation (or valid) and test, each is
      a split, whatever else there is; the steps of their sequences are in train_lengths and so on,
      if they differ.
    - Else the array `feature`, or x, is split as `file_splits.parts_by_rule` says; the steps of its
      sequences are in x_lengths or lengths, if they differ.

    Frames are symbols if the arrays are integers, zeros and ones if they are boolean or 8 bits that
    are all 0 or 1, else real numbers.

    Args:
      path: of the file.
      feature: see above.
      fault: what is wrong with a sequence, if sequences with a fault are not to count where one
        array is split: those without are, and the others are put into the training split.

    Raises:
      UserError: the file is damaged, is pickled, or holds something else.
    """
    file = ArrayFile(path, LAYOUT)
    given = {split: [n for n in names if n in file.names] for split, names in _NAMES.items()}
    if not feature and (all(given.values()) or (any(given.values()) and "x" not in file.names)):
        for split, names in given.items():
            if len(names) != 1:
                wanted = " or ".join(_NAMES[split])
                state = "has both the arrays" if names else "has no array"
                raise UserError(f"{path} {state} {wanted}: give one, beside those of other splits")
        arrays = {s: _array(file, names[0], skip_bad=bool(fault)) for s, names in given.items()}
        parts = {split: (array, range(len(array.lengths))) for split, array in arrays.items()}
        return ArraySplits(dict(parts), *_layout(path, list(arrays.values())))
    name = file.names[0] if file.names == ("",) else feature or "x"
    if name not in file.names:
        known = ", ".join(file.names) or "nothing"
        raise UserError(
            f"{path} has no array {name!r} but {known}: choose one with --feature, or give {LAYOUT}"
        )
    array = _array(file, name, "lengths", skip_bad=bool(fault))
    if len(array.lengths) < len(SPLIT_NAMES):
        raise UserError(
            f"{array.where} holds {len(array.lengths)} sequences: give at least 3, one for each of "
            "training, validation and test"
        )
    kind, frame_size = _layout(path, [array])
    whole = range(len(array.lengths))
    bad = [k for k in whole if k in array.wrong or fault(array.rows(k), kind)] if fault else []
    good = sorted(set(whole) - set(bad))
    if len(good) < len(SPLIT_NAMES):
        raise UserError(
            f"{array.where} holds {len(good)} sequences that can be used, of {len(whole)}: give at "
            "least 3, one for each of training, validation and test"
        )
    chosen = {s: [good[k] for k in part] for s, part in parts_by_rule(len(good)).items()}
    chosen["train"] = sorted(chosen["train"] + bad)
    return ArraySplits({s: (array, chosen[s]) for s in SPLIT_NAMES}, kind, frame_size)


def _array(file: ArrayFile, name: str, *others: str, skip_bad: bool) -> SequenceArray:
    names = [n for n in (f"{name}_lengths", *others) if n in file.names]
    return SequenceArray(file, name, names[0] if names else None, skip_bad)


def _layout(path: Path, arrays: Sequence[SequenceArray]) -> tuple[DataKind, int]:
    """What frames hold, and how many numbers."""
    sizes = [array.frame_size for array in arrays]
    if len(set(sizes)) > 1:
        raise UserError(
            f"the frames of {path} have {sizes[0]}, {sizes[1]} and {sizes[2]} numbers in train, "
            "validation and test: give as many in each"
        )
    types = {_TYPES[array.values.dtype.kind] for array in arrays}
    if len(types) > 1:
        found = ", ".join(str(array.values.dtype) for array in arrays)
        raise UserError(
            f"the arrays of {path} are of the types {found}: give booleans (zeros and ones), "
            "integers (symbols) or floating-point numbers in all of them"
        )
    if types == {"real"}:
        return "real", sizes[0]
    eight_bits = all(array.values.dtype in (np.bool_, np.uint8) for array in arrays)
    if eight_bits and all((rows <= 1).all() for array in arrays for rows in array.good()):
        return "binary", sizes[0]
    if sizes[0] > 1:
        raise UserError(
            f"{arrays[0].where} holds integers in frames of {sizes[0]} numbers: give [sequences, "
            "steps] for symbols, floating-point numbers for quantities, or booleans"
        )
    return "symbol", 1


_TYPES = {"b": "boolean", "u": "integer", "i": "integer", "f": "real"}
