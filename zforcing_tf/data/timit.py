"""The dataset `timit`: 6,300 read sentences of 630 speakers, from the LDC's release LDC93S1.

It is licensed, so users bring it. The test split is the 1,680 utterances of TEST; of the 4,620 of
TRAIN, 231 are for validation and 4,389 for training. Those sentences that all speakers read (sa1,
sa2) are part of all splits, as in the published experiments on raw speech.

Which 231, these never said in a way that can be repeated (their lists came from the order of a
folder). Here: the keys <dialect region>/<speaker>/<sentence> in lower case, such as dr1/fcjf0/sa1,
are sorted, and the first 231 of `numpy.random.RandomState(0).permutation(4620)` are taken.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.own_files import given_path, status
from zforcing_tf.data.prepared import ordered_key, read_prepared
from zforcing_tf.data.recordings import RecordingReader
from zforcing_tf.data.sound_frames import SAMPLES, sound_dataset
from zforcing_tf.data.spec import Dataset
from zforcing_tf.data.timit_files import Utterance, complaints, find_utterances, timit_root
from zforcing_tf.errors import UserError

SAMPLE_RATE = 16000
_INSTRUCTIONS = (
    "TIMIT is sold by the Linguistic Data Consortium as LDC93S1 "
    "(https://catalog.ldc.upenn.edu/LDC93S1). Unpack it and give the folder that holds the folders "
    "TRAIN and TEST."
)


@dataclasses.dataclass
class TimitConfig(tfds.core.BuilderConfig):
    """How to prepare TIMIT.

    Attributes:
      skip_bad_records: whether utterances that cannot be read are left out. They must be there.
    """

    skip_bad_records: bool = False


class Timit(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says which utterances are in which split.

    Attributes:
      SPEAKERS: how many there must be in each dialect region, 1 to 8, by folder.
      SENTENCES: how many each must have read.
      NUM_VALIDATION: training utterances that are taken for validation.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "4,389 training, 231 validation and 1,680 test utterances."}
    BUILDER_CONFIGS = [TimitConfig(name="complete")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

    SPEAKERS: ClassVar[dict[str, tuple[int, ...]]] = {
        "train": (38, 76, 76, 68, 70, 35, 77, 22),
        "test": (11, 26, 26, 32, 28, 11, 23, 11),
    }
    SENTENCES: ClassVar[int] = 10
    NUM_VALIDATION: ClassVar[int] = 231

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Read sentences of American English, 16 kHz, 16 bits.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(**SAMPLES),
                    "name": tfds.features.Text(),
                    "speaker": tfds.features.Text(),
                    "sex": tfds.features.ClassLabel(names=["f", "m"]),
                    "dialect_region": np.int32,
                    "sentence": tfds.features.Text(),
                    "text": tfds.features.Text(doc="Empty if the copy has no text files."),
                }
            ),
            homepage="https://catalog.ldc.upenn.edu/LDC93S1",
            metadata=tfds.core.MetadataDict(sample_rate=SAMPLE_RATE),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        root = timit_root(Path(dl_manager.manual_dir))
        found = find_utterances(root)
        faults = complaints(root, found, self.SPEAKERS, self.SENTENCES)
        if faults:
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise UserError(
                f"{root} is no complete copy of TIMIT: {'; '.join(faults[:5])}{more}: copy it anew "
                "from the release LDC93S1"
            )
        skip = self.builder_config.skip_bad_records
        reader = RecordingReader(root, SAMPLE_RATE, skip, resample=False)
        self.info.metadata["files"] = _identity(root, found)
        reader.refuse_copies([utterance.path for split in found.values() for utterance in split])
        self.info.metadata["skipped"] = reader.skipped
        order = np.random.RandomState(0).permutation(len(found["train"]))
        splits = {
            "train": [found["train"][k] for k in sorted(order[self.NUM_VALIDATION :])],
            "validation": [found["train"][k] for k in sorted(order[: self.NUM_VALIDATION])],
            "test": found["test"],
        }
        return {
            split: self._generate_examples(split, reader, utterances)
            for split, utterances in splits.items()
        }

    def _generate_examples(
        self, split: str, reader: RecordingReader, utterances: list[Utterance]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        by_path = {utterance.path: utterance for utterance in utterances}
        for index, (path, samples) in enumerate(reader.read(split, by_path)):
            utterance = by_path[path]
            yield (
                ordered_key(index, len(utterances)),
                {
                    "audio": samples,
                    "name": utterance.key,
                    "speaker": utterance.speaker,
                    "sex": utterance.speaker[0],
                    "dialect_region": utterance.dialect_region,
                    "sentence": utterance.sentence,
                    "text": utterance.read_text(),
                },
            )


def _identity(root: Path, found: Mapping[str, list[Utterance]]) -> str:
    """A sum that changes with the files of a copy: their places within it, and sizes."""
    digest = hashlib.sha256()
    for utterances in found.values():
        for utterance in utterances:
            place = utterance.path.relative_to(root).as_posix()
            digest.update(f"{place}\0{status(utterance.path).st_size}\0".encode())
    return digest.hexdigest()


def _check_identity(folder: Path, builder: Any) -> None:
    """Refuses a folder that is not what was prepared; of earlier versions that is not known."""
    known = (builder.info.metadata or {}).get("files")
    if known is None:
        return
    root = timit_root(folder)
    if known != _identity(root, find_utterances(root)):
        raise UserError(
            f"--manual_dir={folder} holds other files than those that the dataset 'timit' was "
            "prepared from: give --manual_dir= (nothing) to use what is prepared; or to prepare "
            f"it anew delete the prepared records, {builder.data_dir}, and run again"
        )


def load(config: DataConfig) -> Dataset:
    """Frames of sound, prepared on first use; `--manual_dir` is not needed after that."""
    folder: Path | None = None
    if config.manual_dir:
        folder = given_path(config.manual_dir, "timit", "the folder of the release LDC93S1")
        if not folder.is_dir():
            raise UserError(f"--manual_dir={folder} is one file: {_INSTRUCTIONS.rstrip('.')}")
    builder_config = None
    if config.skip_bad_records:
        builder_config = TimitConfig(name="skip_bad_records", skip_bad_records=True)

    def read(builder: Any) -> Dataset:
        if folder is not None:
            _check_identity(folder, builder)
        return sound_dataset("timit", builder, config)

    return read_prepared(
        "timit",
        lambda root: Timit(data_dir=root, config=builder_config),
        config.data_dir,
        read,
        advice=f"give your copy with --manual_dir. {_INSTRUCTIONS.rstrip('.')}",
        manual_dir=config.manual_dir,
    )
