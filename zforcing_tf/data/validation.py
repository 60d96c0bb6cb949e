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
        _refuse(where, split, (low, high), fault)


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
            f"{split.title(sequence)} of {where} has length {lengths[sequence]}: "
            "every sequence needs at least one step, so leave it out"
        )
    if lengths.max() > max_length:
        sequence = int(np.argmax(lengths > max_length))
        raise UserError(
            f"{split.title(sequence)} of {where} has {lengths[sequence]} steps, more than "
            f"--max_length={max_length} accepts: raise --max_length or shorten the sequence"
        )


def _check_layout(where: str, split: Split, spec: DataSpec) -> None:
    symbols = spec.kind == "symbol"
    dtype = np.int32 if symbols else np.float32
    shape = (split.num_frames,) if symbols else (split.num_frames, spec.frame_size)
    frames = split.frames(slice(0, 1))
    if (len(split.values), *frames.shape[1:]) != shape or frames.dtype != dtype:
        raise UserError(
            f"the values of {where} are {frames.dtype} of shape "
            f"{[len(split.values), *frames.shape[1:]]}: its lengths and frame size ask for "
            f"{np.dtype(dtype)} of shape {list(shape)}"
        )


def _check_values(where: str, split: Split, spec: DataSpec) -> None:
    if spec.kind == "symbol":
        last = spec.frame_size - 1
        _refuse(where, split, (0, last), f"is not a symbol of the vocabulary 0..{last}")
        return
    big = float(np.finfo(np.float32).max)
    _refuse(where, split, (-big, big), "is not finite")
    if spec.kind == "binary":
        for start, frames in split.blocks():
            good = (frames == 0) | (frames == 1)
            _refuse_first(
                where, split, start, frames, good, "is neither 0 nor 1, as binary data must be"
            )


def _refuse(where: str, split: Split, limits: tuple[float, float], fault: str) -> None:
    """Raises if a number is not within limits, both included."""
    low, high = limits
    known = split.limits
    if known is not None and low <= known[0] and known[1] <= high:
        return
    for start, frames in split.blocks():
        _refuse_first(where, split, start, frames, (frames >= low) & (frames <= high), fault)


def _refuse_first(
    where: str,
    split: Split,
    start: int,
    frames: npt.NDArray[Any],
    good: npt.NDArray[np.bool_],
    fault: str,
) -> None:
    """Raises if any element of `good`, which has the shape of the frames from `start`, is False."""
    if good.all():
        return
    place: tuple[Any, ...] = np.unravel_index(int(np.argmin(good)), good.shape)
    row = start + int(place[0])
    sequence = int(np.searchsorted(split.starts, row, side="right")) - 1
    raise UserError(
        f"step {row - split.starts[sequence]} of {split.title(sequence)} of {where} holds "
        f"{frames[place]}, which {fault}: repair the sequence or leave it out"
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
                f"{split.title(sequence)} of split {split.name!r} of dataset {spec.name!r} lists "
                f"{split.lengths[sequence] * spec.frame_size} pixels, but its images have "
                f"{pixels}: mend the loader of the dataset"
            )
