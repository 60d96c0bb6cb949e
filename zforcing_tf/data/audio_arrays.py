"""Recordings in npz files, as small corpora are kept.

No array is ever unpickled: that would run whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.recordings import Samples
from zforcing_tf.data.spec import SPLIT_NAMES
from zforcing_tf.errors import UserError

_STORED = ("train", "valid", "test")


class ArrayRecordings(NamedTuple):
    """Recordings by split, each with a name; their rate, 0 if the file does not say; what is bad.

    That is what was left out, each with the reason.
    """

    splits: dict[str, list[tuple[str, Samples]]]
    sample_rate: int
    skipped: list[str]


def read_npz(path: Path, skip_bad: bool = False) -> ArrayRecordings:
    """Reads one of two layouts.

    - audio, all samples one recording after the other, `[sum(length)] int16`; length, the samples
      of each; split, 0, 1 or 2 of each for training, validation and test; rate, if it is there.
    - train, valid and test, each `[recordings, samples] int16`; rate, if it is there.

    Args:
      path: of the file.
      skip_bad: whether recordings without samples are left out, rather than refused.

    Raises:
      UserError: the file is damaged, pickled, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                name: np.asarray(file[name])
                for name in ("audio", "length", "split", "rate", *_STORED)
                if name in file.files
            }
    except Exception as error:  # of zipfile, zlib or numpy: whatever a damaged file leads to
        raise UserError(
            f"{path} cannot be read as an npz file of plain arrays ({error}): make it anew with "
            "numpy.savez, without objects"
        ) from error
    rate = _rate(path, arrays.get("rate", np.zeros(0)))
    if arrays.keys() >= {"audio", "length", "split"}:
        rows = list(_joined(path, arrays))
    elif arrays.keys() >= set(_STORED):
        rows = [(k, row) for k, name in enumerate(_STORED) for row in _table(path, name, arrays)]
    else:
        raise UserError(
            f"{path} holds neither the arrays audio, length and split nor train, valid and test: "
            "give a file that does, or a folder of recordings"
        )
    splits: dict[str, list[tuple[str, Samples]]] = {split: [] for split in SPLIT_NAMES}
    skipped: list[str] = []
    for index, (k, samples) in enumerate(rows):
        if not len(samples):
            if not skip_bad:
                raise UserError(
                    f"recording {index} of {path} (counted from 0) has no samples: leave it out, "
                    "or have such recordings left out with --skip_bad_records"
                )
            skipped.append(f"{path.name}[{index}]: has no samples")
            continue
        splits[SPLIT_NAMES[k]].append((f"{path.name}[{index}]", samples))
    for split, recordings in splits.items():
        if not recordings:
            left_out = f" that can be used ({skipped[-1]})" if skipped else ""
            raise UserError(
                f"{path} has no recording of split {split!r}{left_out}: give at least one"
            )
    return ArrayRecordings(splits, rate, skipped)


def _rate(path: Path, given: npt.NDArray[Any]) -> int:
    if not given.size:
        return 0
    number = given.size == 1 and given.dtype.kind in "iuf"
    if not number or not 0 < (rate := float(given.reshape(-1)[0])) < 2**31 or rate % 1:
        raise UserError(
            f"rate of {path} is {given.reshape(-1)[:3].tolist()}: give one whole number, the "
            "samples a second, or leave it out"
        )
    return int(rate)


def _joined(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[int, Samples]]:
    audio, lengths, split = (arrays[name] for name in ("audio", "length", "split"))
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise UserError(
            f"audio of {path} is {audio.dtype} of shape {list(audio.shape)}: give int16 samples "
            "of all recordings, one after the other"
        )
    good = lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths >= 0).all()
    if not good or int(lengths.sum()) != len(audio):
        raise UserError(
            f"length of {path} does not fit its {len(audio)} samples: give the samples of each "
            "recording, which sum to that"
        )
    if split.shape != lengths.shape or not np.isin(split, (0, 1, 2)).all():
        raise UserError(f"split of {path} is not 0, 1 or 2 for each of {len(lengths)} recordings")
    pieces = np.split(audio, np.cumsum(lengths)[:-1])
    yield from zip(split.tolist(), pieces, strict=True)


def _table(path: Path, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int16]:
    table = arrays[name]
    if table.dtype != np.int16 or table.ndim != 2:
        raise UserError(
            f"{name} of {path} is {table.dtype} of shape {list(table.shape)}: give int16 "
            "[recordings, samples]"
        )
    return table
