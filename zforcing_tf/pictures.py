"""Pictures of sequences, for people rather than programs.

Sound and music have pictures of their own; those of images and of other numbers are drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle

from zforcing_tf import music_pictures, sound_pictures
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.picture_grid import GIVEN
from zforcing_tf.sampling import Row


def save_arrays(path: Path, rows: Sequence[Row]) -> Path:
    """Writes each row's `x` and lengths under its name; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {row.name: row.x for row in rows}
    arrays |= {f"{row.name}_lengths": row.lengths for row in rows}
    np.savez_compressed(path, **arrays)
    return path


def save_gallery(path: Path, rows: Sequence[Row], spec: DataSpec) -> list[Path]:
    """Draws rows of sequences, whatever numbers are; nothing for symbols."""
    if spec.kind == "symbol":
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    if spec.sound:
        sound_pictures.save(path, rows, spec.frame_size, spec.sound)
    elif spec.music:
        music_pictures.save(path, rows, spec.music)
    else:
        _save_small(path, rows, spec)
    return [path]


def _save_small(path: Path, rows: Sequence[Row], spec: DataSpec) -> None:
    count = min(16, max(len(row.x) for row in rows))
    figure, axes = plt.subplots(
        len(rows), count, figsize=(0.62 * count, 0.95 * len(rows)), squeeze=False
    )
    for row, line in zip(rows, axes, strict=True):
        for i, axis in enumerate(line):
            axis.set_axis_off()
            if i < len(row.x):
                draw = _draw_image if spec.image_shape else _draw_curves
                draw(axis, row, i, spec)
        line[0].set_title(row.title, loc="left", fontsize=9, pad=3)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, wspace=0.12, hspace=0.42)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_image(axis: Any, row: Row, i: int, spec: DataSpec) -> None:
    assert spec.image_shape is not None
    height, width = spec.image_shape
    pixels = np.zeros(height * width)
    values = row.x[i, : row.lengths[i]].reshape(-1)[: height * width]
    pixels[: len(values)] = values
    axis.imshow(pixels.reshape(height, width), cmap="gray_r", vmin=0, vmax=1)
    given = row.given * spec.frame_size / width
    if given:
        axis.axhline(given - 0.5, color=GIVEN, linewidth=1.2)
    axis.add_patch(
        Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.8", linewidth=0.6)
    )


def _draw_curves(axis: Any, row: Row, i: int, spec: DataSpec) -> None:
    values: npt.NDArray[Any] = row.x[i, : row.lengths[i]]
    axis.plot(values, linewidth=0.8)
    if row.given:
        axis.axvline(row.given - 0.5, color=GIVEN, linewidth=1.2)
