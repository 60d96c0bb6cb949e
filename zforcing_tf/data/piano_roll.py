"""The dataset `piano_roll`: polyphonic music as the keys of a piano that sound in each step.

`--manual_dir` names a file of arrays (`piano_arrays.read_arrays` says which).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.description import Music
from zforcing_tf.data.own_files import fingerprint, given_path
from zforcing_tf.data.piano_arrays import KEYS, LOWEST_KEY, Piece, read_arrays
from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec
from zforcing_tf.data.stored import store

_WHAT = "an npz or mat file of piano rolls"


@dataclasses.dataclass
class PianoRollConfig(tfds.core.BuilderConfig):
    """Which music.

    Attributes:
      path: file.
    """

    path: str = ""


class PianoRoll(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of one file; without a `PianoRollConfig` of what the manual folder holds."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Piano rolls of 88 keys."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {_WHAT} into the folder."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Which of the 88 keys of a piano sound in each step of pieces of music.",
            features=tfds.features.FeaturesDict(
                {
                    "roll": tfds.features.Tensor(
                        shape=(None, KEYS), dtype=np.uint8, encoding=tfds.features.Encoding.ZLIB
                    ),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        path = Path(self.builder_config.path if self.builder_config else dl_manager.manual_dir)
        corpus = read_arrays(path)
        self.info.metadata["step_seconds"] = corpus.step_seconds
        return {split: self._generate_examples(corpus.splits[split]) for split in SPLIT_NAMES}

    def _generate_examples(self, pieces: list[Piece]) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, piece in enumerate(pieces):
            yield key, piece._asdict()


def load(config: DataConfig) -> Dataset:
    """Binary sequences of 88 keys, prepared on first use."""
    path = given_path(config.manual_dir, "piano_roll", _WHAT)
    builder_config = PianoRollConfig(name=fingerprint([path]), path=str(path))

    def read(builder: Any) -> Dataset:
        stored = store("piano_roll", builder, "rolls", _rows, (KEYS,), np.uint8)
        music = Music(LOWEST_KEY, float(builder.info.metadata["step_seconds"]))
        name = f"piano_roll/{path.stem}"
        return stored.dataset(
            lambda longest: DataSpec(name, "binary", KEYS, longest, music=music), _decode
        )

    return read_prepared(
        "piano_roll",
        lambda root: PianoRoll(data_dir=root, config=builder_config),
        config.data_dir,
        read,
        advice="see that the folder can be written and has room, or choose another --data_dir",
    )


def _rows(record: Any) -> npt.NDArray[np.uint8]:
    return record["roll"]


def _decode(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return rows.astype(np.float32)
