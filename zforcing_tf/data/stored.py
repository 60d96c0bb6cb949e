"""Sequences of a prepared dataset in flat files that batches are read from.

Records of TensorFlow Datasets come one after the other; batches in random order, from any place on,
want rows at random. So the records are written down once more, beside the prepared dataset, as

    <form>/<split>.values.npy, <split>.lengths.npy, records.json, statistics.json

in a folder that appears when all is written. What fits into memory is then held there, and of what
does not the operating system keeps what is in use.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from absl import logging

from zforcing_tf import leftovers
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec, Split
from zforcing_tf.errors import UserError

IN_MEMORY_BYTES = 2**30
"""Frames of a dataset up to which it is held in memory."""

_BLOCK = 4096  # rows
_RECORDS = 64

Record = Mapping[str, Any]
Rows = Callable[[Record], npt.NDArray[Any]]
"""From a record as `tfds.as_numpy` gives it to rows [T, ...]; T may be 0: it is left out."""


class Statistics(NamedTuple):
    """Of all numbers of the rows of a split, as they are stored."""

    mean: float
    standard_deviation: float
    least: float
    greatest: float


class Records(NamedTuple):
    """What is known of the records of a split besides their rows."""

    names: list[str]
    """Of the sequences; empty if they have none."""
    too_short: list[str]
    """Names of records without a row."""
    repeated: int = 0
    """Sequences that are in the training split too."""


class Stored(NamedTuple):
    """Rows of each split, as they are stored."""

    values: dict[str, npt.NDArray[Any]]
    lengths: dict[str, npt.NDArray[np.int32]]
    statistics: dict[str, Statistics]
    records: dict[str, Records]
    skipped: tuple[str, ...]

    def dataset(
        self,
        spec: Callable[[int], DataSpec],
        decode: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    ) -> Dataset:
        """The dataset of these rows, in memory if they are few.

        Args:
          spec: from the steps of the longest sequence to the description.
          decode: from rows [n, ...] to frames [n, D] float32, or [n] int32; does not fall.
        """
        splits = []
        for name in SPLIT_NAMES:
            known = self.statistics[name]
            limits = decode(np.array([known.least, known.greatest], self.values[name].dtype))
            splits.append(
                Split(
                    name,
                    self.values[name],
                    self.lengths[name],
                    decode,
                    (float(limits.min()), float(limits.max())),
                    tuple(self.records[name].names),
                )
            )
        itemsize = decode(self.values["train"][:1]).dtype.itemsize
        if sum(split.values.size for split in splits) * itemsize <= IN_MEMORY_BYTES:
            splits = [split.in_memory() for split in splits]
        longest = max(int(split.lengths.max(initial=1)) for split in splits)
        known_data = spec(longest)
        notes = tuple(
            f"{known_data.name} {split.name}: {count} of {split.num_sequences} sequences "
            f"{'is' if count == 1 else 'are'} in the training data too, as the model sees them"
            for split in splits
            if (count := self.records[split.name].repeated)
        )
        return Dataset(known_data, splits[0], splits[1], splits[2], self.skipped, notes)


def store(
    name: str,
    builder: Any,
    form: str,
    rows: Rows,
    frame_shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    splits: Mapping[str, str] | None = None,
    advice: str = "give more or longer recordings, or a smaller step",
    feature: str = "",
) -> Stored:
    """Rows of a prepared dataset, written down on first use.

    Args:
      name: the dataset, for errors.
      builder: a prepared `tfds.core.DatasetBuilder` with the splits `SPLIT_NAMES`. Where
        `info.metadata` holds a list "skipped", it says which records were left out and why.
      form: names what `rows` makes of a record: a folder in that of the dataset.
      rows: from a record to its rows.
      frame_shape: of one row.
      dtype: of a row.
      splits: what the builder calls each split of `SPLIT_NAMES`, if otherwise.
      advice: what to do about a split without any row, the end of a sentence.
      feature: the one of a record that is read; empty: all.

    Raises:
      UserError: a split without any row.
    """
    folder = Path(builder.data_dir) / form
    if not folder.exists():
        names = splits or {split: split for split in SPLIT_NAMES}
        found = {split: records(builder, names[split], feature) for split in SPLIT_NAMES}
        folder = _write(folder, found, rows, frame_shape, dtype)
    text = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    about = folder / "records.json"  # earlier versions wrote none
    known = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    stored = Stored(
        {split: mapped(folder / f"{split}.values.npy") for split in SPLIT_NAMES},
        {split: np.load(folder / f"{split}.lengths.npy") for split in SPLIT_NAMES},
        {split: Statistics(**text[split]) for split in SPLIT_NAMES},
        {split: Records(*known.get(split, ([], []))) for split in SPLIT_NAMES},
        tuple((builder.info.metadata or {}).get("skipped", ())),
    )
    for split, lengths in stored.lengths.items():
        if not len(lengths):
            short = first_of(stored.records[split].too_short)
            raise UserError(
                f"split {split!r} of dataset {name!r} has no sequence of at least one step{short}: "
                f"{advice}"
            )
    return stored


def first_of(names: Sequence[str]) -> str:
    """The first of some names, in parentheses."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f" ({', '.join(names[:5])}{more})" if names else ""


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of an .npy file, of which only what is used is read."""
    try:
        values = np.load(path, mmap_mode="r")
    except ValueError:  # an empty file cannot be mapped
        return np.load(path)
    if hasattr(values.base, "madvise"):
        # Batches take a few rows here and there: reading on behind each takes 30 times as long.
        values.base.madvise(mmap.MADV_RANDOM)
    return values


_temporary: list[tempfile.TemporaryDirectory[str]] = []  # until the process ends


def _write(
    folder: Path,
    found: Mapping[str, Iterator[Record]],
    rows: Rows,
    frame_shape: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> Path:
    logging.info("writing sequences to %s (once)", folder)
    try:
        leftovers.remove_abandoned(folder.parent)
        staging = leftovers.staging_path(folder)
        staging.mkdir()
    except OSError as error:
        _temporary.append(tempfile.TemporaryDirectory(prefix="sequences-"))
        staging = Path(_temporary[-1].name)
        logging.warning(
            "%s cannot be written (%s): sequences are kept in %s until the program ends",
            folder.parent,
            error.strerror,
            staging,
        )
        folder = staging
    try:
        about: dict[str, Records] = {}
        statistics: dict[str, dict[str, float]] = {}
        trained_on = np.zeros(0, np.uint64)
        for split in SPLIT_NAMES:
            numbers, known, digests = _write_split(
                found[split], staging / split, rows, frame_shape, dtype
            )
            statistics[split] = numbers._asdict()
            about[split] = known._replace(repeated=int(np.isin(digests, trained_on).sum()))
            if split == "train":
                trained_on = digests
        (staging / "records.json").write_text(json.dumps(about), encoding="utf-8")
        (staging / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
        if staging != folder:
            with contextlib.suppress(OSError):  # another process was faster, which is as good
                os.rename(staging, folder)
    except OSError as error:
        if error.filename is None:  # a full disk names no place
            error.filename = os.fspath(folder)
        raise
    finally:
        if staging != folder:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write_split(
    found: Iterator[Record],
    path: Path,
    rows: Rows,
    frame_shape: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> tuple[Statistics, Records, npt.NDArray[np.uint64]]:
    """Writes the files `path` with endings; the last result has a number for each sequence."""
    digests = array.array("Q")
    lengths: list[int] = []
    names: list[str] = []
    too_short: list[str] = []
    count, total, squares, least, greatest = 0, 0.0, 0.0, math.inf, -math.inf
    with path.with_suffix(".values.npy").open("wb") as file:
        # A header leaves room for the steps, which are known in the end.
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (0, *frame_shape)}
        np.lib.format.write_array_header_1_0(file, header)
        start_of_values = file.tell()
        for record in found:
            values = np.ascontiguousarray(rows(record), dtype)
            name = record.get("name") if len(record) > 1 else None
            if isinstance(name, bytes):
                (names if len(values) else too_short).append(name.decode("utf-8"))
            if not len(values):
                continue
            lengths.append(len(values))
            digest = hashlib.blake2b(values.data, digest_size=8).digest()
            digests.append(int.from_bytes(digest, "big"))
            file.write(values.data)
            for start in range(0, len(values), _BLOCK):
                wide = values[start : start + _BLOCK].astype(np.float64)
                count += wide.size
                total += float(wide.sum())
                squares += float(np.square(wide).sum())
                # NaN stays NaN, which `min` of Python does not promise.
                least = float(np.minimum(least, wide.min()))
                greatest = float(np.maximum(greatest, wide.max()))
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (sum(lengths), *frame_shape)})
        if file.tell() != start_of_values:
            raise RuntimeError(f"the header of {path}.values.npy outgrew the room left for it")
    np.save(path.with_suffix(".lengths.npy"), np.array(lengths, np.int32))
    mean = total / max(count, 1)
    variance = max(squares / max(count, 1) - mean**2, 0.0)
    limits = (least, greatest) if count else (0.0, 0.0)
    statistics = Statistics(mean, variance**0.5, *limits)
    return statistics, Records(names, too_short), np.array(digests, np.uint64)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` returns, which `json` can write, from a file if it was made before.

    The file appears as a whole. Where none can be written it is made again the next time.
    """
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    made = make()
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryDirectory(prefix=".kept.", dir=path.parent) as staging,
    ):
        written = Path(staging) / path.name
        written.write_text(json.dumps(made), encoding="utf-8")
        os.replace(written, path)
    return made


def records(builder: Any, split: str, feature: str = "") -> Iterator[Record]:
    """The records of a split of a prepared `tfds.core.DatasetBuilder`, in their order.

    Args:
      builder: see above.
      split: its name.
      feature: the one that is read; empty: all.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # One file after the other: the order of the records.
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    only = tfds.decode.PartialDecoding({feature: True}) if feature else None
    found = builder.as_dataset(split=split, read_config=config, decoders=only)
    specs = tf.nest.flatten(found.element_spec)
    if not all(isinstance(s, tf.TensorSpec) and s.shape.is_fully_defined() for s in specs):
        yield from tfds.as_numpy(found)
        return
    # Records of equal shapes, such as texts and images, are many: some at once take less time.
    for some in tfds.as_numpy(found.batch(_RECORDS)):
        for k in range(len(tf.nest.flatten(some)[0])):
            yield tf.nest.map_structure(lambda values, k=k: values[k], some)
