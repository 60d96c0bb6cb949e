"""The dataset `imdb_reviews`: sentences of 100,000 film reviews, by one download.

The reviews are those of TensorFlow Datasets, with and without labels, in the order train, test,
unsupervised. A sentence ends behind each run of . ! ? (and quotes or brackets that close behind it)
that a blank or the end follows, and at each line break <br />, which is removed. So "Mr. Smith" is
two sentences.

The n different sentences are put into the order of their SHA-256 (in UTF-8, its first 8 bytes):
the last n // 10 are the test split, the n // 20 before these the validation split. Equal sentences
are in one split. Words are runs of letters and digits, with hyphens and apostrophes between these;
each other mark is a word by itself.

For the lengths of the paper give `--min_tokens=5 --max_tokens=16`. Neither its sentences nor its
splits are known, so perplexities are near those published, and not the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset
from zforcing_tf.data.stored import records
from zforcing_tf.data.text_sequences import text_dataset
from zforcing_tf.data.text_splits import TextSplits
from zforcing_tf.errors import UserError

SOURCE = "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
_REVIEWS = ("train", "test", "unsupervised")
_BREAK = re.compile(r"<\s*br\s*/?\s*>", re.IGNORECASE)
_SENTENCE = re.compile(r"""\S.*?(?:[.!?]+["'”’)\]]*(?=\s|$)|$)""", re.DOTALL)


def sentences_of(review: str) -> Iterator[str]:
    """The sentences of a review, as the module says, with single blanks between words."""
    for paragraph in _BREAK.split(review):
        for found in _SENTENCE.findall(paragraph.strip()):
            yield " ".join(found.split())


class ImdbSentences(tfds.core.GeneratorBasedBuilder):
    """TFDS builder, which prepares `imdb_reviews` beside itself; the module says the rest.

    No more than a review is in memory, and 8 bytes of each sentence.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Sentences, split 85/5/10."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Sentences of film reviews.",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            homepage="http://ai.stanford.edu/~amaas/data/sentiment/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # the reviews have their own
        reviews = read_prepared(
            "imdb_reviews",
            _reviews,
            str(self._data_dir_root),
            lambda builder: builder,
            source=SOURCE,
            advice=(
                "its first use downloads it, so connect to a network and run again, copy a "
                "prepared imdb_reviews folder into --data_dir, or use --dataset=text_file, which "
                "needs none"
            ),
        )
        splits = TextSplits(_sentences(reviews))
        if splits.count < len(SPLIT_NAMES):
            raise UserError(f"dataset imdb_reviews in {reviews.data_dir} has too few sentences")
        return {split: self._generate_examples(reviews, splits, split) for split in SPLIT_NAMES}

    def _generate_examples(
        self, reviews: Any, splits: TextSplits, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        chosen = (text for text in _sentences(reviews) if splits.of(text) == split)
        for key, text in enumerate(chosen):
            yield key, {"text": text}


def _reviews(root: str) -> Any:
    return tfds.builder("imdb_reviews/plain_text", data_dir=root)


def _sentences(reviews: Any) -> Iterator[str]:
    for part in _REVIEWS:
        for record in records(reviews, part):
            yield from sentences_of(record["text"].decode("utf-8"))


def load(config: DataConfig) -> Dataset:
    """Sequences of symbols, downloaded and prepared on first use."""
    return read_prepared(
        "imdb_sentences",
        lambda root: ImdbSentences(data_dir=root),
        config.data_dir,
        lambda builder: text_dataset(
            "imdb_sentences", builder, config, title="imdb_reviews", split_punctuation=True
        ),
    )
