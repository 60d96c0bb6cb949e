"""The dataset `digits`: 1,797 real handwritten digits of 8 x 8 pixels, generated without a network.

They are the images that scikit-learn brings along (the test set of "Optical Recognition of
Handwritten Digits", UCI), made binary: a pixel is 1 if its grey value of 0..16 is at least 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.images import image_dataset, steps_per_image
from zforcing_tf.data.spec import Dataset
from zforcing_tf.data.tfds_images import read_images

IMAGE_SHAPE = (8, 8)
THRESHOLD = 8
# The splits are slices of `numpy.random.RandomState(0).permutation(1797)`, which numpy has frozen.
_SPLITS = {
    "train": slice(0, 1437),
    "validation": slice(1437, 1617),
    "test": slice(1617, 1797),
}


class Digits(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; `tfds.load("digits")` works once this module has been imported.

    The split is by image, at random and fixed for all. Made binary, 47 of the images coincide with
    an earlier one, so that 8 validation and 11 test images also occur in the training split, and
    4 test images in the validation split.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "1,437 training, 180 validation and 180 test images."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 binary pixels, from scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(*IMAGE_SHAPE, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.images))
        for key, index in enumerate(order[_SPLITS[split]]):
            image = (digits.images[index] >= THRESHOLD).astype(np.uint8)
            yield key, {"image": image[..., None], "label": int(digits.target[index])}


def load(config: DataConfig) -> Dataset:
    """The digits as binary sequences of `config.rows_per_step` rows, prepared on first use."""
    num_steps = steps_per_image("digits", IMAGE_SHAPE, config.rows_per_step)
    images = read_images(
        "digits",
        lambda root: Digits(data_dir=root),
        config.data_dir,
    )
    return image_dataset("digits", images, num_steps)
