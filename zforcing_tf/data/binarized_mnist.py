"""The dataset `binarized_mnist`: 28 x 28 binary images, 50,000 / 10,000 / 10,000, by one download.

The fixed binarisation of Salakhutdinov and Murray (2008) in which sequential MNIST results are
reported; with `--rows_per_step=0` it is that task, 784 steps of one pixel.
"""

from __future__ import annotations

from typing import Any

from zforcing_tf.config import DataConfig
from zforcing_tf.data.images import image_dataset, steps_per_image
from zforcing_tf.data.spec import Dataset
from zforcing_tf.data.tfds_images import read_images

IMAGE_SHAPE = (28, 28)
SOURCE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


def _builder(root: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder("binarized_mnist", data_dir=root)


def load(config: DataConfig) -> Dataset:
    """The images as binary sequences of `config.rows_per_step` rows, downloaded on first use."""
    num_steps = steps_per_image("binarized_mnist", IMAGE_SHAPE, config.rows_per_step)
    images = read_images(
        "binarized_mnist",
        _builder,
        config.data_dir,
        source=SOURCE,
        advice=(
            "its first use downloads it, so connect to a network and run again, copy a prepared "
            "binarized_mnist folder into --data_dir, or use --dataset=digits, which needs none"
        ),
    )
    return image_dataset("binarized_mnist", images, num_steps)
