"""Pictures of sequences and of learning curves, for people rather than programs."""

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

from zforcing_tf.data.spec import DataSpec
from zforcing_tf.sampling import Row

_GIVEN = "#2a78b8"
_CURVES = {"elbo": "bound, nats per sequence", "kl_per_step": "KL, nats per step"}


def save_arrays(path: Path, rows: Sequence[Row]) -> Path:
    """Writes each row's `x` and lengths under its name; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {row.name: row.x for row in rows}
    arrays |= {f"{row.name}_lengths": row.lengths for row in rows}
    np.savez_compressed(path, **arrays)
    return path


def save_gallery(path: Path, rows: Sequence[Row], spec: DataSpec) -> list[Path]:
    """Draws rows of images, or of curves for other data of numbers; nothing for symbols."""
    if spec.kind == "symbol":
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
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
    return [path]


def _draw_image(axis: Any, row: Row, i: int, spec: DataSpec) -> None:
    assert spec.image_shape is not None
    height, width = spec.image_shape
    pixels = np.zeros(height * width)
    values = row.x[i, : row.lengths[i]].reshape(-1)[: height * width]
    pixels[: len(values)] = values
    axis.imshow(pixels.reshape(height, width), cmap="gray_r", vmin=0, vmax=1)
    given = row.given * spec.frame_size / width
    if given:
        axis.axhline(given - 0.5, color=_GIVEN, linewidth=1.2)
    axis.add_patch(
        Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.8", linewidth=0.6)
    )


def _draw_curves(axis: Any, row: Row, i: int, spec: DataSpec) -> None:
    values: npt.NDArray[Any] = row.x[i, : row.lengths[i]]
    axis.plot(values, linewidth=0.8)
    if row.given:
        axis.axvline(row.given - 0.5, color=_GIVEN, linewidth=1.2)


def save_curves(path: Path, history: Sequence[dict[str, float]]) -> Path:
    """Draws bound and KL of training and validation over epochs; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(_CURVES), figsize=(9, 3.2), squeeze=False)
    for axis, (name, title) in zip(axes[0], _CURVES.items(), strict=True):
        for split in ("train", "validation"):
            points = [(r["epoch"], r[f"{split}_{name}"]) for r in history if f"{split}_{name}" in r]
            axis.plot(*zip(*points, strict=True), label=split)
        axis.set_xlabel("epoch")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    # The first epochs would flatten all that follows.
    bounds = [r["train_elbo"] for r in history[min(len(history) // 10, 5) :]]
    if len(bounds) > 1 and min(bounds) < max(bounds):
        margin = 0.1 * (max(bounds) - min(bounds))
        axes[0][0].set_ylim(min(bounds) - margin, max(bounds) + margin)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
