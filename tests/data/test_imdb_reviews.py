"""Sentences of film reviews, from a builder with the features of TensorFlow Datasets' own."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests import builder_case
from zforcing_tf.config import DataConfig
from zforcing_tf.data import imdb_reviews, registry
from zforcing_tf.data.imdb_reviews import ImdbSentences, sentences_of
from zforcing_tf.data.vocabulary import Tokeniser
from zforcing_tf.errors import UserError

REVIEWS = {
    "train": ["I liked it.<br /><br />Would I see it again? Yes!", "It's so-so..."],
    "test": ["A film (of sorts).  Mr. Smith is\nin it", "I liked it."],
    "unsupervised": ['He said: "Stop!" They did not <br/>The END', "3.5 of 10. I liked it!"],
}
SENTENCES = [
    *["I liked it.", "Would I see it again?", "Yes!", "It's so-so..."],
    *["A film (of sorts).", "Mr.", "Smith is in it", "I liked it."],
    *['He said: "Stop!"', "They did not", "The END", "3.5 of 10.", "I liked it!"],
]


class SmallImdbReviews(tfds.core.GeneratorBasedBuilder):
    """The features and splits of `imdb_reviews`."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["neg", "pos"]),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in REVIEWS}

    def _generate_examples(self, split: str) -> Iterator[Any]:
        for key, text in enumerate(REVIEWS[split]):
            yield key, {"text": text, "label": -1 if split == "unsupervised" else key}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb_reviews, "_reviews", lambda root: SmallImdbReviews(data_dir=root))
    monkeypatch.setattr("zforcing_tf.data.prepared._check_reachable", lambda source: None)


class ImdbSentencesBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = ImdbSentences
    SPLITS = {"train": 11, "validation": 1, "test": 1}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        patch = pytest.MonkeyPatch()
        cls.addClassCleanup(patch.undo)
        patch.setattr(imdb_reviews, "_reviews", lambda root: SmallImdbReviews(data_dir=root))
        patch.setattr("zforcing_tf.data.prepared._check_reachable", lambda source: None)


def test_sentences_of_reviews() -> None:
    reviews = [review for part in REVIEWS.values() for review in part]
    assert [s for review in reviews for s in sentences_of(review)] == SENTENCES
    assert list(sentences_of(" <br /> \n<BR>")) == []
    assert list(sentences_of("... and?! 'no.' so")) == ["...", "and?!", "'no.'", "so"]


def test_symbols(tmp_path: Path, small: None) -> None:
    settings = DataConfig("imdb_reviews", data_dir=str(tmp_path))
    dataset = registry.load(settings)
    order = sorted({*SENTENCES}, key=lambda text: hashlib.sha256(text.encode()).digest())
    held_out = {"validation": order[-2], "test": order[-1]}
    expected = {
        "train": [s for s in SENTENCES if s not in order[-2:]],
        **{split: [s for s in SENTENCES if s == text] for split, text in held_out.items()},
    }
    text = dataset.spec.text
    assert text is not None
    assert text.split_punctuation
    assert dataset.spec.name == "imdb_reviews"
    tokeniser = Tokeniser("word", True, split_punctuation=True)
    assert tokeniser('"It\'s so-so..."') == ['"', "it's", "so-so", ".", ".", ".", '"']
    for split in dataset.splits:
        x, lengths = split.padded(np.arange(split.num_sequences))
        found = [text.sentence(row[:n]) for row, n in zip(x, lengths, strict=True)]
        assert found == [
            " ".join(t if t in text.vocabulary else "<unk>" for t in tokeniser(sentence))
            for sentence in expected[split.name]
        ]
        assert lengths.tolist() == [len(sentence.split()) + 1 for sentence in found]
    assert text.unknown not in dataset.train.values


def test_reviews_are_not_needed_twice(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataConfig("imdb_reviews", data_dir=str(tmp_path))
    first = registry.load(settings)
    monkeypatch.delattr(imdb_reviews, "_reviews")
    assert registry.load(settings).spec == first.spec


def test_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> None:
        assert request.full_url == imdb_reviews.SOURCE
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError) as error:
        registry.load(DataConfig("imdb_reviews", data_dir=str(tmp_path)))
    assert str(error.value) == (
        f"dataset 'imdb_reviews' could not be prepared in {tmp_path}/imdb_reviews/plain_text/1.0.0 "
        "(<urlopen error Name or service not known>): its first use downloads it, so connect to a "
        "network and run again, copy a prepared imdb_reviews folder into --data_dir, or use "
        "--dataset=text_file, which needs none"
    )


def test_source_and_features_are_those_of_tfds(tmp_path: Path) -> None:
    from tensorflow_datasets.datasets.imdb_reviews import imdb_reviews_dataset_builder

    assert imdb_reviews_dataset_builder._DOWNLOAD_URL == imdb_reviews.SOURCE
    theirs = imdb_reviews._reviews(str(tmp_path)).info.features
    ours = SmallImdbReviews(data_dir=str(tmp_path)).info.features
    assert theirs.get_tensor_spec() == ours.get_tensor_spec()
