"""Which texts are for training, validation and test."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np

from zforcing_tf.data.spec import SPLIT_NAMES

_DIGEST = "Q"  # 8 bytes


class TextSplits:
    """Splits texts 85/5/10, always alike, and equal ones into the same split.

    The n different texts are put into the order of their SHA-256 (of UTF-8, its first 8 bytes,
    blanks around the text left out). The last max(1, n // 10) are for test, the max(1, n // 20)
    before these for validation. A text takes 8 bytes of memory.

    Args:
      texts: all of them.

    Attributes:
      count: different texts.
      total: texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        digests = array(_DIGEST, map(_digest, texts))
        self.total = len(digests)
        order = np.unique(np.array(digests, np.uint64))
        self.count = len(order)
        test = max(1, self.count // 10)
        validation = max(1, self.count // 20)
        self._firsts = order[[-test - validation, -test]] if self.count > 2 else order[:0]

    def of(self, text: str) -> str:
        """The split of one of the texts, which are at least 3."""
        digest = np.uint64(_digest(text))
        return SPLIT_NAMES[int(np.searchsorted(self._firsts, digest, side="right"))]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.strip().encode("utf-8")).digest()[:8], "big")
