"""The dataset `blizzard`: audiobooks read by one speaker, of the Blizzard Challenge 2013.

It is licensed, so users bring it. Records are whole recordings (chapters); the half-second
sequences of the published experiments are pieces of these: at 16 kHz, 40 frames of 200 samples, as
`--chunk_length=40 --chunk_evaluation` cuts them. Several channels are mixed down.

Nobody here has seen the release. What programs that others published tell of it: there are folders
`segmented` (wav files of sentences, chosen from the books) and `unsegmented` (mp3 files of whole
chapters, below a folder for each book), and archives with some of the books as wav. So,

- if there is a folder called unsegmented at any depth, only recordings below such are taken: those
  of segmented are the same speech;
- of recordings that differ in their suffix only, wav goes before flac and that before mp3;
- two files of the same bytes are refused. One chapter as mp3 and, elsewhere, as wav of another name
  is not recognised: give a folder that has each chapter once.

The n recordings are sorted by their path within the folder and put into the order of
`numpy.random.RandomState(0).permutation(n)`: the last n // 20 are for test, the n // 20 before
these for validation. No chapter is in two splits. The published experiments took 2,040,064 /
112,640 / 114,176 half seconds, these being numbered in the order in which a folder listed the
recordings, which cannot be repeated. A folder with less than nine tenths of so much sound is
refused, as numbers of a part of the corpus are not those of the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.audio_folder import WHAT, AudioFolder, AudioFolderConfig, load_recordings
from zforcing_tf.data.file_splits import NOTHING, Files, split_by_rule
from zforcing_tf.data.own_files import files_below, given_path
from zforcing_tf.data.recordings import SUFFIXES, duration
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError

_FOLDER = "unsegmented"
_LEAST = 0.9
_PREFERRED = (".wav", ".flac", ".mp3")


class Blizzard(AudioFolder):
    """TFDS builder; the module says which recordings are taken, and for which split.

    Attributes:
      HALF_SECONDS: of sound there are in the release, by the published experiments.
    """

    HALF_SECONDS: ClassVar[int] = 2_040_064 + 112_640 + 114_176
    MIX_DOWN = True
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Whole recordings of one channel, 16 bits."}
    BUILDER_CONFIGS = [AudioFolderConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Accept the licence at "
        "http://www.cstr.ed.ac.uk/projects/blizzard/2013/lessac_blizzard2013/license.html, "
        "download the English audiobooks of the Blizzard Challenge 2013, and unpack them into the "
        "folder."
    )

    @staticmethod
    def find_files(folder: Path, without: Mapping[Path, str] = NOTHING) -> Files:
        """The recordings of each split, but for some that cannot be used."""
        files = [path for path in files_below(folder, SUFFIXES) if path not in without]
        what = WHAT + " that can be used" * bool(without)
        if not files:
            raise UserError(f"{folder} holds no {what}: {Blizzard.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        inside = [
            path
            for path in files
            if _FOLDER in (part.lower() for part in path.relative_to(folder).parts[:-1])
            or folder.name.lower() == _FOLDER
        ]
        return split_by_rule(folder, _each_once(inside or files), what, one_in=20)

    def check_files(self, folder: Path, files: Files) -> None:
        """Refuses a part of the release, by what the headers of recordings say."""
        seconds = [duration(path) for split in files.values() for path in split]
        found = int(2 * sum(known for known in seconds if known is not None))
        if found < _LEAST * self.HALF_SECONDS:
            unknown = seconds.count(None)
            more = f" (of {unknown} more recordings the header cannot be read)" * bool(unknown)
            raise UserError(
                f"{folder} is no complete copy of the Blizzard Challenge 2013: its {len(seconds)} "
                f"recordings have {found:,} half seconds{more}, and the published experiments "
                f"{self.HALF_SECONDS:,}: add what is missing, or take what there is as any other "
                "recordings, with --dataset=audio_folder"
            )


def _each_once(files: list[Path]) -> list[Path]:
    order = {suffix: k for k, suffix in enumerate((*_PREFERRED, *SUFFIXES))}
    best: dict[Path, Path] = {}
    for path in sorted(files, key=lambda path: order[path.suffix.lower()], reverse=True):
        best[path.with_suffix("")] = path
    return list(best.values())


def load(config: DataConfig) -> Dataset:
    """Frames of sound, prepared on first use."""
    path = given_path(config.manual_dir, "blizzard", "the folder of the Blizzard Challenge 2013")
    if not path.is_dir():
        raise UserError(f"--manual_dir={path} is one file: give the folder of the recordings")
    dataset = load_recordings(Blizzard, path, config, title="blizzard")
    frames = sum(split.num_frames for split in dataset.splits)
    sound = dataset.spec.sound
    seconds = frames * config.frame_size / (sound.sample_rate if sound else 1)
    return dataclasses.replace(
        dataset,
        notes=(
            *dataset.notes,
            f"blizzard: {int(2 * seconds):,} half seconds in whole frames; the published "
            f"experiments had {Blizzard.HALF_SECONDS:,}",
        ),
    )
