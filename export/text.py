"""Text in, text out: for a model of words or characters.

| signature       | inputs                      | outputs                                          |
| --------------- | --------------------------- | ------------------------------------------------ |
| `score_text`    | text [B] string, seed [B,2] | elbo [B]; log_prob_per_step, kl_per_step [B,T];  |
|                 |                             | tokens [B,T] string; num_tokens, num_unknown [B] |
| `encode_text`   | text, seed                  | latent_loc, latent_scale, latent [B,T,Z];        |
|                 |                             | num_tokens [B]                                   |
| `generate_text` | num_steps [B], seed,        | text [B]; num_tokens [B]                         |
|                 | temperature [B]             |                                                  |
| `continue_text` | text, num_steps, seed,      | the same: what comes after text                  |
|                 | temperature                 |                                                  |

Text is UTF-8, and its tokens are told apart as those of the data were (`data/vocabulary.py`); the
end </s> counts as a token of what is scored. `num_steps` is the most tokens, the end among them.
The vocabulary lies among the assets, a token a line.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from zforcing_tf.data.description import END, Text
from zforcing_tf.sequence_model import SequenceModel

from . import checks
from .endpoint import Endpoint, Outputs, latents

_SPACES = "".join(f"\\x{{{ord(c):x}}}" for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
_WORD = "[\\p{L}\\p{N}_]"  # what `\w` is to Python
_WORD_OR_MARK = f"{_WORD}+(?:['’-]{_WORD}+)*|[^\\p{{L}}\\p{{N}}_{_SPACES}]"


class Vocabulary(tf.Module):
    """Tokens and symbols in a graph; holds the asset.

    Args:
        text: what symbols stand for.
        lower_case: whether text is turned into lower case first.
    """

    def __init__(self, text: Text, lower_case: bool) -> None:
        super().__init__(name="vocabulary")
        self._text, self._lower_case = text, lower_case
        self._separator = " " if text.tokens == "word" else ""
        # A text may hold the letters </s>, but it does not end there.
        known = [(token, symbol) for symbol, token in enumerate(text.vocabulary) if token != END]
        tokens, symbols = zip(*known, strict=True)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tokens, symbols, tf.string, tf.int32), text.unknown
        )
        self._folder = tempfile.TemporaryDirectory(prefix="vocabulary-")
        file = Path(self._folder.name, "vocabulary.txt")
        file.write_text("".join(f"{token}\n" for token in text.vocabulary), encoding="utf-8")
        self._file = tf.saved_model.Asset(str(file))

    def tokens(self, text: tf.Tensor) -> tf.RaggedTensor:
        """The tokens of texts [B], as `data.vocabulary.Tokeniser` finds them."""
        text = tf.strings.regex_replace(text, f"\\A[{_SPACES}]+|[{_SPACES}]+\\z", "")
        if self._lower_case:
            text = tf.strings.lower(text, encoding="utf-8")
        if self._text.tokens == "character":
            return tf.strings.unicode_split(text, "UTF-8")
        if self._text.split_punctuation:
            text = tf.strings.regex_replace(text, _WORD_OR_MARK, " \\0 ")
        return tf.strings.split(tf.strings.regex_replace(text, f"[{_SPACES}]+", " "))

    def symbols(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """Their symbols, int32."""
        return tokens.with_flat_values(self._table.lookup(tokens.flat_values))

    def ended(self, symbols: tf.RaggedTensor) -> tf.RaggedTensor:
        """With the end behind the last symbol of each."""
        end = tf.fill([symbols.nrows(), 1], tf.constant(self._text.end, tf.int32))
        return tf.concat([symbols, tf.RaggedTensor.from_tensor(end)], axis=1)

    def text(self, symbols: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Texts [B] of the first `steps` [B] symbols of [B, T], and how many tokens these are.

        An end, which is counted, ends the text.
        """
        is_end = tf.cast(tf.equal(symbols, self._text.end), tf.int32)
        before = tf.equal(tf.cumsum(is_end, axis=1, exclusive=True), 0)
        counted = before & tf.sequence_mask(steps, tf.shape(symbols)[1])
        shown = counted & tf.equal(is_end, 0)
        found = tf.gather(tf.constant(self._text.vocabulary), symbols)
        ragged = tf.ragged.boolean_mask(found, shown)
        text = tf.strings.reduce_join(ragged, axis=1, separator=self._separator)
        return text, tf.reduce_sum(tf.cast(counted, tf.int32), axis=1)

    def unknown(self, symbols: tf.RaggedTensor) -> tf.Tensor:
        """How many tokens the vocabulary lacks, [B] int32."""
        unknown = tf.cast(tf.equal(symbols, self._text.unknown), tf.int32)
        return tf.reduce_sum(unknown, axis=1)


class _Read(NamedTuple):
    """Texts as a model takes them."""

    tokens: tf.RaggedTensor
    symbols: tf.RaggedTensor
    x: tf.Tensor
    lengths: tf.Tensor


def endpoints(model: SequenceModel, vocabulary: Vocabulary) -> dict[str, Endpoint]:
    """The signatures of a model of text."""

    def read(text: tf.Tensor, end: bool) -> _Read:
        tokens = vocabulary.tokens(text)
        tokens = checks.some_tokens(tokens)
        symbols = vocabulary.symbols(tokens)
        sequence = vocabulary.ended(symbols) if end else symbols
        lengths = tf.cast(sequence.row_lengths(), tf.int32)
        return _Read(tokens, symbols, sequence.to_tensor(), lengths)

    def score(text: tf.Tensor, seed: tf.Tensor) -> Outputs:
        text, seed = checks.texts(text, seed)
        found = read(text, end=True)
        scores = model.score(found.x, found.lengths, seed)
        end = tf.fill([found.tokens.nrows(), 1], END)
        tokens = tf.concat([found.tokens, tf.RaggedTensor.from_tensor(end)], axis=1)
        return {
            **scores._asdict(),
            "tokens": tokens.to_tensor(""),
            "num_tokens": found.lengths,
            "num_unknown": vocabulary.unknown(found.symbols),
        }

    def encode(text: tf.Tensor, seed: tf.Tensor) -> Outputs:
        text, seed = checks.texts(text, seed)
        found = read(text, end=True)
        encoded = latents(model, found.x, found.lengths, seed)
        return {**encoded, "num_tokens": found.lengths}

    def generate(num_steps: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor) -> Outputs:
        num_steps, seed, temperature = checks.generation(num_steps, seed, temperature)
        return said(model.generate(most(num_steps), seed=seed, temperature=temperature), num_steps)

    def go_on(
        text: tf.Tensor, num_steps: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
    ) -> Outputs:
        text, seed = checks.texts(text, seed)
        num_steps, seed, temperature = checks.generation(num_steps, seed, temperature)
        found = read(text, end=False)
        x, num_steps = checks.continuation(found.x, num_steps)
        how = {"prefix": x, "prefix_lengths": found.lengths}
        x = model.generate(most(num_steps), seed=seed, temperature=temperature, **how)
        return said(x, num_steps)

    def most(num_steps: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(num_steps)

    def said(x: tf.Tensor, num_steps: tf.Tensor) -> Outputs:
        text, num_tokens = vocabulary.text(x, num_steps)
        return {"text": text, "num_tokens": num_tokens}

    text = tf.TensorSpec((None,), tf.string, name="text")
    num_steps, seed, temperature = checks.GENERATION
    return {
        "score_text": Endpoint(score, (text, seed)),
        "encode_text": Endpoint(encode, (text, seed)),
        "generate_text": Endpoint(generate, (num_steps, seed, temperature)),
        "continue_text": Endpoint(go_on, (text, num_steps, seed, temperature)),
    }
