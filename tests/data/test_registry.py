"""Datasets by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from zforcing_tf.config import DataConfig
from zforcing_tf.data import linear_gaussian, registry
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError


def test_names() -> None:
    names = registry.dataset_names()
    assert names == tuple(sorted(names))
    assert {"binarized_mnist", "digits", "linear_gaussian", "piano_roll"} <= set(names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            "unknown dataset 'digit': did you mean 'digits'? Known are ",
        ),
        (
            "qqq",
            "unknown dataset 'qqq': known are ",
        ),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        registry.load(DataConfig(dataset=name))
    known = ", ".join(registry.dataset_names())
    more = ", and with tfds: before it each name of TensorFlow Datasets"
    assert str(error.value) == message + known + more


def test_load_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    good = linear_gaussian.load(DataConfig())

    def load_bad(config: DataConfig) -> Dataset:
        good.test.values[0, 0] = np.nan
        return good

    monkeypatch.setattr(linear_gaussian, "load", load_bad)
    with pytest.raises(UserError, match="step 0 of sequence 0 of split 'test' of dataset 'linear_"):
        registry.load(DataConfig(dataset="linear_gaussian"))


def test_max_length_is_the_flag() -> None:
    with pytest.raises(UserError, match="more than --max_length=29 accepts"):
        registry.load(DataConfig(dataset="linear_gaussian", max_length=29))


def test_part_of_the_training_data() -> None:
    """The first sequences; nothing else changes."""
    whole = registry.load(DataConfig(dataset="linear_gaussian"))
    part = registry.load(DataConfig(dataset="linear_gaussian", train_sequences=7))
    np.testing.assert_array_equal(part.train.lengths, whole.train.lengths[:7])
    np.testing.assert_array_equal(part.train.padded([6])[0], whole.train.padded([6])[0])
    assert part.train.num_frames == len(part.train.values)
    assert part.spec == whole.spec
    assert part.notes[-1].startswith("linear_gaussian: training on the first 7 of ")
    np.testing.assert_array_equal(part.test.values, whole.test.values)
    count = whole.train.num_sequences
    message = f"--train_sequences={count + 1}, but dataset 'linear_gaussian' has {count:,} to train"
    with pytest.raises(UserError, match=message):
        registry.load(DataConfig(dataset="linear_gaussian", train_sequences=count + 1))


def test_importing_and_loading_needs_no_tensorflow() -> None:
    program = (
        "import sys; from zforcing_tf.config import DataConfig; from zforcing_tf.data import "
        "registry; registry.load(DataConfig(dataset='linear_gaussian')); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
