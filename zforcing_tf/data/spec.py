"""What a dataset is to the rest of the library: frames in memory, with lengths, in three splits."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zforcing_tf.errors import UserError

DataKind = Literal["binary", "real", "symbol"]
"""What a frame holds: zeros and ones, real numbers, or one symbol of a vocabulary."""

SPLIT_NAMES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model must know of the data; saved with a run.

    Attributes:
      name: name of the dataset in the registry.
      kind: what a frame holds: `binary`, `real` or `symbol`.
      frame_size: D, the numbers in one frame; for symbols the size of the vocabulary.
      max_length: steps of the longest sequence of all splits.
      image_shape: rows and columns of the picture whose pixels the frames of a sequence list in
        raster order, or None if the sequences are no pictures.
    """

    name: str
    kind: DataKind
    frame_size: int
    max_length: int
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        kinds = typing.get_args(DataKind)
        if self.kind not in kinds:
            raise UserError(
                f"data of kind {self.kind!r} is unknown: give one of {', '.join(kinds)}"
            )
        for name in ("frame_size", "max_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} of data is {getattr(self, name)}: give 1 or more")

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `json` can write and `from_json` reads."""
        fields = dataclasses.asdict(self)
        fields["image_shape"] = None if self.image_shape is None else list(self.image_shape)
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`; UserError if the fields are not those of a data spec."""
        known = [field.name for field in dataclasses.fields(cls)]
        if sorted(fields) != sorted(known):
            raise UserError(
                f"the description of the data has the fields {sorted(fields)} instead of "
                f"{sorted(known)}: use the file as the program that trained the model wrote it"
            )
        if fields["kind"] not in typing.get_args(DataKind):
            raise UserError(
                f"the description of the data has the kind {fields['kind']!r}: "
                f"it must be one of {', '.join(typing.get_args(DataKind))}"
            )
        shape = fields["image_shape"]
        return cls(**{**fields, "image_shape": None if shape is None else (shape[0], shape[1])})


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Sequences of one split, stored one after the other without padding.

    Attributes:
      name: "train", "validation" or "test".
      values: `[sum(lengths), D] float32`, or `[sum(lengths)] int32` for symbols.
      lengths: `[N] int32`, steps of every sequence, each at least 1.
    """

    name: str
    values: npt.NDArray[Any]
    lengths: npt.NDArray[np.int32]

    @property
    def num_sequences(self) -> int:
        """N."""
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Steps of all sequences together."""
        return int(np.sum(self.lengths, dtype=np.int64))

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """`[N] int64`: the row of `values` at which every sequence begins."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        return ends - self.lengths

    def padded(self, indices: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """The chosen sequences as one array, filled up with zeros.

        Args:
          indices: `[n] int`, sequences in the order wanted.

        Returns:
          `[n, T, D]` (`[n, T]` for symbols) in the dtype of `values`, T being the longest of the
          chosen lengths, and these lengths, `[n] int32`.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]
        steps = np.arange(lengths.max(initial=0))
        mask = steps < lengths[:, None]
        x = np.zeros(mask.shape + self.values.shape[1:], self.values.dtype)
        x[mask] = self.values[(self.starts[chosen, None] + steps)[mask]]
        return x, lengths

    @classmethod
    def from_padded(cls, name: str, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]) -> Split:
        """The inverse of `padded` for a whole split; what the padding holds does not matter."""
        mask = np.arange(x.shape[1]) < lengths[:, None]
        return cls(name, x[mask], np.asarray(lengths, np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in memory."""

    spec: DataSpec
    train: Split
    validation: Split
    test: Split

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """All splits, in the order of `SPLIT_NAMES`."""
        return self.train, self.validation, self.test

    def split(self, name: str) -> Split:
        """The split called `name`; UserError if there is none."""
        for split in self.splits:
            if split.name == name:
                return split
        raise UserError(
            f"dataset {self.spec.name!r} has no split {name!r}: choose {', '.join(SPLIT_NAMES)}"
        )
