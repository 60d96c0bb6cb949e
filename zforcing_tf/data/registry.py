"""The one place where datasets are registered.

To add a dataset, write a module with `load(config: DataConfig) -> Dataset` and name it in
`_LOADERS`; every program then accepts it as `--dataset`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib

from zforcing_tf.config import DataConfig
from zforcing_tf.data.spec import Dataset
from zforcing_tf.data.validation import validate
from zforcing_tf.errors import UserError

# Modules, not functions: TensorFlow Datasets takes seconds to import and is not always needed.
_LOADERS = {
    "array": "zforcing_tf.data.array",
    "audio_folder": "zforcing_tf.data.audio_folder",
    "binarized_mnist": "zforcing_tf.data.binarized_mnist",
    "blizzard": "zforcing_tf.data.blizzard",
    "digits": "zforcing_tf.data.digits",
    "imdb_reviews": "zforcing_tf.data.imdb_reviews",
    "librispeech": "zforcing_tf.data.librispeech",
    "linear_gaussian": "zforcing_tf.data.linear_gaussian",
    "mnist": "zforcing_tf.data.mnist",
    "piano_roll": "zforcing_tf.data.piano_roll",
    "text_file": "zforcing_tf.data.text_file",
    "timit": "zforcing_tf.data.timit",
}


def dataset_names() -> tuple[str, ...]:
    """All names that `--dataset` accepts, sorted; beside these it accepts `tfds:<name>`."""
    return tuple(sorted(_LOADERS))


def load(config: DataConfig, data_dir: str | None = None) -> Dataset:
    """Loads and checks the dataset `config.dataset`, generating it on first use if need be.

    What the whole training data decides, such as the scale of sound, a part of it does not change.

    Args:
      config: which data.
      data_dir: in place of `config.data_dir`, unless it is None.

    Raises:
      UserError: the name is unknown, the data cannot be had, or the data is bad.
    """
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    name = config.dataset
    module = "zforcing_tf.data.named" if name.startswith("tfds:") else _LOADERS.get(name)
    if module is None:
        close = difflib.get_close_matches(name, _LOADERS, n=1)
        hint = f"did you mean {close[0]!r}? Known" if close else "known"
        raise UserError(
            f"unknown dataset {name!r}: {hint} are {', '.join(dataset_names())}, and with tfds: "
            "before it each name of TensorFlow Datasets"
        )
    dataset: Dataset = importlib.import_module(module).load(config)
    validate(dataset, config.max_length)
    if config.train_sequences:
        given = dataset.train.num_sequences
        if config.train_sequences > given:
            raise UserError(
                f"--train_sequences={config.train_sequences}, but dataset {dataset.spec.name!r} "
                f"has {given:,} to train on: give fewer, or 0 for all"
            )
        note = (
            f"{dataset.spec.name}: training on the first {config.train_sequences:,} of {given:,} "
            "sequences; what else is said of the training data is said of all of them"
        )
        dataset = dataclasses.replace(
            dataset,
            train=dataset.train.first(config.train_sequences),
            notes=(*dataset.notes, note),
        )
    if config.chunk_evaluation:
        validation, test = (s.cut(config.chunk_length) for s in dataset.splits[1:])
        dataset = dataclasses.replace(dataset, validation=validation, test=test)
    return dataset
