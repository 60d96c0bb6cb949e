"""Reads recordings: files of sound become samples of 16 bits of one channel at one rate.

Which container a file is, its header says and not its name: the wav files of TIMIT are NIST SPHERE.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import FULL_SCALE
from zforcing_tf.data.own_files import find_copies
from zforcing_tf.data.recording_headers import check_header
from zforcing_tf.errors import BadRecordError, UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".sph")

Samples = npt.NDArray[np.int16]

_UNKNOWN_FRAMES = 2**62  # libsndfile has the greatest number for what a header does not say
_MOST_RESAMPLED = 100  # times more samples, or fewer: else the header must be wrong
_BLOCK = 2**20  # samples that are float at once
_LOUDEST = 4.0  # of full scale; some float files pass 1 a little, and lossy ones when decoded
_SHORT_SUBTYPES = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")  # 16 bits hold these exactly
_MP3_SLACK = 4 * 1152  # samples; of mp3 files without a length header libsndfile estimates it


_MEND_HEADER = "mend its header, or copy it anew"
_EMPTY = ("has no samples", "remove it or record it anew")


class Recording(NamedTuple):
    """Sound.

    Attributes:
      samples: `[n] int16`, n >= 1.
      sample_rate: samples a second.
      recorded_rate: those that the file has.
    """

    samples: Samples
    sample_rate: int
    recorded_rate: int


def read_recording(path: Path, sample_rate: int = 0, mix_down: bool = False) -> Recording:
    """Reads one recording.

    What has more than 16 bits is rounded, what is louder than full scale clipped.

    Args:
      path: wav (RIFF or NIST SPHERE), flac, ogg, mp3 or whatever else libsndfile reads.
      sample_rate: rate wanted, to which the recording is resampled; 0: as it is.
      mix_down: whether the mean of several channels is taken.

    Raises:
      BadRecordError: it is no readable recording of one channel with at least one sample, or
        ends before its header says.
      UserError: soundfile is not installed.
    """
    with _opened(path, mix_down) as file:
        samples = np.concatenate([np.zeros(0, np.int16), *_blocks(path, file)])
        rate, promised, lossy = file.samplerate, file.frames, file.format == "MP3"
    missing = promised - len(samples)
    if missing > (max(_MP3_SLACK, promised // 100) if lossy else 0):
        raise BadRecordError(
            path,
            f"is truncated: it has {len(samples)} of the {promised} samples that its header "
            "promises",
            "copy it anew",
        )
    if not len(samples):
        raise BadRecordError(path, *_EMPTY)
    if not sample_rate:
        return Recording(samples, rate, rate)
    if reason := out_of_proportion(rate, sample_rate):
        raise BadRecordError(path, reason, _MEND_HEADER)
    return Recording(resampled(samples, rate, sample_rate), sample_rate, rate)


@contextlib.contextmanager
def _opened(path: Path, mix_down: bool) -> Iterator[Any]:
    """The `soundfile.SoundFile` of a recording; BadRecordError if that cannot be read."""
    soundfile = _soundfile()
    check_header(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.channels != 1 and not mix_down:
                raise BadRecordError(
                    path,
                    f"has {file.channels} channels instead of one",
                    "mix them down, or keep one of them (sox in.wav -c 1 out.wav)",
                )
            yield file
    except soundfile.LibsndfileError as error:
        raise BadRecordError(
            path,
            f"cannot be read ({error.error_string.rstrip('.')})",
            "copy it anew, or convert it to wav or flac",
        ) from error


def duration(path: Path) -> float | None:
    """Seconds of a recording by its header; None if that cannot be read."""
    soundfile = _soundfile()
    try:
        found = soundfile.info(path)
        return float(found.duration) if found.frames < _UNKNOWN_FRAMES else None
    except (soundfile.LibsndfileError, OSError):
        return None


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: it is there, but libsndfile is not
        raise UserError(
            f"recordings cannot be read without soundfile ({error}): "
            "run pip install 'zforcing-tf[audio]'"
        ) from error
    return soundfile


def _blocks(path: Path, file: Any) -> Iterator[Samples]:
    short = file.subtype in _SHORT_SUBTYPES and file.channels == 1
    start = 0
    while len(block := file.read(_BLOCK, dtype="int16" if short else "float32")):
        if short:
            yield block
            start += len(block)
            continue
        if block.ndim == 2:
            block = block.mean(axis=1)
        finite = np.isfinite(block)
        if not finite.all():
            place = int(np.argmin(finite))
            raise BadRecordError(
                path,
                f"holds {block[place]} at sample {start + place}",
                "make the file anew without it",
            )
        peak = float(np.abs(block).max())
        if peak > _LOUDEST:
            raise BadRecordError(
                path,
                f"holds numbers up to {peak:g} in size where 1 is full scale",
                "divide them by their full scale and write the file anew",
            )
        yield _rounded(block * np.float32(FULL_SCALE))
        start += len(block)


def _rounded(samples: npt.NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def out_of_proportion(rate: int, wanted: int) -> str:
    """What is said of a rate that cannot be meant; empty if it can. `wanted` 0 is any."""
    if not wanted or 1 / _MOST_RESAMPLED <= wanted / max(rate, 1) <= _MOST_RESAMPLED:
        return ""
    return f"says that it has {rate} samples a second, out of all proportion to {wanted}"


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """Samples at another rate, by `scipy.signal.resample_poly`.

    Args:
      samples: `[n] int16`.
      rate: their rate.
      wanted: rate of the result.

    Returns:
      `[ceil(n wanted / rate)] int16`.
    """
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    # The default filter reaches 10 max(up, down) up-sampled steps to either side. Blocks that begin
    # at multiples of `down` and overlap by this give what the whole would, in little memory.
    reach = math.ceil(10 * max(up, down) / up) + 1
    margin = math.ceil(reach / down) * down
    block = max(margin, math.ceil(_BLOCK / down) * down)
    result = np.empty(math.ceil(len(samples) * up / down), np.int16)
    for start in range(0, len(samples), block):
        first = max(0, start - margin)
        piece = samples[first : start + block + margin].astype(np.float32)
        begin, target = (start - first) // down * up, start // down * up
        count = min(block // down * up, len(result) - target)
        result[target : target + count] = _rounded(
            resample_poly(piece, up, down)[begin : begin + count]
        )
    return result


class RecordingReader:
    """Reads the recordings of a dataset, all at one rate, and notes those that it leaves out.

    Attributes:
      sample_rate: of all recordings; 0 until the first is read if it was 0.
      skipped: what was left out: "<file>: <reason>", the file as seen from the folder.
      lower_rates: how many recordings had fewer samples a second than they have now, by their rate
        as text.

    Args:
      folder: in which the recordings are.
      sample_rate: to which recordings are resampled; 0: as the first is, and then all others must
        be the same.
      resample: if False, recordings of another rate are bad.
      skip_bad_records: whether bad recordings are left out, or are errors.
      mix_down: see `read_recording`.
    """

    def __init__(
        self,
        folder: Path,
        sample_rate: int,
        skip_bad_records: bool,
        mix_down: bool = False,
        resample: bool = True,
    ):
        self.sample_rate = sample_rate
        self.skipped: list[str] = []
        self.lower_rates: dict[str, int] = {}
        self._folder = folder
        self._skip = skip_bad_records
        self._as_they_are = not (sample_rate and resample)
        self._mix_down = mix_down
        self._first: Path | None = None
        self._copies: Mapping[Path, Path] = {}

    def refuse_copies(self, files: Sequence[Path]) -> None:
        """Makes each file that holds the same bytes as one before it a bad recording.

        Raises:
          BadRecordError: there is one, and bad recordings are errors.
        """
        self._copies = find_copies(files)
        if self._copies and not self._skip:
            raise self._copy_error(next(iter(self._copies)))

    def leave_out(self, files: Iterable[Path]) -> dict[Path, str]:
        """Those files that are bad by what can be told without reading all of them, and why.

        Copies are among them. They are noted as skipped. Where bad recordings are errors there are
        none.
        """
        bad: dict[Path, str] = {}
        for path in files if self._skip else ():
            try:
                self._look_at(path)
            except BadRecordError as error:
                bad[path] = error.reason
                self.skipped.append(f"{self.name(path)}: {error.reason}")
        return bad

    def _look_at(self, path: Path) -> None:
        if path in self._copies:
            raise self._copy_error(path)
        with _opened(path, self._mix_down) as file:
            frames, rate = file.frames, file.samplerate
        if not frames:
            raise BadRecordError(path, *_EMPTY)
        if reason := out_of_proportion(rate, 0 if self._as_they_are else self.sample_rate):
            raise BadRecordError(path, reason, _MEND_HEADER)

    def name(self, path: Path) -> str:
        """Path of a recording within the folder."""
        return path.relative_to(self._folder).as_posix()

    def read(self, split: str, files: Iterable[Path]) -> Iterator[tuple[Path, Samples]]:
        """Each good recording and its samples.

        Raises:
          BadRecordError: see `read_recording`; or a copy, or another rate.
          UserError: no recording is good.
        """
        good, last = False, ""
        for path in files:
            try:
                samples = self._read(path)
            except BadRecordError as error:
                if not self._skip:
                    raise
                last = f"{self.name(path)}: {error.reason}"
                self.skipped.append(last)
                continue
            good = True
            yield path, samples
        if not good:
            raise UserError(
                f"no recording of split {split!r} of {self._folder} can be used ({last}): mend "
                "them, or give more"
            )

    def _read(self, path: Path) -> Samples:
        if path in self._copies:
            raise self._copy_error(path)
        wanted = 0 if self._as_they_are else self.sample_rate
        samples, rate, recorded = read_recording(path, wanted, self._mix_down)
        if recorded < rate:
            self.lower_rates[str(recorded)] = self.lower_rates.get(str(recorded), 0) + 1
        if not self.sample_rate:
            self._first, self.sample_rate = path, rate
        if rate == self.sample_rate:
            return samples
        if self._first is None:
            raise BadRecordError(
                path, f"has {rate} samples a second instead of {self.sample_rate}", "copy it anew"
            )
        raise BadRecordError(
            path,
            f"has {rate} samples a second, but {self._first} has {self.sample_rate}",
            f"have all resampled with --sample_rate={self.sample_rate}",
        )

    def _copy_error(self, path: Path) -> BadRecordError:
        return BadRecordError(
            path,
            f"is a copy of {self._copies[path]}",
            "remove one of them",
        )
