"""Sentences of symbols as lines for people."""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import Text

NOTHING, CUT = "(no words)", " ..."
"""What stands for a sentence that ends at once, and behind one that has not ended."""
GIVEN = "|"
"""What stands behind the words that were given."""


_CONTROLS = ("Cc", "Cs", "Zl", "Zp")


def printable(sentence: str) -> str:
    """The same on one line, control characters as codes."""
    return "".join(
        c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in _CONTROLS else c
        for c in sentence
    )


def line(symbols: npt.NDArray[np.integer], text: Text) -> str:
    """The text of symbols [T], marked as `CUT` if it has no end, or as `NOTHING`."""
    if text.end not in symbols:
        return printable(text.sentence(symbols)) + CUT
    return printable(text.sentence(symbols)) or NOTHING


def continued_line(symbols: npt.NDArray[np.integer], given: int, text: Text) -> str:
    """The text of symbols [T] with a mark behind the first `given`, which do not end it."""
    before, rest = printable(text.sentence(symbols[:given])), symbols[given:]
    after = printable(text.sentence(rest)) + CUT * (text.end not in rest)
    return f"{before} {GIVEN} {after}".rstrip()
