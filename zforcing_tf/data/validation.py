"""The one place where loaded data is checked, so that bad data is named and not averaged in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import SPLIT_NAMES, Dataset, DataSpec, Split
from zforcing_tf.errors import UserError


def validate(dataset: Dataset, max_length: int) -> None:
    """Checks every split of a dataset.

    Args:
      dataset: what a loader returned.
      max_length: the longest sequence accepted, in steps.

    Raises:
      UserError: names the dataset, the split and, where it applies, the sequence and the step
        (both counted from 0) of the first fault found.
    """
    for name, split in zip(SPLIT_NAMES, dataset.splits, strict=True):
        where = f"split {name!r} of dataset {dataset.spec.name!r}"
        if split.name != name:
            raise UserError(f"{where} calls itself {split.name!r}: mend the loader of the dataset")
        _check_lengths(where, split, max_length)
        _check_layout(where, split, dataset.spec)
        _check_values(where, split, dataset.spec)
    longest = max(int(split.lengths.max()) for split in dataset.splits)
    if dataset.spec.max_length != longest:
        raise UserError(
            f"dataset {dataset.spec.name!r} declares sequences of at most "
            f"{dataset.spec.max_length} steps but its longest has {longest}: "
            "mend the loader of the dataset"
        )
    _check_image_shape(dataset)


def check_limits(dataset: Dataset, limits: tuple[float, float], emission: str) -> None:
    """Checks that each number of each split is one that an emission can give.

    Args:
      dataset: that has passed `validate`.
      limits: least and greatest number, `EmissionFamily.limits`.
      emission: name of the family, for the error.

    Raises:
      UserError: names the first number outside, and its place.
    """
    if dataset.spec.kind == "symbol":
        return
    low, high = limits
    fault = f"is not within {low:g} to {high:g}, as --emission={emission} takes it"
    for name, split in zip(SPLIT_NAMES, dataset.splits, strict=True):
        where = f"split {name!r} of dataset {dataset.spec.name!r}"
        _refuse(where, split, (split.values >= low) & (split.values <= high), fault)


def _check_lengths(where: str, split: Split, max_length: int) -> None:
    lengths = split.lengths
    if lengths.ndim != 1 or lengths.dtype != np.int32:
        raise UserError(
            f"the lengths of {where} are {lengths.dtype} of shape {list(lengths.shape)}: "
            "give one int32 for each sequence"
        )
    if not len(lengths):
        raise UserError(f"{where} has no sequence: give at least one")
    if lengths.min() < 1:
        sequence = int(np.argmax(lengths < 1))
        raise UserError(
            f"sequence {sequence} of {where} has length {lengths[sequence]}: "
            "every sequence needs at least one step, so leave it out"
        )
    if lengths.max() > max_length:
        sequence = int(np.argmax(lengths > max_length))
        raise UserError(
            f"sequence {sequence} of {where} has {lengths[sequence]} steps, more than "
            f"--max_length={max_length} accepts: raise --max_length or shorten the sequence"
        )


def _check_layout(where: str, split: Split, spec: DataSpec) -> None:
    symbols = spec.kind == "symbol"
    dtype = np.int32 if symbols else np.float32
    shape = (split.num_frames,) if symbols else (split.num_frames, spec.frame_size)
    if split.values.shape != shape or split.values.dtype != dtype:
        raise UserError(
            f"the values of {where} are {split.values.dtype} of shape "
            f"{list(split.values.shape)}: its lengths and frame size ask for "
            f"{np.dtype(dtype)} of shape {list(shape)}"
        )


def _check_values(where: str, split: Split, spec: DataSpec) -> None:
    if spec.kind == "symbol":
        inside = (split.values >= 0) & (split.values < spec.frame_size)
        _refuse(where, split, inside, f"is not a symbol of the vocabulary 0..{spec.frame_size - 1}")
        return
    _refuse(where, split, np.isfinite(split.values), "is not finite")
    if spec.kind == "binary":
        binary = (split.values == 0) | (split.values == 1)
        _refuse(where, split, binary, "is neither 0 nor 1, as binary data must be")


def _refuse(where: str, split: Split, good: npt.NDArray[np.bool_], fault: str) -> None:
    """Raises if any element of `good`, which has the shape of the values, is False."""
    if good.all():
        return
    place: tuple[Any, ...] = np.unravel_index(int(np.argmin(good)), good.shape)
    row = int(place[0])
    sequence = int(np.searchsorted(split.starts, row, side="right")) - 1
    raise UserError(
        f"step {row - split.starts[sequence]} of sequence {sequence} of {where} holds "
        f"{split.values[place]}, which {fault}: repair the sequence or leave it out"
    )


def _check_image_shape(dataset: Dataset) -> None:
    spec = dataset.spec
    if spec.image_shape is None:
        return
    pixels = spec.image_shape[0] * spec.image_shape[1]
    for split in dataset.splits:
        wrong = split.lengths * spec.frame_size != pixels
        if wrong.any():
            sequence = int(np.argmax(wrong))
            raise UserError(
                f"sequence {sequence} of split {split.name!r} of dataset {spec.name!r} lists "
                f"{split.lengths[sequence] * spec.frame_size} pixels, but its images have "
                f"{pixels}: mend the loader of the dataset"
            )
