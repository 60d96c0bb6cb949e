"""What a dataset is to the rest of the library: frames with lengths, in three splits.

The frames are in memory, or, of a corpus that is larger, in a file that is read as batches ask.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import Music, Sound, Text
from zforcing_tf.errors import UserError

DataKind = Literal["binary", "real", "symbol"]
"""What a frame holds: zeros and ones, real numbers, or one symbol of a vocabulary."""

SPLIT_NAMES = ("train", "validation", "test")
_BLOCK = 65536


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model must know of the data; saved with a run.

    Attributes:
      name: name of the dataset in the registry.
      kind: what a frame holds: `binary`, `real` or `symbol`.
      frame_size: D, the numbers in one frame; for symbols the size of the vocabulary.
      max_length: steps of the longest sequence of all splits, whether trained on or not.
      image_shape: rows and columns of the picture whose pixels the frames of a sequence list in
        raster order, or None if the sequences are no pictures.
      sound: what the numbers of frames are if they are samples of sound.
      text: what symbols stand for if they are words or characters.
      music: what the numbers of frames are if they are keys of a piano.
    """

    name: str
    kind: DataKind
    frame_size: int
    max_length: int
    image_shape: tuple[int, int] | None = None
    sound: Sound | None = None
    text: Text | None = None
    music: Music | None = None

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
        if self.text is not None:
            fields["text"]["vocabulary"] = list(self.text.vocabulary)
        return {k: v for k, v in fields.items() if k not in _DESCRIPTIONS or v is not None}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`; UserError if the fields are not those of a data spec."""
        known = [f.name for f in dataclasses.fields(cls) if f.name not in _DESCRIPTIONS]
        if sorted(fields.keys() - _DESCRIPTIONS.keys()) != sorted(known):
            raise UserError(
                f"the description of the data has the fields {sorted(fields)} instead of "
                f"{sorted(known)}: use the file as the program that trained the model wrote it"
            )
        if fields["kind"] not in typing.get_args(DataKind):
            raise UserError(
                f"the description of the data has the kind {fields['kind']!r}: "
                f"it must be one of {', '.join(typing.get_args(DataKind))}"
            )
        fields = {**dict.fromkeys(_DESCRIPTIONS), **fields}
        shape = fields["image_shape"]
        fields["image_shape"] = None if shape is None else (shape[0], shape[1])
        for name, kind in _DESCRIPTIONS.items():
            if fields[name] is not None:
                own = dict(fields[name])
                if kind is Text:
                    own["vocabulary"] = tuple(own["vocabulary"])
                fields[name] = kind(**own)
        return cls(**fields)


_DESCRIPTIONS: dict[str, type] = {"sound": Sound, "text": Text, "music": Music}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Sequences of one split, stored one after the other without padding.

    Attributes:
      name: "train", "validation" or "test".
      values: `[sum(lengths), D] float32`, or `[sum(lengths)] int32` for symbols; or what `decode`
        makes these of, such as samples of 16 bits in a file.
      lengths: `[N] int32`, steps of every sequence, each at least 1.
      decode: from rows of `values` to frames, if they are no frames yet.
      limits: no number of the frames is less or greater, if that is known without reading them.
      names: of the sequences, such as the files that they were read from; empty if they have none.
      wholes: `[N] int32`, if the sequences are pieces of longer ones: of which, counted from 0.
    """

    name: str
    values: npt.NDArray[Any]
    lengths: npt.NDArray[np.int32]
    decode: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    wholes: npt.NDArray[np.int32] | None = None

    def title(self, sequence: int) -> str:
        """What messages call a sequence, which is counted from 0."""
        return f"sequence {sequence}" + (f" ({self.names[sequence]})" if self.names else "")

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

    def padded(
        self, indices: npt.ArrayLike, longest: int | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """The chosen sequences as one array, filled up with zeros.

        Args:
          indices: `[n] int`, sequences in the order wanted.
          longest: steps from the beginning that are wanted of a longer sequence; None: all.

        Returns:
          `[n, T, D]` (`[n, T]` for symbols), T being the longest of the chosen lengths, and these
          lengths, `[n] int32`.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]
        if longest is not None:
            lengths = np.minimum(lengths, np.int32(longest))
        steps = np.arange(lengths.max(initial=0))
        mask = steps < lengths[:, None]
        rows = self.frames((self.starts[chosen, None] + steps)[mask])
        x = np.zeros(mask.shape + rows.shape[1:], rows.dtype)
        x[mask] = rows
        return x, lengths

    def frames(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Frames of some rows, of all sequences one after the other."""
        values = self.values[rows]
        return values if self.decode is None else self.decode(np.asarray(values))

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """All frames in order, some at once, each time with the row of the first."""
        for start in range(0, len(self.values), _BLOCK):
            yield start, self.frames(slice(start, start + _BLOCK))

    @property
    def is_in_memory(self) -> bool:
        """Whether `values` are frames, and none of them lies in a file."""
        return self.decode is None and not isinstance(self.values, np.memmap)

    def in_memory(self) -> Split:
        """The same with frames as values."""
        if self.is_in_memory:
            return self
        values = np.concatenate([frames for _, frames in self.blocks()])
        return dataclasses.replace(self, values=values, decode=None)

    def first(self, count: int) -> Split:
        """Its first `count` sequences, of which there must be as many."""
        lengths = self.lengths[:count]
        rows = int(np.sum(lengths, dtype=np.int64))
        wholes = None if self.wholes is None else self.wholes[:count]
        return dataclasses.replace(
            self,
            values=self.values[:rows],
            lengths=lengths,
            names=self.names[:count],
            wholes=wholes,
        )

    def cut(self, chunk_length: int) -> Split:
        """The same frames as more sequences: each cut into pieces of `chunk_length` steps.

        The last piece of a sequence is what is left.
        """
        whole, rest = np.divmod(self.lengths, chunk_length)
        pieces = [
            np.array([chunk_length] * count + [left] * (left > 0), np.int32)
            for count, left in zip(whole.tolist(), rest.tolist(), strict=True)
        ]
        counts = [len(lengths) for lengths in pieces]
        wholes = self.wholes
        if max(counts) > 1:
            own = np.arange(len(counts), dtype=np.int32) if wholes is None else wholes
            wholes = np.repeat(own, counts)
        lengths = np.concatenate(pieces)
        return dataclasses.replace(self, lengths=lengths, names=(), wholes=wholes)

    @classmethod
    def from_padded(cls, name: str, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]) -> Split:
        """The inverse of `padded` for a whole split; what the padding holds does not matter."""
        mask = np.arange(x.shape[1]) < lengths[:, None]
        return cls(name, x[mask], np.asarray(lengths, np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset.

    Attributes:
      spec: what a model must know of it.
      train: sequences.
      validation: sequences.
      test: sequences.
      skipped: records left out because they were bad, each with the reason.
      notes: what else a user should know of how it was made, a line each.
    """

    spec: DataSpec
    train: Split
    validation: Split
    test: Split
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
