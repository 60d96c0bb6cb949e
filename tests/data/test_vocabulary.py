"""Tokens and symbols of text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from zforcing_tf.data.description import Text
from zforcing_tf.data.vocabulary import Encoder, Tokeniser, encode, tokens_of, vocabulary_of


@pytest.mark.parametrize(
    ("tokeniser", "tokens"),
    [
        (Tokeniser("word", True), ["don't", "stop,", "it's", "so-so..."]),
        (Tokeniser("word", False), ["Don't", "stop,", "IT'S", "so-so..."]),
        (
            Tokeniser("word", True, split_punctuation=True),
            ["don't", "stop", ",", "it's", "so-so", ".", ".", "."],
        ),
        (Tokeniser("character", True), list("don't  stop, it's\tso-so...")),
        (Tokeniser("character", False, True), list("Don't  stop, IT'S\tso-so...")),
    ],
)
def test_tokens(tokeniser: Tokeniser, tokens: list[str]) -> None:
    assert tokeniser(" Don't  stop, IT'S\tso-so...\n") == tokens


def test_punctuation_beside_letters_of_all_languages() -> None:
    split = Tokeniser("word", False, split_punctuation=True)
    assert split("\"Über\" ’tis 3.5 (l’été) rock-'n'-roll-") == [
        *['"', "Über", '"', "’", "tis", "3", ".", "5", "(", "l’été", ")"],
        *["rock", "-", "'", "n", "'", "-", "roll", "-"],
    ]


def test_nothing_but_blanks_has_no_tokens() -> None:
    for tokens in ("word", "character"):
        assert Tokeniser(tokens, True)(" \t\n") == []


def test_most_frequent_then_by_the_alphabet() -> None:
    counts = Counter({"b": 2, "a": 2, "c": 3, "Z": 2, "d": 1, "<unk>": 9, "</s>": 9})
    assert vocabulary_of(counts, 5) == ("</s>", "<unk>", "c", "Z", "a")
    assert vocabulary_of(counts, 3) == ("</s>", "<unk>", "c")
    assert vocabulary_of(counts, 100) == ("</s>", "<unk>", "c", "Z", "a", "b", "d")


TEXT = Text(("</s>", "<unk>", "good", "a", "film"))


def test_sentence_of_a_user() -> None:
    symbols = encode(TEXT, "  A good  movie ", lower_case=True)
    assert symbols.dtype == np.int32
    assert symbols.tolist() == [3, 2, 1, 0]
    assert encode(TEXT, "A good movie", lower_case=False).tolist() == [1, 2, 1, 0]
    assert encode(TEXT, "", lower_case=True).tolist() == [0]
    assert TEXT.sentence(symbols) == "a good <unk>"


def test_user_types_as_the_data_were_split() -> None:
    text = Text(("</s>", "<unk>", "good", "."), split_punctuation=True)
    assert tokens_of(text, "Good.", lower_case=True) == ["good", "."]
    assert encode(text, "Good.", lower_case=True).tolist() == [2, 3, 0]
    letters = Text(("</s>", "<unk>", "o", "g", " "), tokens="character")
    assert encode(letters, "Go go", lower_case=True).tolist() == [3, 2, 4, 3, 2, 0]


def test_written_end_ends_nothing() -> None:
    assert encode(TEXT, "a </s> film <unk>", lower_case=True).tolist() == [3, 1, 4, 1, 0]


def test_unknown_tokens_in_their_order() -> None:
    encoder = Encoder(TEXT)
    assert encoder.unknown(["a", "tale", "</s>", "film", "</s>", "bad", "<unk>", "tale"]) == [
        *["tale", "</s>", "bad", "<unk>"]
    ]
    assert encoder.unknown(["a", "film"]) == []
