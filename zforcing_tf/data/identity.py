"""Whether data is that of a run: what it is, and numbers that other frames would not give.

`data.json` of a run holds what `described` gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zforcing_tf.data.spec import Dataset, DataSpec, Split

CONTENT = "content"
_FRAMES = 4096
_TOLERANCE = 1e-4
"""Means and deviations of the same sound differ in their last digits from machine to machine."""


def described(dataset: Dataset) -> dict[str, Any]:
    """What the data is, and of each split its steps and a sum that its frames decide.

    How sequences are cut into pieces changes neither.

    Args:
      dataset: of at most gigabytes a few thousand frames are read.

    Returns:
      What `DataSpec.to_json` gives, and `CONTENT`: `{split: {"steps": ..., "sum": ...}}`.
    """
    content = {split.name: _content(split) for split in dataset.splits}
    return {**dataset.spec.to_json(), CONTENT: content}


def spec_of(description: Mapping[str, Any]) -> DataSpec:
    """The spec in what `described` gave; UserError as of `DataSpec.from_json`."""
    return DataSpec.from_json({k: v for k, v in description.items() if k != CONTENT})


def differences(trained: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """In what two descriptions differ, in words; none if they are of the same data.

    Args:
      trained: of the data of a run. One of an earlier version holds no `CONTENT`, which is then
        not compared.
      found: of the data that is there now. The name of its file may be another.
    """
    ignored = {"name"} if CONTENT in trained else {"name", CONTENT}
    before, now = (
        _flat({k: v for k, v in one.items() if k not in ignored}) for one in (trained, found)
    )
    names = [name for name in {**before, **now} if not _equal(before.get(name), now.get(name))]
    # A split of other length has another sum: one of them is enough to say.
    names = [n for n in names if not (n.endswith(" sum") and n[:-3] + "steps" in names)]
    return [_in_words(name, before.get(name), now.get(name)) for name in names]


def same_frames(one: Mapping[str, Any], other: Mapping[str, Any], splits: Sequence[str]) -> bool:
    """Whether the `CONTENT` of two descriptions is the same in some splits."""
    return all(
        not differences({CONTENT: {k: one.get(k)}}, {CONTENT: {k: other.get(k)}}) for k in splits
    )


def _content(split: Split) -> dict[str, Any]:
    count = len(split.values)
    rows = np.unique(np.linspace(0, count - 1, min(count, _FRAMES)).astype(np.int64))
    frames = split.frames(rows).astype(np.float64).reshape(len(rows), -1)
    # Weights that no order and no scale repeats: a change of place changes the sum.
    weights = np.sin(1.0 + np.arange(frames.size)).reshape(frames.shape)
    norm = float(np.sqrt(np.square(frames).sum())) or 1.0
    return {"steps": count, "sum": round(float((weights * frames).sum()) / norm, 6)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} " if name != CONTENT else prefix)
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _equal(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(before == now)


def _in_words(name: str, before: Any, now: Any) -> str:
    if name.endswith(" sum"):
        return f"other frames in {name.removesuffix(' sum')}"
    if isinstance(before, list) and isinstance(now, list) and len(before) > 4:
        if len(before) != len(now):
            return f"{name} of {len(now):,} instead of {len(before):,}"
        place = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
        return f"{name} has {now[place]!r} instead of {before[place]!r} at {place}"
    return f"{name} {now} instead of {before}"
