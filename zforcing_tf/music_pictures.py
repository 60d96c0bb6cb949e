"""A picture of music: piano rolls, with the keys that are played."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zforcing_tf.data.description import Music
from zforcing_tf.picture_grid import GIVEN, columns, page
from zforcing_tf.sampling import Row

_WIDTH, _HEIGHT = 3.6, 1.9
_MARGIN = 3  # keys above and below those that are played
_SEEN, _DRAWN = 0.1, 0.02  # probabilities from which a key makes room for itself, and is drawn


def save(path: Path, rows: Sequence[Row], music: Music) -> None:
    """Draws rows of rolls; the keys at the side are those played in any of them.

    Args:
        path: of the picture.
        rows: x [n, T, D] between 0 and 1, the darker the likelier.
        music: what columns and steps are.
    """
    played = np.zeros(rows[0].x.shape[-1], bool)
    for row in rows:
        played |= (row.x[: columns([row])] > _SEEN).any(axis=(0, 1))
    keys = np.flatnonzero(played) if played.any() else np.arange(len(played))
    first, last = max(0, keys[0] - _MARGIN), min(len(played) - 1, keys[-1] + _MARGIN)
    seconds = max(int(row.lengths.max()) for row in rows) * music.step_seconds
    low, high = music.lowest_key + first - 0.5, music.lowest_key + last + 0.5
    octaves = [key for key in range(128) if key % 12 == 0 and low < key < high]
    with page(path, rows, _WIDTH, (_HEIGHT,)) as (_, panels):
        for row, boxes in zip(rows, panels, strict=True):
            for i, ((axis,), length) in enumerate(zip(boxes, row.lengths.tolist(), strict=False)):
                end = length * music.step_seconds
                roll = row.x[i, :length, first : last + 1].T
                axis.imshow(
                    np.ma.masked_less(roll, _DRAWN),  # what is behind shows where nothing is played
                    origin="lower",
                    aspect="auto",
                    extent=(0, end, low, high),
                    vmin=0,
                    vmax=1,
                    cmap="gray_r",
                    interpolation="nearest",
                    zorder=2,
                )
                axis.set_xlim(0, seconds)
                axis.set_ylim(low, high)
                axis.set_yticks(octaves, [key_name(key) for key in octaves])
                axis.grid(axis="y", color="0.85", linewidth=0.6, zorder=1)
                axis.set_axisbelow(True)
                if row.given:
                    axis.axvspan(
                        0, row.given * music.step_seconds, color=GIVEN, alpha=0.18, lw=0, zorder=0
                    )


def key_name(key: int) -> str:
    """Of a MIDI key, such as C4 for 60 and A4 for 69."""
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    return f"{names[key % 12]}{key // 12 - 1}"
