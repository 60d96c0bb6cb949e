"""Finds the utterances of a copy of TIMIT, and says what is wrong with it.

Copies differ: names in upper or lower case, one or two folders around it all, NIST SPHERE or RIFF
or both (SA1.WAV, SA1.WAV.wav, SA1.RIFF.WAV).
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from zforcing_tf.data.own_files import folder_entries
from zforcing_tf.data.recordings import SUFFIXES
from zforcing_tf.errors import UserError

FOLDERS = ("train", "test")
NUM_REGIONS = 8
_DEPTH = 3  # LDC93S1 holds timit/TRAIN, some copies data/lisa/data/timit/raw/TIMIT/TRAIN


class Utterance(NamedTuple):
    """One sentence of one speaker.

    Attributes:
      path: the recording.
      dialect_region: 1 to 8.
      speaker: such as fcjf0; the first letter is the sex.
      sentence: such as sa1.
    """

    path: Path
    dialect_region: int
    speaker: str
    sentence: str

    @property
    def key(self) -> str:
        """Tells it apart within its folder, in whatever copy."""
        return f"dr{self.dialect_region}/{self.speaker}/{self.sentence}"

    def read_text(self) -> str:
        """What was read, of the file .TXT beside it: "<first sample> <last sample> <words>"."""
        for path in sorted(self.path.parent.iterdir()):
            if path.name.lower() == f"{self.sentence}.txt":
                words = path.read_text(encoding="latin-1").split(maxsplit=2)
                return words[2].strip() if len(words) == 3 else ""
        return ""


def timit_root(folder: Path) -> Path:
    """The folder that holds TRAIN and TEST: this one, or one below.

    Raises:
      UserError: there is none.
    """
    level = [folder]
    for _ in range(_DEPTH):
        for path in level:
            names = {below.name.lower() for below in _folders(path)}
            if names.issuperset(FOLDERS):
                return path
        level = [below for path in level for below in _folders(path)]
    raise UserError(
        f"{folder} is no copy of TIMIT, for it has no folders TRAIN and TEST: give the folder that "
        "holds both"
    )


def find_utterances(root: Path) -> dict[str, list[Utterance]]:
    """All utterances of the folders `FOLDERS`, each once, sorted by key."""
    found: dict[str, list[Utterance]] = {}
    for name in FOLDERS:
        utterances: dict[str, Utterance] = {}
        for region, speaker, folder in _speakers(root, name):
            # Of two forms of one recording the one with the shorter name is that of the release.
            for path in sorted(
                folder_entries(folder), key=lambda path: (len(path.name), path.name)
            ):
                sentence = re.match(r"(s[aix]\d+)\.", path.name.lower())
                if sentence and path.suffix.lower() in SUFFIXES:
                    utterance = Utterance(path, region, speaker, sentence[1])
                    utterances.setdefault(utterance.key, utterance)
        found[name] = [utterances[key] for key in sorted(utterances)]
    return found


def complaints(
    root: Path,
    found: Mapping[str, list[Utterance]],
    speakers: Mapping[str, tuple[int, ...]],
    sentences: int,
) -> list[str]:
    """What is missing from a copy, or too much.

    Args:
      root: folder with `FOLDERS`.
      found: as of `find_utterances`.
      speakers: how many must be in each dialect region, by folder.
      sentences: how many each must have.
    """
    listed = _listed_speakers(root)
    faults = []
    for folder, expected in speakers.items():
        heard: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for region, speaker, _ in _speakers(root, folder):
            heard[region][speaker] += 0
        for utterance in found[folder]:
            heard[utterance.dialect_region][utterance.speaker] += 1
        for region, count in enumerate(expected, start=1):
            place = f"{folder.upper()}/DR{region}"
            here = heard[region]
            if len(here) != count:
                missing = sorted(listed.get((folder, region), set()) - here.keys())
                names = f" ({', '.join(missing)} missing)" if missing and here else ""
                faults.append(f"{place} has {len(here) or 'none'} of {count} speakers{names}")
            faults += [
                f"{place}/{speaker.upper()} has {number or 'none'} of {sentences} utterances"
                for speaker, number in sorted(here.items())
                if number != sentences
            ]
    return faults


def _folders(path: Path) -> list[Path]:
    return [below for below in folder_entries(path) if below.is_dir()]


def _speakers(root: Path, name: str) -> list[tuple[int, str, Path]]:
    """Dialect region, name and folder of each speaker of TRAIN or TEST."""
    return [
        (int(region.name[2]), speaker.name.lower(), speaker)
        for top in _folders(root)
        if top.name.lower() == name
        for region in _folders(top)
        if re.fullmatch(f"dr[1-{NUM_REGIONS}]", region.name.lower())
        for speaker in _folders(region)
        if re.fullmatch(r"[fm][a-z]{3}\d", speaker.name.lower())
    ]


def _listed_speakers(root: Path) -> dict[tuple[str, int], set[str]]:
    """Speakers by folder and dialect region, of DOC/SPKRINFO.TXT if that is there."""
    listed: dict[tuple[str, int], set[str]] = defaultdict(set)
    files = []
    for near in (root, root.parent):
        with contextlib.suppress(UserError):  # the copy does without
            for folder in (f for f in _folders(near) if f.name.lower() == "doc"):
                files += [p for p in folder_entries(folder) if p.name.lower() == "spkrinfo.txt"]
    for path in files:
        for line in path.read_text(encoding="latin-1").splitlines():
            fields = line.split()
            if len(fields) > 3 and re.fullmatch(r"\w{3}\d [FM] [1-8]", " ".join(fields[:3])):
                name = "train" if fields[3].upper() == "TRN" else "test"
                listed[name, int(fields[2])].add(f"{fields[1]}{fields[0]}".lower())
    return listed
