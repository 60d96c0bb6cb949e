"""Sequences of symbols from the texts of a prepared dataset."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.config import DataConfig
from zforcing_tf.data.description import Text
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec
from zforcing_tf.data.stored import Record, kept, records, store
from zforcing_tf.data.vocabulary import Encoder, Tokeniser, vocabulary_of
from zforcing_tf.errors import UserError


def text_dataset(
    name: str,
    builder: Any,
    config: DataConfig,
    *,
    title: str = "",
    feature: str = "text",
    splits: Mapping[str, str] | None = None,
    split_punctuation: bool = False,
    check_encoding: bool = False,
) -> Dataset:
    """Texts as sequences of symbols, each with the end behind it.

    The vocabulary is that of the training texts that are taken. Of the texts one is in memory at a
    time.

    Args:
      name: the dataset, for errors.
      builder: a prepared `tfds.core.DatasetBuilder`.
      config: its tokens, vocabulary_size, min_tokens, max_tokens and lower_case count.
      title: name of the dataset in its description; empty: `name`.
      feature: of a record; holds text in UTF-8.
      splits: see `stored.store`.
      split_punctuation: see `Tokeniser`.
      check_encoding: whether there may be texts that are not in UTF-8, which are refused, or left
        out and counted if `config.skip_bad_records` says so.

    Raises:
      UserError: limits that leave no text in a split; a text that is refused.
    """
    if 0 < config.max_tokens < config.min_tokens:
        raise UserError(
            f"--max_tokens={config.max_tokens} is below --min_tokens={config.min_tokens}: "
            "raise it, or give 0 for texts of any length"
        )
    names = splits or {split: split for split in SPLIT_NAMES}
    tokeniser = Tokeniser(config.tokens, config.lower_case, split_punctuation)

    def taken(record: Record) -> list[str]:
        """Tokens of a text; none if it is too short or too long, or not in UTF-8."""
        try:
            tokens = tokeniser(record[feature].decode("utf-8"))
        except UnicodeDecodeError:
            return []
        longest = config.max_tokens or len(tokens)
        return tokens if config.min_tokens <= len(tokens) <= longest else []

    def badly_encoded() -> dict[str, list[str]]:
        return {
            split: [
                f"record {index} of split {names[split]} is not in UTF-8 (byte {place + 1} of it)"
                for index, record in enumerate(records(builder, names[split], feature))
                if (place := _first_fault(record[feature])) is not None
            ]
            for split in SPLIT_NAMES
        }

    bad: dict[str, list[str]] = {split: [] for split in SPLIT_NAMES}
    if check_encoding:
        bad = kept(Path(builder.data_dir) / f"{feature}.encoding.json", badly_encoded)
    skipped = tuple(where for split in SPLIT_NAMES for where in bad[split])
    if skipped and not config.skip_bad_records:
        raise UserError(
            f"{skipped[0]} (records counted from 0), in feature {feature!r} of dataset {name!r}: "
            "prepare it in UTF-8, or have such texts left out with --skip_bad_records"
        )
    form = (
        f"{feature}_{config.tokens}s_{config.vocabulary_size}_{config.min_tokens}_"
        f"{config.max_tokens}" + "_lower_case" * config.lower_case
    )

    def most_frequent() -> tuple[str, ...]:
        counts: Counter[str] = Counter()
        for record in records(builder, names["train"], feature):
            counts.update(taken(record))
        return vocabulary_of(counts, config.vocabulary_size)

    vocabulary = tuple(kept(Path(builder.data_dir) / f"{form}.json", most_frequent))
    text = Text(vocabulary, config.tokens, split_punctuation)
    encoder = Encoder(text)

    def rows(record: Record) -> npt.NDArray[np.int32]:
        tokens = taken(record)
        return encoder(tokens) if tokens else np.zeros(0, np.int32)

    stored = store(
        name,
        builder,
        form,
        rows,
        (),
        np.int32,
        names,
        advice="give more texts, or other limits with --min_tokens and --max_tokens",
        feature=feature,
    )
    dataset = stored.dataset(
        lambda longest: DataSpec(title or name, "symbol", len(vocabulary), longest, text=text),
        lambda symbols: symbols,
    )
    examples = {
        split: builder.info.splits[names[split]].num_examples - len(bad[split])
        for split in SPLIT_NAMES
    }
    return dataclasses.replace(
        dataset,
        skipped=(*dataset.skipped, *skipped),
        notes=(*dataset.notes, *_notes(dataset, text, examples, config)),
    )


def _first_fault(text: bytes) -> int | None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


def _notes(
    dataset: Dataset, text: Text, examples: Mapping[str, int], config: DataConfig
) -> Iterator[str]:
    name = dataset.spec.name
    if len(text.vocabulary) < config.vocabulary_size:
        yield (
            f"{name}: the training texts hold {len(text.vocabulary)} symbols, </s> and <unk> among "
            f"them, fewer than --vocabulary_size={config.vocabulary_size}"
        )
    for split in dataset.splits:
        unknown = sum(int((symbols == text.unknown).sum()) for _, symbols in split.blocks())
        yield (
            f"{name} {split.name}: {split.num_sequences} texts, {split.num_frames} tokens, "
            f"</s> counted, {100 * unknown / split.num_frames:.1f} % of them unknown; "
            f"{examples[split.name] - split.num_sequences} texts left out for their length"
        )
