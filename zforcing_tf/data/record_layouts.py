"""How features of records of TensorFlow Datasets become rows of numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.images import steps_per_image
from zforcing_tf.data.spec import DataKind
from zforcing_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
    """From the value of a feature to rows.

    Attributes:
      kind: what rows hold, if it is not known from the numbers that they are all 0 or 1.
      frame_size: numbers in a row.
      may_be_binary: whether they are zeros and ones if all are 0 or 1.
      num_steps: rows of an image, or 0 for other features.
      image_shape: of pictures of one channel, rows and columns.
      scale: by which numbers are divided to be frames, unless they are zeros and ones.
    """

    kind: DataKind
    frame_size: int
    may_be_binary: bool
    num_steps: int = 0
    image_shape: tuple[int, int] | None = None
    scale: float = 1.0

    def rows(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rows [T, frame_size] of the value of a record."""
        return np.asarray(value).reshape(self.num_steps or len(value), self.frame_size)


def layout_of(name: str, feature: str, found: Any, rows_per_step: int) -> Layout:
    """How a feature of numbers becomes rows.

    Args:
      name: the dataset, for errors.
      feature: its name.
      found: a `tfds.features.FeatureConnector`.
      rows_per_step: of images; see `images.steps_per_image`.

    Raises:
      UserError: it holds no sequences of numbers.
    """
    import tensorflow_datasets as tfds

    shape, where = found.shape, f"feature {feature!r} of dataset {name!r}"
    if isinstance(shape, dict):
        raise UserError(f"{where} holds {', '.join(shape)}: choose a feature without parts")
    dtype = np.dtype(found.np_dtype)
    if dtype.kind not in "buif":
        raise UserError(f"{where} holds {dtype.name} values: choose one of numbers, text or images")
    eight_bits = dtype in (np.bool_, np.uint8)
    if isinstance(found, tfds.features.Image):
        if None in shape:
            raise UserError(
                f"{where} holds images of different sizes, {list(shape)}: prepare the dataset with "
                "all of one size"
            )
        rows, columns, channels = shape
        steps = steps_per_image(name, (rows, columns), rows_per_step)
        return Layout(
            "real",
            rows * columns * channels // steps,
            eight_bits,
            steps,
            (rows, columns) if channels == 1 else None,
            float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0,
        )
    if len(shape) not in (1, 2) or None in shape[1:]:
        raise UserError(
            f"{where} has the shape {list(shape)}: choose one of [steps, numbers] or [steps], with "
            "as many numbers in each step"
        )
    kind: DataKind = "real" if dtype.kind == "f" else "symbol"
    return Layout(kind, shape[1] if len(shape) == 2 else 1, eight_bits)
