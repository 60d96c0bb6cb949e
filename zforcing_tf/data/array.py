"""The dataset `array`: sequences in an npz or npy file of the user's.

`--manual_dir` names the file. `array_layouts.read_splits` says which arrays it may hold; one array
is split 80/10/10 by sequence: the n sequences are put into the order of
`numpy.random.RandomState(0).permutation(n)`, the last n // 10 (at least one) are the test split,
the n // 10 (at least one) before these the validation split.

Integers are symbols, booleans (or 8 bits, all 0 or 1) zeros and ones; floating-point numbers are
taken as they are, in their own units. No array is ever unpickled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.array_layouts import LAYOUT, SequenceArray, read_splits
from zforcing_tf.data.number_frames import DTYPES, fault, number_dataset
from zforcing_tf.data.own_files import fingerprint, folder_entries, given_path, skipping
from zforcing_tf.data.prepared import ordered_key, read_prepared
from zforcing_tf.data.spec import DataKind, Dataset
from zforcing_tf.data.stored import Record, store
from zforcing_tf.errors import UserError

_SUFFIXES = (".npz", ".npy")
Example = tuple[int, dict[str, Any]]


@dataclasses.dataclass
class ArrayConfig(tfds.core.BuilderConfig):
    """Which sequences.

    Attributes:
      path: file; empty for the one in the manual folder of TensorFlow Datasets.
      feature: name of the array that is split; empty: see `read_splits`.
      skip_bad_records: whether sequences that cannot be used are left out.
    """

    path: str = ""
    feature: str = ""
    skip_bad_records: bool = False


class Array(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says how arrays become splits.

    A record holds numbers or symbols, and nothing of the other. The metadata hold kind and
    frame_size, of `DataSpec`, and skipped: the sequences left out, each with the reason.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Sequences of numbers or symbols."}
    BUILDER_CONFIGS = [ArrayConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put one file into the folder: {LAYOUT}."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Sequences from arrays that the user brings.",
            features=tfds.features.FeaturesDict(
                {
                    "numbers": tfds.features.Tensor(
                        shape=(None, None), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
                    ),
                    "symbols": tfds.features.Tensor(
                        shape=(None,), dtype=np.int32, encoding=tfds.features.Encoding.BYTES
                    ),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        config = self.builder_config
        path = _find(Path(config.path or dl_manager.manual_dir))
        found = read_splits(path, config.feature, fault if config.skip_bad_records else None)
        self.info.metadata.update(kind=found.kind, frame_size=found.frame_size, skipped=[])
        return {
            split: self._generate_examples(path, split, found.kind, array, indices)
            for split, (array, indices) in found.parts.items()
        }

    def _generate_examples(
        self, path: Path, split: str, kind: DataKind, array: SequenceArray, indices: Sequence[int]
    ) -> Iterator[Example]:
        left = 0
        for place, index in enumerate(indices):
            rows = array.rows(index)
            wrong = array.wrong.get(index) or fault(rows, kind)
            if not wrong:
                left += 1
                numbers, symbols = (rows[:0], rows[:, 0]) if kind == "symbol" else (rows, [])
                yield (
                    ordered_key(place, len(indices)),
                    {
                        "numbers": numbers.astype(np.float32),
                        "symbols": np.asarray(symbols, np.int32),
                    },
                )
                continue
            sequence = f"sequence {index} of {array.where}"
            if not self.builder_config.skip_bad_records:
                raise UserError(
                    f"{sequence} {wrong} (counted from 0): repair it, or have such sequences "
                    "left out with --skip_bad_records"
                )
            self.info.metadata["skipped"].append(f"{path.name}: {sequence} {wrong}")
        if not left:
            raise UserError(
                f"{path} has no sequence of split {split!r} that can be used: repair it"
            )


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in folder_entries(path) if file.suffix.lower() in _SUFFIXES)
    if len(files) != 1:
        raise UserError(
            f"{path} holds {len(files) or 'no'} files of arrays (npz, npy): give the path of one"
        )
    return files[0]


def load(config: DataConfig) -> Dataset:
    """Sequences as they are, prepared on first use. Its name is `array/<file>`."""
    path = _find(given_path(config.manual_dir, "array", LAYOUT))
    builder_config = ArrayConfig(
        name=fingerprint([path], config.feature, skipping(config)),
        path=str(path),
        feature=config.feature,
        skip_bad_records=config.skip_bad_records,
    )

    def read(builder: Any) -> Dataset:
        kind: DataKind = builder.info.metadata["kind"]
        frame_size = int(builder.info.metadata["frame_size"])

        def rows(record: Record) -> npt.NDArray[Any]:
            return record["symbols" if kind == "symbol" else "numbers"]

        shape = () if kind == "symbol" else (frame_size,)
        stored = store("array", builder, "frames", rows, shape, DTYPES[kind])
        return number_dataset(
            stored,
            f"array/{path.stem}",
            kind,
            frame_size,
            vocabulary_size=config.vocabulary_size,
        )

    return read_prepared(
        "array",
        lambda root: Array(data_dir=root, config=builder_config),
        config.data_dir,
        read,
    )
