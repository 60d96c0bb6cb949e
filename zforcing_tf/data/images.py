"""Binary images as sequences: a few rows, or one pixel, to a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec, Split
from zforcing_tf.errors import UserError


def steps_per_image(name: str, image_shape: tuple[int, int], rows_per_step: int) -> int:
    """Steps that an image is cut into.

    Args:
      name: the dataset, for the error.
      image_shape: rows and columns.
      rows_per_step: image rows in one step, 0 for one pixel in each step.

    Raises:
      UserError: `rows_per_step` does not divide the rows.
    """
    rows, columns = image_shape
    if rows_per_step == 0:
        return rows * columns
    divisors = [count for count in range(1, rows + 1) if rows % count == 0]
    if rows_per_step not in divisors:
        raise UserError(
            f"--rows_per_step={rows_per_step} does not divide the {rows} rows of an image of "
            f"{name!r}: choose {', '.join(map(str, divisors))}, or 0 for one pixel in each step"
        )
    return rows // rows_per_step


def image_dataset(
    name: str, images: Mapping[str, npt.NDArray[np.uint8]], num_steps: int
) -> Dataset:
    """Cuts the images of every split into `num_steps` frames, in raster order.

    Args:
      name: the dataset.
      images: for each split `[N, rows, columns]`, zeros and ones.
      num_steps: a number from `steps_per_image`.
    """
    rows, columns = images["train"].shape[1:]
    frame_size = rows * columns // num_steps
    splits = [
        Split(
            split,
            images[split].reshape(-1, frame_size).astype(np.float32),
            np.full(len(images[split]), num_steps, np.int32),
        )
        for split in SPLIT_NAMES
    ]
    return Dataset(
        DataSpec(name, "binary", frame_size, num_steps, (rows, columns)),
        splits[0],
        splits[1],
        splits[2],
    )
