"""The embedded dataset: which images, in which split, as which frames."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.digits import Digits
from zforcing_tf.errors import UserError


class DigitsBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = Digits
    SPLITS = {"train": 1437, "validation": 180, "test": 180}
    EXAMPLE_DIR = str(Path(__file__).parent)  # nothing is downloaded, so nothing is faked
    # Made binary, some images coincide; exactly how many is tested below.
    OVERLAPPING_SPLITS = ["train", "validation"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("digits"))


def test_splits_are_these_images_once_and_for_all(data_dir: str) -> None:
    dataset = registry.load(DataConfig(data_dir=data_dir, rows_per_step=8))
    order = np.random.RandomState(0).permutation(1797)
    expected = load_digits().images.reshape(1797, 64)[order] >= 8
    values = np.concatenate([split.values for split in dataset.splits])
    np.testing.assert_array_equal(values, expected)
    assert [split.num_sequences for split in dataset.splits] == [1437, 180, 180]
    digests = [
        hashlib.sha256(split.values.astype(np.uint8).tobytes()).hexdigest()[:8]
        for split in dataset.splits
    ]
    assert digests == ["a6d0a61e", "9896c780", "cc4d680e"]


@pytest.mark.parametrize(
    ("rows_per_step", "num_steps", "frame_size"), [(0, 64, 1), (1, 8, 8), (2, 4, 16)]
)
def test_frames(data_dir: str, rows_per_step: int, num_steps: int, frame_size: int) -> None:
    dataset = registry.load(DataConfig(data_dir=data_dir, rows_per_step=rows_per_step))
    assert dataset.spec.to_json() == {
        "name": "digits",
        "kind": "binary",
        "frame_size": frame_size,
        "max_length": num_steps,
        "image_shape": [8, 8],
    }
    assert dataset.train.values.shape == (1437 * num_steps, frame_size)
    assert (dataset.train.lengths == num_steps).all()


def test_default_is_four_steps_of_sixteen_pixels() -> None:
    assert DataConfig().rows_per_step == 2


def test_rows_that_do_not_divide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--rows_per_step=3 .* choose 1, 2, 4, 8, or 0 for one"):
        registry.load(DataConfig(data_dir=str(tmp_path), rows_per_step=3))
    assert not list(tmp_path.iterdir())


def test_tfds_load_by_name(data_dir: str) -> None:
    """Labels go with their images."""
    registry.load(DataConfig(data_dir=data_dir))
    images, labels = tfds.as_numpy(
        tfds.load("digits", split="test", data_dir=data_dir, batch_size=-1, as_supervised=True)
    )
    order = np.random.RandomState(0).permutation(1797)[1617:]
    np.testing.assert_array_equal(labels, load_digits().target[order])
    np.testing.assert_array_equal(images[..., 0], load_digits().images[order] >= 8)
    assert images.dtype == np.uint8


def test_documented_coincidences(data_dir: str) -> None:
    dataset = registry.load(DataConfig(data_dir=data_dir, rows_per_step=8))
    train, validation, test = ([row.tobytes() for row in s.values] for s in dataset.splits)
    assert len(set(train + validation + test)) == 1797 - 47
    known = set(train)
    assert sum(image in known for image in validation) == 8
    assert sum(image in known for image in test) == 11
    assert sum(image in set(validation) for image in test) == 4
