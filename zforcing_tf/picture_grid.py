"""A page of panels: a row for each origin of sequences, a column for each sequence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from zforcing_tf.sampling import Row

GIVEN = "#2a78b8"
"""Colour of what marks the given beginning of a sequence."""
COLUMNS = 4
"""Sequences that are drawn, at most."""
DPI = 110
_LEFT, _TOP, _BOTTOM, _GAP = 0.6, 0.35, 0.5, 0.4  # inches


class Page(NamedTuple):
    """A figure, and panels [row][sequence][part]."""

    figure: Any
    panels: list[list[list[Any]]]


def columns(rows: Sequence[Row]) -> int:
    """Sequences of each row that are drawn."""
    return min(COLUMNS, max(len(row.x) for row in rows))


@contextlib.contextmanager
def page(
    path: Path, rows: Sequence[Row], width: float, heights: Sequence[float], right: float = 0.1
) -> Iterator[Page]:
    """A page to draw on, which is saved at the end.

    Args:
        path: of the picture.
        rows: their titles stand above their panels; where a row has fewer sequences than others
            panels are empty.
        width: of a panel, in inches.
        heights: of the parts of a panel, one upon the other, in inches.
        right: room at the right, in inches.
    """
    count, each = columns(rows), sum(heights)
    size = (_LEFT + count * width + right, _TOP + len(rows) * (each + _GAP) + _BOTTOM - _GAP)
    figure = plt.figure(figsize=size)
    panels: list[list[list[Any]]] = []
    for i, row in enumerate(rows):
        panels.append([])
        top = size[1] - _TOP - i * (each + _GAP)
        for j in range(count):
            bottom, parts = top, []
            for height in heights:
                bottom -= height
                box = (_LEFT + j * width, bottom, 0.94 * width, 0.94 * height)
                parts.append(
                    figure.add_axes(
                        (box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1])
                    )
                )
                if j >= len(row.x):
                    parts[-1].set_axis_off()
                if j:
                    parts[-1].tick_params(labelleft=False)
                if len(parts) < len(heights):
                    parts[-1].tick_params(labelbottom=False)
                parts[-1].tick_params(labelsize=7)
            if i == len(rows) - 1:
                parts[-1].set_xlabel("seconds", fontsize=8)
            panels[-1].append(parts)
        panels[-1][0][0].set_title(row.title, loc="left", fontsize=10, pad=4)
    try:
        yield Page(figure, panels)
        figure.savefig(path, dpi=DPI)
    finally:
        plt.close(figure)
