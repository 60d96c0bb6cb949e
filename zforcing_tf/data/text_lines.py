"""Lines of text files in UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zforcing_tf.errors import UserError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def text_lines(
    path: Path, skip_bad: bool = False, skipped: list[str] | None = None
) -> Iterator[str]:
    """The lines of a file that are not blank, without blanks around them; one at a time.

    Args:
      path: file.
      skip_bad: whether lines that are not UTF-8 are left out, rather than refused.
      skipped: a string is added for each line left out.

    Raises:
      UserError: the file cannot be read, is no text, or is not in UTF-8; names line and byte.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 and (4 * line.count(0) > len(line) or line.startswith(_UTF_16)):
                    raise UserError(
                        f"{path} is no text in UTF-8: give plain text; if it is in UTF-16, convert "
                        f"it first, with iconv -f UTF-16 -t UTF-8 {path.name}"
                    )
                try:
                    if b"\0" in line:
                        place = line.index(b"\0")
                        raise UnicodeDecodeError("utf-8", line, place, place + 1, "a byte 0")
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    fault = f"byte {error.start + 1} of the line, {error.object[error.start]:#04x}"
                    if not skip_bad:
                        raise UserError(
                            f"line {number} of {path} is not in UTF-8 ({fault}): "
                            f"{_advice(error, path)}, or have such lines left out with "
                            "--skip_bad_records"
                        ) from None
                    if skipped is not None:
                        skipped.append(f"{path.name}: line {number} is not in UTF-8 ({fault})")
                    continue
                if text:
                    yield text
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend that") from error


def _advice(error: UnicodeDecodeError, path: Path) -> str:
    if error.object[error.start] == 0:
        return "take that byte out"
    return (
        "convert the file from the encoding that it has, such as with iconv -f LATIN1 -t UTF-8 "
        f"{path.name}"
    )
