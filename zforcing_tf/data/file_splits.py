"""Which of a user's files are for training, validation and test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from zforcing_tf.data.own_files import files_below, folder_entries
from zforcing_tf.data.spec import SPLIT_NAMES
from zforcing_tf.errors import UserError

_FOLDERS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}

Files = dict[str, list[Path]]
"""Files of each split of `SPLIT_NAMES`."""


NOTHING: Mapping[Path, str] = MappingProxyType({})


def split_files(
    folder: Path, suffixes: Collection[str], what: str, without: Mapping[Path, str] = NOTHING
) -> Files:
    """The files below a folder by split: by its folders, or by rule.

    If there are folders called train, valid (or validation or dev) and test, in whatever case, the
    files below them are the splits, and all others are left. Without any see `split_by_rule`.

    Args:
      folder: where to look.
      suffixes: of the files, in lower case and with the dot.
      what: what such a file is, in the plural, such as "recordings (wav, flac)".
      without: files that cannot be used, each with the reason: what is divided by rule is the
        others.

    Raises:
      UserError: too few files; one of the three folders is missing, or has no file.
    """
    what += " that can be used" * bool(without)
    given: dict[str, list[Path]] = {}
    for path in folder_entries(folder):
        if path.is_dir() and path.name.lower() in _FOLDERS:
            given.setdefault(_FOLDERS[path.name.lower()], []).append(path)
    if not given:
        files = [path for path in files_below(folder, suffixes) if path not in without]
        return split_by_rule(folder, files, what)
    found: Files = {}
    for split in SPLIT_NAMES:
        names = [name for name, meant in _FOLDERS.items() if meant == split]
        files = [p for below in given.get(split, ()) for p in files_below(below, suffixes)]
        found[split] = [path for path in files if path not in without]
        if not found[split]:
            others = f" (or {' or '.join(names[1:])})" * (len(names) > 1)
            state = "has no" if split in given else "is missing, so there are no"
            bad = next((f" ({path}: {without[path]})" for path in files if path in without), "")
            raise UserError(
                f"of the folders train, valid and test of {folder}, {names[0]}{others} {state} "
                f"{what}{bad}: give some in each, or rename the folders to have all files split by "
                "rule"
            )
    return found


def split_by_rule(folder: Path, files: Sequence[Path], what: str, one_in: int = 10) -> Files:
    """Splits n files, always alike: one in ten for test and as many for validation.

    They are sorted by their path within the folder and put into the order of
    `numpy.random.RandomState(0).permutation(n)`, which numpy has frozen; the last n // one_in (at
    least one) are for test, the n // one_in (at least one) before these for validation.

    Raises:
      UserError: fewer than 3 files.
    """
    if len(files) < 3:
        raise UserError(
            f"{folder} holds {len(files) or 'no'} {what}: give at least 3, one for each of "
            "training, validation and test"
        )
    files = sorted(files, key=lambda path: path.relative_to(folder).as_posix())
    parts = parts_by_rule(len(files), one_in)
    return {split: [files[k] for k in part] for split, part in parts.items()}


def parts_by_rule(count: int, one_in: int = 10) -> dict[str, list[int]]:
    """Which of `count` things, at least 3, are in each split; see `split_by_rule`."""
    held_out = max(1, count // one_in)
    order = np.random.RandomState(0).permutation(count)
    parts = np.split(order, [-2 * held_out, -held_out])
    return {split: sorted(part.tolist()) for split, part in zip(SPLIT_NAMES, parts, strict=True)}
