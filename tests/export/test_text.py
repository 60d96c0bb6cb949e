"""Text as SavedModels take and give it: the same as the preparation of the data, to the letter."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from export import verify
from export.endpoint import Wanted
from export.saved_model import write_model
from export.signatures import listing, serving_module
from export.text import Vocabulary
from tests import model_factory
from tests.export.served import SEED
from tests.slowly import slow_unless
from zforcing_tf import models
from zforcing_tf.data.description import Sound, Text
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.data.vocabulary import Encoder, Tokeniser

WORDS = ("</s>", "<unk>", "the", "film", "is", "good", "bad", ".", "don't", "élan")
LETTERS = ("</s>", "<unk>", *"abcdefghijklmno ", "'", "é", "\u3000")
FORMS = {
    "words": Text(WORDS),
    "marks": Text(WORDS, split_punctuation=True),
    "letters": Text(LETTERS, tokens="character"),
}
TEXTS = [
    "The film is good .",
    "  bad\tfilm  \n is\u00a0don't, élan-good… ",
    "</s> <unk> is Good.",
    "ÉLAN, don’t — a_b x² ﬀ ΣΑΣ naïve\u2003the",
    "l'ai, é\u3000good\x1cbad\x85film",
    "film",
]


@functools.lru_cache(maxsize=2)
def served(form: str, lower_case: bool = True) -> tuple[Any, Any, Path]:
    text = FORMS[form]
    spec = DataSpec("reviews", "symbol", len(text.vocabulary), 12, text=text)
    model = models.build(model_factory.experiment("categorical", model="vrnn"), spec)
    model_factory.randomise(model)
    written = Path(tempfile.mkdtemp(prefix="served-")) / "written"
    write_model(*serving_module(model, Wanted(spec, lower_case)), written)
    moved = written.with_name("moved")
    shutil.move(written, moved)  # nothing may depend on where it was made
    return model, tf.saved_model.load(str(moved)).signatures, moved


def ask(form: str, signature: str, lower_case: bool = True, **inputs: Any) -> dict[str, Any]:
    answers = served(form, lower_case)[1][signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in answers.items()}


def seeds(rows: int) -> np.ndarray:
    return np.stack([np.arange(rows), np.arange(rows) + 5], axis=1).astype(np.int32)


def prepared(form: str, lower_case: bool = True) -> list[np.ndarray]:
    """Symbols as the preparation of data has them."""
    text = FORMS[form]
    tokeniser = Tokeniser(text.tokens, lower_case, text.split_punctuation)
    return [Encoder(text)(tokeniser(one)) for one in TEXTS]


@pytest.mark.parametrize(
    ("form", "lower_case"),
    [
        slow_unless(lower_case == (i % 2 == 0), form, lower_case)
        for i, form in enumerate(FORMS)
        for lower_case in (True, False)
    ],
)
def test_texts_are_scored_as_their_symbols(form: str, lower_case: bool) -> None:
    symbols = prepared(form, lower_case)
    answer = ask(form, "score_text", lower_case, text=TEXTS, seed=seeds(6))
    assert answer["num_tokens"].tolist() == [len(x) for x in symbols]
    text = FORMS[form]
    assert answer["num_unknown"].tolist() == [int((x == text.unknown).sum()) for x in symbols]
    tokeniser = Tokeniser(text.tokens, lower_case, text.split_punctuation)
    for row, one in enumerate(TEXTS):
        found = [token.decode() for token in answer["tokens"][row] if token]
        assert found == [*tokeniser(one), "</s>"]
    model = served(form, lower_case)[0]
    for row, x in enumerate(symbols):
        expected = model.score(x[None], seed=seeds(6)[row : row + 1])
        np.testing.assert_allclose(answer["elbo"][row], expected.elbo[0], rtol=1e-5)
        steps = answer["log_prob_per_step"][row, : len(x)]
        np.testing.assert_allclose(steps, expected.log_prob_per_step[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lower_case", [True, False])
def test_each_character_is_told_apart_as_by_the_preparation(lower_case: bool) -> None:
    """Each between two letters: blanks, letters, marks; and in lower case.

    Of those that Unicode 3.2 knew: on later ones Python and TensorFlow, which follow other
    versions, differ. A byte 0 is refused when data is prepared.
    """
    known = unicodedata.ucd_3_2_0.category
    points = [c for c in map(chr, range(1, sys.maxunicode + 1)) if known(c) not in ("Cn", "Cs")]
    texts = [f"a{c}b" for c in points]
    for form in ("words", "marks"):
        text = FORMS[form]
        vocabulary = Vocabulary(text, lower_case)
        found = vocabulary.tokens(tf.constant(texts)).to_list()
        tokeniser = Tokeniser("word", lower_case, text.split_punctuation)
        wrong = [
            c
            for c, tokens, one in zip(points, found, texts, strict=True)
            if [token.decode() for token in tokens] != tokeniser(one)
        ]
        assert not wrong


def test_latents_of_a_text_are_those_of_its_symbols() -> None:
    answer = ask("words", "encode_text", text=TEXTS, seed=seeds(6))
    for row, x in enumerate(prepared("words")):
        expected = served("words")[0].encode(x[None], seed=seeds(6)[row : row + 1])
        found = answer["latent_loc"][row, : len(x)]
        np.testing.assert_allclose(found, expected.loc[0], rtol=1e-4, atol=1e-5)
        assert not answer["latent"][row, len(x) :].any()


@pytest.mark.parametrize("form", [slow_unless(form == "marks", form) for form in FORMS])
def test_what_is_generated_is_the_text_of_its_symbols(form: str) -> None:
    model, text = served(form)[0], FORMS[form]
    steps, warm = np.array([9, 1, 5, 12], np.int32), np.ones(4, np.float32)
    symbols = model.generate(12, seed=SEED).numpy()
    answer = ask(form, "generate_text", num_steps=steps, seed=SEED, temperature=warm)
    for row, x in enumerate(symbols):
        x = x[: steps[row]]
        assert answer["text"][row].decode() == text.sentence(x)
        ends = np.flatnonzero(x == text.end)
        assert answer["num_tokens"][row] == (ends[0] + 1 if len(ends) else len(x))


@pytest.mark.parametrize("form", [slow_unless(form == "words", form) for form in FORMS])
def test_a_text_goes_on(form: str) -> None:
    model, text = served(form)[0], FORMS[form]
    steps, warm = np.full(6, 7, np.int32), np.full(6, 0.7, np.float32)
    wanted = {"num_steps": steps, "seed": seeds(6), "temperature": warm}
    answer = ask(form, "continue_text", text=TEXTS, **wanted)
    for row, x in enumerate(prepared(form)):
        alone = model.generate(
            7, seed=seeds(6)[row : row + 1], temperature=0.7, prefix=x[None, :-1]
        )
        assert answer["text"][row].decode() == text.sentence(alone[0])


def refusal(form: str, signature: str, **inputs: Any) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask(form, signature, **inputs)
    return str(caught.value)


def test_wrong_texts_are_answered_with_a_sentence() -> None:
    for text, sentence in [
        (["film", " \t\u2003"], "text[1] holds no token; send some text"),
        ([b"film", b"caf\xe9"], "text[1] is not in UTF-8"),
        ([], "text has no rows; send one text at least"),
        (["film", "good", "bad"], "seed has 2 rows and text has 3; give one to each row"),
        (["a " * 60_000, "b"], "text holds 120000 tokens (rows times the longest)"),
    ]:
        rows = min(2, len(text))
        given = tf.constant(text, tf.string)
        assert sentence in refusal("words", "score_text", text=given, seed=seeds(rows))
    wanted = {"num_steps": np.int32([1]), "seed": seeds(1), "temperature": np.float32([-1])}
    assert "temperature[0] is -1" in refusal("words", "continue_text", text=["film"], **wanted)


def test_the_vocabulary_is_an_asset() -> None:
    file = served("letters")[2] / "assets" / "vocabulary.txt"
    assert tuple(file.read_bytes().decode().split("\n")[:-1]) == LETTERS


def verified(model: Any, spec: DataSpec, split: Split, path: Path) -> set[str]:
    """The signatures that a verification has asked."""
    wanted = Wanted(spec, iwae_samples=3)
    module, signatures = serving_module(model, wanted)
    write_model(module, signatures, path)
    expected = verify.expectations(model, listing(signatures), split, wanted)
    verify.verify(path, expected)
    asked = {case.signature for case in expected.cases}
    assert asked >= set(signatures) - {"serving_default", "reconstruct_audio"}
    return asked


@pytest.mark.slow
def test_an_export_is_verified_with_texts(tmp_path: Path) -> None:
    text = FORMS["marks"]
    spec = DataSpec("reviews", "symbol", len(text.vocabulary), 12, text=text)
    rows = prepared("marks")
    values, lengths = np.concatenate(rows), np.array([len(x) for x in rows], np.int32)
    split = Split("validation", values.astype(np.int32), lengths)
    assert "continue_text" in verified(served("marks")[0], spec, split, tmp_path)


@pytest.mark.slow
def test_an_export_is_verified_with_recordings(tmp_path: Path) -> None:
    sound = Sound(8000, 0.01, 0.12)
    spec = DataSpec("speech", "real", 4, 12, sound=sound)
    model = models.build(model_factory.experiment("gaussian", model="srnn"), spec)
    levels = np.random.default_rng(0).integers(-9000, 9000, (30, 4)).astype(np.int16)
    split = Split("validation", sound.frames(levels), np.array([12, 3, 9, 6], np.int32))
    assert "continue_audio" in verified(model, spec, split, tmp_path)
