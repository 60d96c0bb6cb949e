"""Reads an image set of TensorFlow Datasets, preparing it on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES


def read_images(
    name: str, make_builder: Callable[[str], Any], data_dir: str, **how: str
) -> dict[str, npt.NDArray[np.uint8]]:
    """All images of a TFDS dataset with a feature `image` of one channel.

    Arguments and errors are those of `prepared.read_prepared`, `advice` and `source` among them.

    Returns:
      For each split `[N, rows, columns] uint8`, in the order of the records.
    """

    def read(builder: Any) -> dict[str, npt.NDArray[np.uint8]]:
        return {split: _read_split(builder, split) for split in SPLIT_NAMES}

    return read_prepared(name, make_builder, data_dir, read, **how)


def _read_split(builder: Any, split: str) -> npt.NDArray[np.uint8]:
    import tensorflow_datasets as tfds

    read_config = tfds.ReadConfig(try_autocache=False)
    records = builder.as_dataset(split=split, batch_size=-1, read_config=read_config)
    images: npt.NDArray[np.uint8] = tfds.as_numpy(records)["image"]
    expected = builder.info.splits[split].num_examples
    if len(images) != expected:
        raise ValueError(f"{len(images)} instead of {expected} records in split {split!r}")
    return images[..., 0]
