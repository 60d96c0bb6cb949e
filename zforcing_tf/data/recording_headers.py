"""What headers of recordings tell that libsndfile keeps to itself.

It reads what is there of a file that ends too early, and of a compressed one says nothing useful.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO, Literal

from zforcing_tf.errors import BadRecordError

# Programs that write into a pipe do not know the length, and write one of at least this.
_UNKNOWN_LENGTH = 0x7FFF0000
_OGG_LAST_PAGE = 4
_OGG_LARGEST_PAGE = 65307


def check_header(path: Path) -> None:
    """Refuses a recording that is empty, compressed, or shorter than its header promises.

    RIFF, NIST SPHERE and ogg are looked at.

    Raises:
      BadRecordError: see above, or it cannot be opened.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(12)
            if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:] == b"WAVE":
                end = _riff_end(file, "big" if start[:4] == b"RIFX" else "little")
            elif start.startswith(b"NIST_1A"):
                end = _sphere_end(path, file)
            elif start.startswith(b"OggS"):
                end = size + (not _ogg_is_whole(file, size))
            else:
                end = 0
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
            raise  # which is no fault of the file
        raise BadRecordError(
            path, f"cannot be read ({error.strerror})", "see that you may read it"
        ) from error
    if not size:
        raise BadRecordError(path, "is empty", "copy it anew or remove it")
    if end > size:
        raise BadRecordError(
            path,
            f"is truncated: at least {end - size} of its {end} bytes are missing",
            "copy it anew",
        )


def _riff_end(file: BinaryIO, order: Literal["little", "big"]) -> int:
    """Where the samples of a RIFF file end by its header; 0 if it does not say."""
    long_length = 0
    while len(head := file.read(8)) == 8:
        start, length = file.tell(), int.from_bytes(head[4:], order)
        if head[:4] == b"ds64":  # of RF64: the lengths that 32 bits do not hold
            long_length = int.from_bytes(file.read(16)[8:], order)
        if head[:4] == b"data":
            length = long_length or length
            return start + length if long_length or length < _UNKNOWN_LENGTH else 0
        file.seek(start + length + length % 2)
    return 0


def _sphere_end(path: Path, file: BinaryIO) -> int:
    """Where the samples of a SPHERE file end by its header; 0 if it does not say."""
    file.seek(0)
    try:
        size = int(file.read(16).split(b"\n")[1])
        file.seek(0)
        lines = file.read(min(size, 2**16)).decode("latin-1").splitlines()
        fields = {
            parts[0]: parts[2] for line in lines[2:] if len(parts := line.split(maxsplit=2)) == 3
        }
        coding = fields.get("sample_coding", "pcm")
        if any(name in coding for name in ("shorten", "shortpack", "wavpack")):
            raise BadRecordError(
                path,
                f"is a compressed SPHERE file ({coding.strip()})",
                "convert it with sph2pipe -f wav in.wav out.wav",
            )
        sample_bytes = int(fields.get("sample_n_bytes", 2)) * int(fields.get("channel_count", 1))
        return size + int(fields["sample_count"]) * sample_bytes
    except (ValueError, IndexError, KeyError) as error:
        if isinstance(error, BadRecordError):
            raise
        return 0


def _ogg_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the last page says that it is the last, and is all there."""
    start = max(0, size - 2 * _OGG_LARGEST_PAGE)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"OggS")
    page = tail[place:]
    if place < 0 or len(page) < 27 or not page[5] & _OGG_LAST_PAGE:
        return False
    segments = page[27 : 27 + page[26]]
    return len(segments) == page[26] and len(page) >= 27 + page[26] + sum(segments)
