"""The dataset `mnist`: handwritten digits of 28 x 28 pixels from files, made binary by chance.

`--manual_dir` names mnist.npz, as Keras keeps it, or a folder with that or with the files
train-images-idx3-ubyte and t10k-images-idx3-ubyte (.gz too). No network is needed.

A pixel is 1 with the probability of its grey value / 255, drawn once and alike for all: where
`RandomState(seed).random_sample([N, 28, 28]) * 255 < grey`, with the seed 0 for the first 50,000
training images (training), 1 for the last 10,000 (validation), and 2 for the 10,000 test images.
`numpy.random.RandomState` is frozen. This is not the draw of `binarized_mnist`, to which published
numbers refer; bounds on the two are alike, but not equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data import mnist_files
from zforcing_tf.data.images import image_dataset, steps_per_image
from zforcing_tf.data.mnist_files import IMAGE_SHAPE, Images
from zforcing_tf.data.own_files import fingerprint, given_path
from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset
from zforcing_tf.data.stored import store

COUNTS = (50000, 10000, 10000)
"""Images for training, validation and testing."""


@dataclasses.dataclass
class StaticMnistConfig(tfds.core.BuilderConfig):
    """Which files.

    Attributes:
      path: file or folder; empty for the manual folder of TensorFlow Datasets.
      counts: images for training, validation and testing that there must be.
    """

    path: str = ""
    counts: tuple[int, int, int] = COUNTS


class StaticMnist(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says how images become binary."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "50,000 training, 10,000 validation and 10,000 test images."}
    BUILDER_CONFIGS = [StaticMnistConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Give {mnist_files.WHAT}."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="MNIST, statically binarised from files that the user brings.",
            features=tfds.features.FeaturesDict(
                {
                    # A PNG for each of 70,000 images would take minutes.
                    "image": tfds.features.Tensor(
                        shape=IMAGE_SHAPE, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                    )
                }
            ),
            homepage="http://yann.lecun.com/exdb/mnist/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        files = mnist_files.image_files(Path(self.builder_config.path or dl_manager.manual_dir))
        train, validation, test = self.builder_config.counts
        known = mnist_files.read_images(files["train"], "train", train + validation)
        unknown = mnist_files.read_images(files["test"], "test", test)
        parts = (known[:train], known[train:], unknown)
        return {
            split: self._generate_examples(seed, images)
            for seed, (split, images) in enumerate(zip(SPLIT_NAMES, parts, strict=True))
        }

    def _generate_examples(self, seed: int, images: Images) -> Iterator[tuple[int, dict[str, Any]]]:
        random = np.random.RandomState(seed)
        for key, grey in enumerate(images):
            # One image after the other gives the same numbers as all at once.
            ones = random.random_sample(IMAGE_SHAPE) * 255 < grey
            yield key, {"image": ones.astype(np.uint8)}


def load(config: DataConfig) -> Dataset:
    """The images as binary sequences of `config.rows_per_step` rows, prepared on first use."""
    num_steps = steps_per_image("mnist", IMAGE_SHAPE, config.rows_per_step)
    path = given_path(config.manual_dir, "mnist", mnist_files.WHAT)
    files = sorted(set(mnist_files.image_files(path).values()))
    builder_config = StaticMnistConfig(
        name=fingerprint(files, COUNTS), path=str(path), counts=COUNTS
    )

    def read(builder: Any) -> Dataset:
        stored = store(
            "mnist", builder, "images", lambda r: r["image"][None], IMAGE_SHAPE, np.uint8
        )
        return image_dataset("mnist", stored.values, num_steps)

    return read_prepared(
        "static_mnist",
        lambda root: StaticMnist(data_dir=root, config=builder_config),
        config.data_dir,
        read,
    )
