"""Datasets `tfds:<name>`: any that TensorFlow Datasets knows, or that is prepared in --data_dir.

The name is that of TensorFlow Datasets, with a configuration if need be, such as
`tfds:my_dataset/small`. `--feature` says what of a record holds the sequence:

- numbers [T, D] or [T] (a Tensor, or a Sequence of numbers): integers [T] are symbols, booleans
  (or 8 bits, all 0 or 1) zeros and ones, floating-point numbers are taken in their own units;
- an image: `--rows_per_step` rows to a step, grey values divided by 255 if they are whole numbers;
- a text: words, told from punctuation as in `imdb_reviews`, or characters.

The splits are train, validation (or valid or dev) and test. Each of the last two that is missing is
cut from the end of train, test last: a tenth of its records, at least one.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy.typing as npt

from zforcing_tf.config import DataConfig
from zforcing_tf.data.number_frames import DTYPES, fault, number_dataset
from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.record_layouts import Layout, layout_of
from zforcing_tf.data.spec import SPLIT_NAMES, DataKind, Dataset
from zforcing_tf.data.stored import Record, kept, records, store
from zforcing_tf.data.text_sequences import text_dataset
from zforcing_tf.errors import UserError

PREFIX = "tfds:"
_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}


def load(config: DataConfig) -> Dataset:
    """Sequences of one feature, prepared on first use. Its name is `config.dataset`."""
    name = config.dataset.removeprefix(PREFIX)

    def read(builder: Any) -> Dataset:
        splits, notes = _splits(name, builder)
        feature, found = _feature(name, builder, config)
        if found is None:
            dataset = text_dataset(
                name,
                builder,
                config,
                title=config.dataset,
                feature=feature,
                splits=splits,
                split_punctuation=True,
                check_encoding=True,
            )
        else:
            dataset = _numbers(name, builder, config, feature, found, splits)
        return dataclasses.replace(dataset, notes=(*notes, *dataset.notes))

    return read_prepared(
        name.partition("/")[0].partition(":")[0],
        lambda root: _builder(name, root),
        config.data_dir,
        read,
        advice=(
            "if it is downloaded on first use, connect to a network and run again; if it is made "
            "of files of yours, name their folder with --manual_dir"
        ),
        manual_dir=config.manual_dir,
    )


def _builder(name: str, root: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=root)
    except json.JSONDecodeError:  # of files that a preparation left, not of the name
        raise
    except ValueError as error:  # no such name, or no such configuration
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"TensorFlow Datasets finds no dataset {name!r} ({reason}): mend the name in "
            f"--dataset={PREFIX}{name}, or name the folder where it is prepared with --data_dir"
        ) from error


def _splits(name: str, builder: Any) -> tuple[dict[str, str], list[str]]:
    """What the builder calls each split, and a note for each that is cut from another."""
    there = builder.info.splits
    found = {split: next((n for n in names if n in there), "") for split, names in _NAMES.items()}
    if not found["train"]:
        raise UserError(
            f"dataset {name!r} has the splits {', '.join(there) or '(none)'} but no train: choose "
            "another dataset"
        )
    end = int(there["train"].num_examples)
    missing = [split for split in ("test", "validation") if not found[split]]
    size = max(1, end // 10)
    if end <= size * len(missing):
        raise UserError(
            f"dataset {name!r} has no split {' and no split '.join(missing)}, and too few records "
            f"in train ({end}) to cut one off: choose another dataset"
        )
    notes = []
    for split in missing:
        found[split] = f"train[{end - size}:{end}]"
        end -= size
        notes.append(f"{PREFIX}{name} has no split {split}: it is cut off, as {found[split]}")
    if missing:
        found["train"] = f"train[:{end}]"
    return found, notes


def _feature(name: str, builder: Any, config: DataConfig) -> tuple[str, Layout | None]:
    """The feature that holds the sequences, and how; None: as text."""
    import tensorflow_datasets as tfds

    features, feature = builder.info.features, config.feature or "x"
    if not isinstance(features, tfds.features.FeaturesDict):
        raise UserError(f"the records of dataset {name!r} have no names: choose another dataset")
    if feature not in features:
        raise UserError(
            f"dataset {name!r} has no feature {feature!r} but {', '.join(features)}: choose one of "
            "these with --feature"
        )
    found = features[feature]
    if isinstance(found, tfds.features.Audio):
        raise UserError(
            f"feature {feature!r} of dataset {name!r} is sound: have its recordings in a folder, "
            "and use --dataset=audio_folder"
        )
    if isinstance(found, tfds.features.Text):
        return feature, None
    return feature, layout_of(name, feature, found, config.rows_per_step)


def _numbers(
    name: str,
    builder: Any,
    config: DataConfig,
    feature: str,
    layout: Layout,
    splits: dict[str, str],
) -> Dataset:
    form = f"{feature}_{layout.num_steps}" if layout.num_steps else feature

    def survey() -> dict[str, Any]:
        """Whether all numbers are 0 or 1, and the records that cannot be used."""
        ones, bad = layout.may_be_binary, list[str]()
        for split in SPLIT_NAMES:
            for index, record in enumerate(records(builder, splits[split], feature)):
                rows = layout.rows(record[feature])
                ones = ones and bool((rows <= 1).all())
                if wrong := fault(rows, layout.kind):
                    bad.append(f"record {index} of split {splits[split]} {wrong}")
        return {"binary": ones, "bad": bad}

    known = kept(Path(builder.data_dir) / f"{form}.survey.json", survey)
    if known["bad"] and not config.skip_bad_records:
        raise UserError(
            f"{known['bad'][0]} (counted from 0), in feature {feature!r} of dataset {name!r}: "
            "repair the dataset, or have such records left out with --skip_bad_records"
        )
    kind: DataKind = "binary" if known["binary"] else layout.kind
    if kind == "symbol" and layout.frame_size > 1:
        raise UserError(
            f"feature {feature!r} of dataset {name!r} holds integers in frames of "
            f"{layout.frame_size} numbers: choose one of floating-point numbers, or of single "
            "symbols"
        )

    def rows(record: Record) -> npt.NDArray[Any]:
        found = layout.rows(record[feature])
        if fault(found, layout.kind):
            return found[:0]
        return found[:, 0] if kind == "symbol" else found

    stored = store(
        name,
        builder,
        form + "_skipping" * bool(known["bad"]),
        rows,
        () if kind == "symbol" else (layout.frame_size,),
        DTYPES[kind],
        splits,
        advice="choose another feature",
        feature=feature,
    )
    dataset = number_dataset(
        stored,
        config.dataset,
        kind,
        layout.frame_size,
        layout.image_shape,
        1.0 if kind == "binary" else layout.scale,
        config.vocabulary_size,
    )
    return dataclasses.replace(dataset, skipped=tuple(known["bad"]))
