"""Tokens of text, and the symbols that stand for them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import END, UNKNOWN, Text

_WORD_OR_MARK = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


@dataclasses.dataclass(frozen=True)
class Tokeniser:
    """From text to tokens.

    Attributes:
      tokens: "word" or "character".
      lower_case: whether text is turned into lower case first.
      split_punctuation: what words are: whatever blanks separate, or, if True, runs of letters and
        digits, with hyphens and apostrophes between these, and each other mark by itself.
    """

    tokens: str
    lower_case: bool
    split_punctuation: bool = False

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text; blanks around it count for nothing."""
        written = text.strip().lower() if self.lower_case else text.strip()
        if self.tokens == "character":
            return list(written)
        return _WORD_OR_MARK.findall(written) if self.split_punctuation else written.split()


class Encoder:
    """From tokens to symbols.

    Args:
      text: what symbols stand for.
    """

    def __init__(self, text: Text) -> None:
        self._unknown, self._end = text.unknown, text.end
        self._symbols = {token: symbol for symbol, token in enumerate(text.vocabulary)}
        # A text may hold the letters </s>, but it does not end there.
        del self._symbols[END]

    def __call__(self, tokens: Iterable[str]) -> npt.NDArray[np.int32]:
        """Symbols [T + 1] of T tokens, the end behind them."""
        symbols = [self._symbols.get(token, self._unknown) for token in tokens]
        return np.array([*symbols, self._end], np.int32)

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """The tokens without a symbol of their own, each once, in their order."""
        return list(
            dict.fromkeys(t for t in tokens if self._symbols.get(t) in (None, self._unknown))
        )


def tokens_of(text: Text, sentence: str, lower_case: bool) -> list[str]:
    """The tokens of a user's sentence, as those of the data were told apart.

    Args:
      text: what symbols stand for.
      sentence: on one line.
      lower_case: the setting of the data.
    """
    return Tokeniser(text.tokens, lower_case, text.split_punctuation)(sentence)


def encode(text: Text, sentence: str, lower_case: bool) -> npt.NDArray[np.int32]:
    """Symbols [T + 1] of a user's sentence of T tokens, the end behind them.

    Arguments are those of `tokens_of`.
    """
    return Encoder(text)(tokens_of(text, sentence, lower_case))


def vocabulary_of(counts: Counter[str], size: int) -> tuple[str, ...]:
    """END, UNKNOWN, then the most frequent tokens; the alphabet decides between equals.

    Args:
      counts: of each token. END and UNKNOWN have their symbols whatever their counts.
      size: symbols at most.
    """
    others = [token for token in counts if token not in (END, UNKNOWN)]
    others.sort(key=lambda token: (-counts[token], token))
    return (END, UNKNOWN, *others[: size - 2])
