"""What the numbers of sequences are in the world: sound, text, music; saved with a run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.companding import inverse_mu_law, mu_law
from zforcing_tf.errors import UserError

FULL_SCALE = 32768
"""Samples of 16 bits lie in [-FULL_SCALE, FULL_SCALE)."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """Samples of one channel, and how a model sees them: (c(sample / FULL_SCALE) - loc) / scale.

    c is the mu-law with mu = 2^mu_law_bits - 1, or nothing if mu_law_bits is 0.

    Attributes:
      sample_rate: samples a second.
      loc: see above.
      scale: see above.
      mu_law_bits: see above.
    """

    sample_rate: int
    loc: float = 0.0
    scale: float = 1.0
    mu_law_bits: int = 0

    def frames(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        """What a model sees of samples of 16 bits, of any shape."""
        x: npt.NDArray[Any] = samples.astype(np.float32) / np.float32(FULL_SCALE)
        if self.mu_law_bits:
            x = mu_law(x, self.mu_law_bits)
        return ((x - np.float32(self.loc)) / np.float32(self.scale)).astype(np.float32)

    def samples(self, frames: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        """The inverse of `frames`; what is too loud for 16 bits is clipped."""
        x: npt.NDArray[Any] = np.asarray(frames, np.float64) * self.scale + self.loc
        if self.mu_law_bits:
            x = inverse_mu_law(np.clip(x, -1, 1), self.mu_law_bits)
        return np.clip(np.rint(x * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class Text:
    """Symbols that stand for words or characters.

    Attributes:
      vocabulary: the token of each symbol, each once; END and UNKNOWN among them.
      tokens: "word", joined by blanks, or "character", joined by nothing.
      split_punctuation: whether words were told from punctuation, rather than by blanks alone.
    """

    vocabulary: tuple[str, ...]
    tokens: str = "word"
    split_punctuation: bool = False

    def __post_init__(self) -> None:
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise UserError("a vocabulary lists a token twice: leave one of them out")
        for token in (END, UNKNOWN):
            if token not in self.vocabulary:
                raise UserError(f"a vocabulary lacks the token {token}: add it")

    @property
    def end(self) -> int:
        """Symbol behind the last token of each sequence."""
        return self.vocabulary.index(END)

    @property
    def unknown(self) -> int:
        """Symbol of each token that the vocabulary does not list."""
        return self.vocabulary.index(UNKNOWN)

    def sentence(self, symbols: npt.ArrayLike) -> str:
        """The text of symbols [T], up to the first END if there is one."""
        tokens = []
        for symbol in np.asarray(symbols).tolist():
            if symbol == self.end:
                break
            tokens.append(self.vocabulary[symbol])
        return (" " if self.tokens == "word" else "").join(tokens)


END = "</s>"
UNKNOWN = "<unk>"


@dataclasses.dataclass(frozen=True)
class Music:
    """A piano roll: which keys sound in each step.

    Attributes:
      lowest_key: MIDI number of the first key of a frame.
      step_seconds: duration of a step, as it is to be played.
    """

    lowest_key: int = 21
    step_seconds: float = 0.25
