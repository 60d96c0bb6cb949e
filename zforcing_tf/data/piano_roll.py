"""The dataset `piano_roll`: polyphonic music as the keys of a piano that sound in each step.

`--manual_dir` names what the user brings:

- a file of arrays, such as the published sets are kept in (`piano_arrays.read_arrays` says which);
- or a folder of MIDI files (`midi.read_midi` says how they become steps), which
  `file_splits.split_files` divides: by its folders train, valid and test, or 80/10/10 by rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data import midi, piano_arrays
from zforcing_tf.data.description import Music
from zforcing_tf.data.file_splits import Files, split_files
from zforcing_tf.data.own_files import (
    files_below,
    find_copies,
    fingerprint,
    folder_entries,
    given_path,
    skipping,
)
from zforcing_tf.data.piano_arrays import KEYS, LOWEST_KEY, Piece
from zforcing_tf.data.prepared import ordered_key, read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec
from zforcing_tf.data.stored import store
from zforcing_tf.errors import BadRecordError, UserError

_MIDI = "MIDI files (.mid, .midi)"
_WHAT = "a folder of MIDI files, or an npz or mat file of piano rolls"


@dataclasses.dataclass
class PianoRollConfig(tfds.core.BuilderConfig):
    """Which music, and how it becomes steps.

    Attributes:
      path: file or folder; empty for the manual folder of TensorFlow Datasets.
      steps_per_beat: of MIDI files.
      skip_bad_records: whether MIDI files that cannot be used are left out, and pieces of a file
        of arrays that have no step or hold other numbers than 0 and 1.
    """

    path: str = ""
    steps_per_beat: float = 2.0
    skip_bad_records: bool = False


class PianoRoll(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says how files become splits.

    Its metadata hold step_seconds, which for MIDI files is that of the median tempo of the training
    files; streams, of `piano_arrays.Corpus`; and skipped, the files left out, each with the reason.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Piano rolls of 88 keys."}
    BUILDER_CONFIGS = [PianoRollConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put MIDI files into the folder, or one npz or mat file of piano rolls."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Which of the 88 keys of a piano sound in each step of pieces of music.",
            features=tfds.features.FeaturesDict(
                {
                    "roll": tfds.features.Tensor(shape=(None, KEYS), dtype=np.uint8),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        path = Path(self.builder_config.path or dl_manager.manual_dir)
        found = _find(path)
        self.info.metadata["skipped"] = []
        if isinstance(found, Path):
            corpus = piano_arrays.read_arrays(found, self.builder_config.skip_bad_records)
            self.info.metadata.update(
                step_seconds=corpus.step_seconds,
                streams=corpus.streams,
                skipped=list(corpus.skipped),
            )
            return {
                split: self._generate_examples(corpus.splits[split], len(corpus.splits[split]))
                for split in SPLIT_NAMES
            }
        self.info.metadata.update(streams=False)
        # A piece that is in two splits would be known to a model before it is tested.
        copies = find_copies([file for split in SPLIT_NAMES for file in found[split]])
        if self.builder_config.skip_bad_records:
            found = self._without_bad(path, found, copies)
        return {
            split: self._generate_examples(self._read_files(path, split, files, copies), len(files))
            for split, files in found.items()
        }

    def _without_bad(self, folder: Path, found: Files, copies: dict[Path, Path]) -> Files:
        """The files of each split, divided again without those that cannot be used."""
        bad: dict[Path, str] = {}
        for file in (file for split in found.values() for file in split):
            try:
                self._read_file(file, copies)
            except BadRecordError as error:
                bad[file] = error.reason
                skipped = f"{file.relative_to(folder)}: {error.reason}"
                self.info.metadata["skipped"].append(skipped)
        return split_files(folder, midi.SUFFIXES, _MIDI, bad) if bad else found

    def _read_file(self, file: Path, copies: dict[Path, Path]) -> midi.MidiPiece:
        if file in copies:
            raise BadRecordError(file, f"is a copy of {copies[file]}", "leave one of them out")
        return midi.read_midi(file, self.builder_config.steps_per_beat)

    def _generate_examples(
        self, pieces: Iterable[Piece], count: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, piece in enumerate(pieces):
            yield ordered_key(index, count), piece._asdict()

    def _read_files(
        self, folder: Path, split: str, files: list[Path], copies: dict[Path, Path]
    ) -> Iterator[Piece]:
        """Pieces of a split; `copies` names files that hold the same as another one."""
        seconds_per_beat = []
        for file in files:
            piece = self._read_file(file, copies)
            seconds_per_beat.append(piece.seconds_per_beat)
            yield Piece(str(file.relative_to(folder)), piece.roll)
        if split == "train":
            step_seconds = float(np.median(seconds_per_beat)) / self.builder_config.steps_per_beat
            self.info.metadata["step_seconds"] = step_seconds


def _find(path: Path) -> Path | Files:
    """The file of arrays, or the MIDI files of each split."""
    if not path.is_dir():
        if path.suffix.lower() in midi.SUFFIXES:
            raise UserError(f"{path} is one MIDI file: give a folder of at least 3")
        return path
    files = files_below(path, midi.SUFFIXES)
    if files:
        return split_files(path, midi.SUFFIXES, _MIDI)
    arrays = [p for p in folder_entries(path) if p.suffix.lower() in piano_arrays.SUFFIXES]
    if not arrays:
        raise UserError(f"{path} holds no MIDI files (.mid, .midi): give {_WHAT}")
    if len(arrays) > 1:
        names = ", ".join(p.name for p in arrays)
        raise UserError(f"{path} holds no MIDI files but {names}: give the path of one of these")
    return arrays[0]


def load(config: DataConfig) -> Dataset:
    """Binary sequences of 88 keys, prepared on first use.

    Its name is `piano_roll/<file or folder>`, and for streams that with `_streams`: their scores
    are not those of single pieces.
    """
    path = given_path(config.manual_dir, "piano_roll", _WHAT)
    found = _find(path)
    if isinstance(found, Path):
        name, skip = found.stem, config.skip_bad_records
        builder_config = PianoRollConfig(
            name=fingerprint([found], *["skip_bad_records"] * skip), skip_bad_records=skip
        )
    else:
        name, files = path.name, [file for split in found.values() for file in split]
        builder_config = PianoRollConfig(
            name=fingerprint(files, config.steps_per_beat, skipping(config)),
            steps_per_beat=config.steps_per_beat,
            skip_bad_records=config.skip_bad_records,
        )
    builder_config.path = str(path)

    def read(builder: Any) -> Dataset:
        metadata = builder.info.metadata
        stored = store("piano_roll", builder, "rolls", _rows, (KEYS,), np.uint8)
        music = Music(LOWEST_KEY, float(metadata["step_seconds"]))
        full_name = f"piano_roll/{name}{'_streams' * bool(metadata['streams'])}"
        return stored.dataset(
            lambda longest: DataSpec(full_name, "binary", KEYS, longest, music=music), _decode
        )

    return read_prepared(
        "piano_roll",
        lambda root: PianoRoll(data_dir=root, config=builder_config),
        config.data_dir,
        read,
    )


def _rows(record: Any) -> npt.NDArray[np.uint8]:
    return record["roll"]


def _decode(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return rows.astype(np.float32)
