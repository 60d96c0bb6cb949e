"""A picture of sounds: the waveform of each, and below it the spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zforcing_tf.data.description import FULL_SCALE, Sound
from zforcing_tf.picture_grid import GIVEN, columns, page
from zforcing_tf.sampling import Row
from zforcing_tf.spectrogram import limits, spectrogram

_WIDTH, _HEIGHTS = 3.6, (0.5, 1.25)


def save(path: Path, rows: Sequence[Row], frame_size: int, sound: Sound) -> None:
    """Draws rows of sounds; amplitudes and colours are on the scale of the first row.

    Args:
        path: of the picture.
        rows: x [n, T, frame_size].
        frame_size: samples of a step.
        sound: what the numbers of x are.
    """
    rate, count = sound.sample_rate, columns(rows)
    sounds = [[sound.samples(row.x[i, :n]).reshape(-1) for i, n in _shown(row)] for row in rows]
    seconds = max(len(samples) for line in sounds for samples in line) / rate
    every = [[spectrogram(samples, rate) for samples in line] for line in sounds]
    low, high = limits(np.concatenate([values.reshape(-1) for values in every[0]]))
    loudest = max(float(np.abs(samples / FULL_SCALE).max(initial=0)) for samples in sounds[0])
    with page(path, rows, _WIDTH, _HEIGHTS, right=0.6) as (figure, panels):
        for row, line, pictures, boxes in zip(rows, sounds, every, panels, strict=True):
            for samples, values, (above, below) in zip(line, pictures, boxes, strict=False):
                length = len(samples) / rate
                times = np.arange(len(samples)) / rate
                above.plot(times, samples / FULL_SCALE, linewidth=0.3, color="0.25")
                above.set_ylim(-1.1 * loudest or -1, 1.1 * loudest or 1)
                image = below.imshow(
                    values,
                    origin="lower",
                    aspect="auto",
                    extent=(0, length, 0, rate / 2000),
                    vmin=low,
                    vmax=high,
                    cmap="magma",
                    interpolation="nearest",
                )
                for axis in (above, below):
                    axis.set_xlim(0, seconds)
                    if row.given:
                        axis.axvline(row.given * frame_size / rate, color=GIVEN, linewidth=1.4)
            boxes[0][1].set_ylabel("kHz", fontsize=8)
        right = panels[-1][count - 1][1].get_position()
        bar = figure.add_axes((right.x1 + 0.012, right.y0, 0.008, right.height))
        figure.colorbar(image, cax=bar).ax.tick_params(labelsize=7)
        bar.set_title("dB", fontsize=8)


def _shown(row: Row) -> list[tuple[int, int]]:
    return list(enumerate(row.lengths.tolist()))[: columns([row])]
