"""Piano rolls in files of arrays, as the published experiments keep them.

No file is ever unpickled: that would run whatever it holds.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.own_files import unreadable
from zforcing_tf.data.spec import SPLIT_NAMES
from zforcing_tf.errors import UserError

KEYS = 88
LOWEST_KEY = 21
SUFFIXES = (".npz", ".mat")

SRNN_STREAMS = 16
"""Streams that run side by side through a split in the preparation of SRNN: its batch."""
SRNN_CHUNK = 100
"""Steps of these that an update sees."""

Roll = npt.NDArray[np.uint8]
"""Which keys sound in each step: [T, 88], zeros and ones."""
Arrays = Mapping[str, npt.NDArray[Any]]

_STORED = ("train", "valid", "test")
_CELLS = ("traindata", "validdata", "testdata")
_SRNN = ("u_train", "x_train", "u_valid", "x_valid", "u_test", "x_test", "mask_test")
_PICKLED = (
    "which is never unpickled, as that could run anything: save plain arrays with numpy.savez"
)
_LAYOUTS = (
    "train, train_len, valid, valid_len, test, test_len (rolls), or train, valid, test, test_len "
    f"(streams), or {', '.join(_SRNN)}"
)


class Piece(NamedTuple):
    """One sequence.

    Attributes:
      name: tells it apart within the file.
      roll: see `Roll`.
    """

    name: str
    roll: Roll


class Corpus(NamedTuple):
    """All sequences of a file.

    Attributes:
      splits: by the names `SPLIT_NAMES`.
      step_seconds: duration of a step.
      streams: whether training and validation are streams into which pieces are joined.
      skipped: pieces left out because they were bad, each with the reason.
    """

    splits: dict[str, list[Piece]]
    step_seconds: float
    streams: bool = False
    skipped: Sequence[str] = ()


def read_arrays(path: Path, skip_bad: bool = False) -> Corpus:
    """Reads an npz or mat file of piano rolls; the names of its arrays say how they are laid out.

    - `{train,valid,test}`, the rolls of a split one after the other, `[sum T, 88]` zeros and ones
      or `[sum T, 11]` their bits as `numpy.packbits(..., axis=1)` gives them, and
      `{train,valid,test}_len`, the frames of each piece.
    - The same without `train_len` and `valid_len`: what SRNN was trained on, each of these splits
      being one stream into which all pieces are joined. Training ran through it at 16 places side
      by side, 100 steps at once. So there are 16 sequences, of a multiple of 100 steps and one
      more: the last frame of each, which is predicted, is the first of the next, which is not.
      Test pieces are as they are.
    - `u_train, x_train, u_valid, x_valid, u_test, x_test, mask_test`: the file of SRNN itself.
    - `traindata, validdata, testdata` of a mat file: the cells of Boulanger-Lewandowski et al.

    A step of the preparation of Boulanger-Lewandowski et al. is an eighth note, of JSB Chorales (a
    file whose name begins with jsb) a quarter note; they are taken to last 1/4 and 1/2 seconds. A
    step of SRNN's lasts 0.3 seconds.

    Args:
      path: of the file.
      skip_bad: whether pieces that have no step, or hold something else than zeros and ones, are
        left out, rather than refused. A stream is one whole: it is refused all the same.

    Raises:
      UserError: the file cannot be read, is pickled, or holds something else; names the array.
    """
    corpus = _read(path)
    splits: dict[str, list[Piece]] = {}
    skipped: list[str] = []
    for split, pieces in corpus.splits.items():
        splits[split] = []
        for piece in pieces:
            reason, whole = _fault(piece.roll), corpus.streams and split != "test"
            if reason and (whole or not skip_bad):
                more = "" if whole else ", or have such pieces left out with --skip_bad_records"
                raise UserError(
                    f"{piece.name} of {path} {reason} (counted from 0): give zeros and ones{more}"
                )
            if reason:
                skipped.append(f"{path.name}: {piece.name} {reason}")
            else:
                splits[split].append(Piece(piece.name, piece.roll.astype(np.uint8)))
        if not splits[split]:
            raise UserError(
                f"{path} has no piece of split {split!r} that can be used ({skipped[-1]}): mend it"
            )
    return corpus._replace(splits=splits, skipped=skipped)


def _fault(roll: npt.NDArray[Any]) -> str:
    """The first number that is neither 0 nor 1, if there is any, for the middle of a sentence."""
    if not len(roll):
        return "has no step"
    good = (roll == 0) | (roll == 1)
    if good.all():
        return ""
    row, column = np.unravel_index(int(np.argmin(good)), good.shape)
    return f"holds {roll[row, column]} in step {row}"


def _read(path: Path) -> Corpus:
    """The file's pieces as they are, whatever numbers they hold."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error
    if path.suffix.lower() == ".mat":
        return Corpus(_cells(path, _read_mat(path)), _eighth_or_quarter(path))
    arrays = _read_npz(path)
    if "u_train" in arrays:
        return Corpus(_srnn_chunks(path, arrays), 0.3, streams=True)
    _require(path, arrays, (*_STORED, "test_len"), _LAYOUTS)
    if "train_len" in arrays or "valid_len" in arrays:
        _require(path, arrays, ("train_len", "valid_len"), _LAYOUTS)
        return Corpus(_splits(lambda name: _pieces(path, arrays, name)), _eighth_or_quarter(path))

    def read(name: str) -> list[Piece]:
        if name == "test":
            return _pieces(path, arrays, name)
        return _streams(path, name, _rows(path, name, arrays[name]))

    return Corpus(_splits(read), 0.3, streams=True)


def _splits(read: Callable[[str], list[Piece]]) -> dict[str, list[Piece]]:
    return {split: read(name) for split, name in zip(SPLIT_NAMES, _STORED, strict=True)}


def _eighth_or_quarter(path: Path) -> float:
    return 0.5 if path.name.lower().startswith("jsb") else 0.25


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        begins = file.read(1)
    if path.suffix.lower() in (".pickle", ".pkl") or begins == b"\x80":
        raise UserError(f"{path} is a pickled file, {_PICKLED}")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is no npz file: give one with the arrays {_LAYOUTS}; a mat file; or a folder "
            "of MIDI files"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: _plain(path, archive, name) for name in archive.files}
    except UserError:
        raise
    except Exception as error:  # of zipfile, zlib or numpy: whatever a damaged file leads to
        raise UserError(f"{path} is damaged ({error}): copy or make it anew") from error


def _plain(path: Path, archive: Any, name: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(f"array {name!r} of {path} is pickled, {_PICKLED}") from None
    if not isinstance(array, np.ndarray):  # another file of the zip
        raise UserError(f"{name!r} of {path} is no array: save it anew with numpy.savez")
    return array


def _read_mat(path: Path) -> Arrays:
    from scipy import io

    try:
        arrays: Arrays = io.loadmat(path, variable_names=_CELLS)
    except Exception as error:  # of zlib, numpy or scipy, which have their own for each fault
        raise UserError(
            f"{path} cannot be read as a mat file ({error}): copy it anew, or save it in the "
            "format of MATLAB 7 or before"
        ) from error
    return arrays


def _require(path: Path, arrays: Arrays, names: Iterable[str], layouts: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks the array{'s' * (len(missing) > 1)} {', '.join(missing)}: give a file "
            f"with the arrays {layouts}"
        )


def _cells(path: Path, arrays: Arrays) -> dict[str, list[Piece]]:
    _require(path, arrays, _CELLS, ", ".join(_CELLS))

    def read(name: str) -> list[Piece]:
        cells = arrays[f"{name}data"]
        if cells.dtype != object or not cells.size:
            raise UserError(f"{name}data of {path} holds no cells: give a cell with each roll")
        return [
            Piece(piece, _rows(path, piece, np.asarray(cell), packed=False))
            for k, cell in enumerate(cells.ravel())
            for piece in (f"{name}data[{k}]",)
        ]

    return _splits(read)


def _pieces(path: Path, arrays: Arrays, name: str) -> list[Piece]:
    """Pieces of known lengths that lie one after the other."""
    rows, lengths = _rows(path, name, arrays[name]), arrays[f"{name}_len"]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not lengths.size or min(lengths) < 0:
        raise UserError(f"{name}_len of {path} is no list of lengths: give the frames of each")
    if int(lengths.sum()) != len(rows):
        raise UserError(
            f"the lengths {name}_len of {path} sum to {int(lengths.sum())}, but {name} has "
            f"{len(rows)} rows: give the frames of each piece of exactly these rows"
        )
    rolls = np.split(rows, np.cumsum(lengths)[:-1])
    return [Piece(f"{name}[{k}]", roll) for k, roll in enumerate(rolls)]


def _streams(path: Path, name: str, rows: npt.NDArray[Any]) -> list[Piece]:
    """16 equal parts of a stream; the last frame of each is the first of the next."""
    steps = (len(rows) - 1) // (SRNN_STREAMS * SRNN_CHUNK) * SRNN_CHUNK
    if steps < 1:
        raise UserError(
            f"{name} of {path} has {len(rows)} rows, too few for {SRNN_STREAMS} streams of "
            f"{SRNN_CHUNK} steps: give {name}_len with the frames of each piece, or "
            f"{SRNN_STREAMS * SRNN_CHUNK + 1} rows or more"
        )
    return [
        Piece(f"{name}[{start}:{start + steps + 1}]", rows[start : start + steps + 1])
        for start in range(0, SRNN_STREAMS * steps, steps)
    ]


def _srnn_chunks(path: Path, arrays: Arrays) -> dict[str, list[Piece]]:
    """The file of SRNN: inputs u and targets x a frame apart; chunk i + 16 continues chunk i."""
    _require(path, arrays, _SRNN, _LAYOUTS)

    def read(name: str) -> list[Piece]:
        u, x = arrays[f"u_{name}"], arrays[f"x_{name}"]
        if u.shape != x.shape or u.ndim != 3 or not u.size or u.shape[2] != KEYS:
            raise UserError(
                f"u_{name} and x_{name} of {path} have the shapes {list(u.shape)} and "
                f"{list(x.shape)}: both must be [chunks, steps, {KEYS}]"
            )
        if name == "test":
            return _masked(path, u, x, arrays["mask_test"])
        if len(u) % SRNN_STREAMS:
            raise UserError(
                f"u_{name} of {path} has {len(u)} chunks, no multiple of {SRNN_STREAMS}: give the "
                "file as SRNN was trained on it"
            )
        return [
            _joined(
                path,
                f"{name}[{start}::{SRNN_STREAMS}]",
                u[start::SRNN_STREAMS].reshape(-1, KEYS),
                x[start::SRNN_STREAMS].reshape(-1, KEYS),
            )
            for start in range(SRNN_STREAMS)
        ]

    return _splits(read)


def _masked(
    path: Path, u: npt.NDArray[Any], x: npt.NDArray[Any], mask: npt.NDArray[Any]
) -> list[Piece]:
    """Test pieces, of which what lies outside the mask is not looked at: it may be NaN."""
    lengths = np.sum(mask != 0, axis=-1)
    expected = np.arange(u.shape[1]) < lengths[..., None]
    if mask.shape != u.shape[:2] or (lengths < 1).any() or not np.array_equal(mask, expected):
        raise UserError(
            f"mask_test of {path} is not one run of ones from the first step of each test piece: "
            "give the file as SRNN was tested on it"
        )
    return [
        _joined(path, f"test[{k}]", u[k, :length], x[k, :length])
        for k, length in enumerate(lengths.tolist())
    ]


def _joined(path: Path, name: str, u: npt.NDArray[Any], x: npt.NDArray[Any]) -> Piece:
    """The frames of which u is all but the last, x all but the first."""
    if not np.array_equal(u[1:], x[:-1]):
        raise UserError(
            f"u and x of {name} of {path} are not the same frames one step apart: give the file as "
            "SRNN was trained on it"
        )
    return Piece(name, _rows(path, name, np.concatenate([u, x[-1:]]), packed=False))


def _rows(path: Path, name: str, values: npt.NDArray[Any], packed: bool = True) -> npt.NDArray[Any]:
    """Frames [T, 88] of numbers."""
    if packed and values.dtype == np.uint8 and values.ndim == 2 and values.shape[1] == KEYS // 8:
        return np.unpackbits(values, axis=1)
    if values.ndim != 2 or values.shape[1] != KEYS or values.dtype.kind not in "buif":
        raise UserError(
            f"{name} of {path} is {values.dtype} of shape {list(values.shape)}: it must be rows of "
            f"{KEYS} zeros and ones" + f", or of their {KEYS // 8} packed bytes" * packed
        )
    if not len(values):
        raise UserError(f"{name} of {path} has no row: leave it out")
    return values
