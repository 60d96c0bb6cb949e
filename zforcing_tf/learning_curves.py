"""Pictures of learning curves: of one run, or of several in one frame. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Rows = Sequence[dict[str, float]]
"""Those of a run's `history.csv`."""

_KL = "kl_per_step"
_UNITS = {"nats_per_step": "nats per step", "elbo": "nats per sequence"}
"""Names of the elbo in a history. Where it has both, a step: training may be on pieces."""
_SPLITS = ("train", "validation")
# Okabe and Ito's palette, which colour-blind people can tell apart, without its yellow: too pale
# for a thin line. Where colours come again, markers along the line tell the curves apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("", "s", "^", "v", "P", "X")
_VALIDATION: dict[str, Any] = {"linewidth": 1.5}
_TRAIN: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (4, 2)), "alpha": 0.7}
_BEST: dict[str, Any] = {"marker": "*", "markersize": 10, "markeredgecolor": "white", "zorder": 3}


class Curves(NamedTuple):
    """What share a colour: the histories of runs that differ in their seed.

    Attributes:
        label: in the legend.
        histories: one for each run.
        kind: curves of one kind have one colour, in each frame.
    """

    label: str
    histories: Sequence[Rows]
    kind: str


class Panel(NamedTuple):
    """What share a frame: curves of bounds that can be compared.

    Attributes:
        title: stands above.
        curves: one for each colour.
        over: columns of the histories, each the horizontal axis of one frame.
    """

    title: str
    curves: Sequence[Curves]
    over: Sequence[str]


def save_curves(path: Path, history: Rows) -> Path:
    """Draws bound and KL of training and validation over epochs; returns the path."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, squeeze=False)[0]
    bound = _bound([history])
    titles = {bound: f"bound, {_UNITS[bound]}", _KL: "KL, nats per step"}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for split in _SPLITS:
            axis.plot(*_points(history, "epoch", f"{split}_{name}"), label=split)
        axis.set_xlabel("epoch")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    _keep_in_view(axes[0], [history], bound)
    return _save(figure, path)


def save_comparison(path: Path, panels: Sequence[Panel]) -> Path:
    """Draws the bounds of several runs, as `draw_comparison` does; returns the path."""
    return _save(draw_comparison(panels), path)


def draw_comparison(panels: Sequence[Panel]) -> Figure:
    """Bounds on validation data, training data dashed, and a star at each run's best epoch."""
    most = max(len(panel.over) for panel in panels)
    heights = [max(3.6, 0.9 + 0.19 * (len(panel.curves) + 3)) for panel in panels]
    figure = Figure(figsize=(3.4 + 5.4 * most, sum(heights)), layout="constrained")
    rows = figure.subplots(len(panels), most, squeeze=False, height_ratios=heights)
    kinds = [curves.kind for panel in panels for curves in panel.curves]
    styles = {kind: _style(index) for index, kind in enumerate(dict.fromkeys(kinds))}
    for panel, axes in zip(panels, rows, strict=True):
        for axis, over in zip(axes, panel.over, strict=False):
            _draw(axis, panel, over, styles)
        for axis in axes[len(panel.over) :]:
            axis.set_axis_off()
        shown = axes[len(panel.over) - 1]
        shown.legend(
            handles=_legend(panel.curves, styles),
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            frameon=False,
            fontsize=8,
        )
    return figure


def _bound(histories: Sequence[Rows]) -> str:
    """The name of `_UNITS` that each history has."""
    rows = [row for history in histories for row in history]
    names = [f"{split}_nats_per_step" for split in _SPLITS]
    return "nats_per_step" if all(name in row for row in rows for name in names) else "elbo"


def _draw(axis: Any, panel: Panel, over: str, styles: Mapping[str, dict[str, Any]]) -> None:
    histories = [history for curves in panel.curves for history in curves.histories]
    bound = _bound(histories)
    for curves in panel.curves:
        style = styles[curves.kind]
        for history in curves.histories:
            x, y = _points(history, over, f"train_{bound}")
            axis.plot(x, y, color=style["color"], **_TRAIN)
            x, y = _points(history, over, f"validation_{bound}")
            spacing = max(1, len(x) // 8)
            axis.plot(x, y, markevery=spacing, **style, **_VALIDATION)
            if len(y):
                # The epoch that was kept: by the bound that was trained, where that is another.
                chosen = _points(history, over, "validation_bound")[1]
                best = int(np.argmax(chosen if len(chosen) == len(y) else y))
                axis.plot(x[best], y[best], color=style["color"], **_BEST)
    _keep_in_view(axis, histories, bound)
    axis.set_xlabel({"step": "updates", "epoch": "epochs"}[over])
    axis.set_ylabel(f"elbo, {_UNITS[bound]}")
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.grid(alpha=0.3)


def _style(index: int) -> dict[str, Any]:
    again, colour = divmod(index, len(_COLOURS))
    return {
        "color": _COLOURS[colour],
        "marker": _MARKERS[again % len(_MARKERS)],
        "markersize": 5,
        "markerfacecolor": "white",
    }


def _legend(curves: Sequence[Curves], styles: Mapping[str, dict[str, Any]]) -> list[Line2D]:
    handles = []
    for one in curves:
        count = len(one.histories)
        label = one.label if count == 1 else f"{one.label} ({count} runs)"
        handles.append(Line2D([], [], label=label, **styles[one.kind], **_VALIDATION))
    grey = "0.4"
    return [
        *handles,
        Line2D([], [], color=grey, label="validation", **_VALIDATION),
        Line2D([], [], color=grey, label="training", **_TRAIN),
        Line2D([], [], color=grey, linestyle="", label="best epoch", **_BEST),
    ]


def _points(history: Rows, over: str, name: str) -> tuple[list[float], list[float]]:
    """Where a curve goes through; it leaves out what was not finite."""
    rows = [row for row in history if np.isfinite(row.get(name, np.nan))]
    return [row[over] for row in rows], [row[name] for row in rows]


def _keep_in_view(axis: Any, histories: Sequence[Rows], bound: str) -> None:
    """Chooses the vertical range: the first epochs would flatten all that follows.

    In view are the best epoch of each run, and all but the lowest twentieth of what the runs
    reached after the first tenth of their epochs.
    """
    later: list[float] = []
    best: list[float] = []
    for history in histories:
        for split in _SPLITS:
            _, bounds = _points(history, "epoch", f"{split}_{bound}")
            later += bounds[min(len(bounds) // 10 + 1, len(bounds) - 1) :]
            best += [max(bounds)] if bounds else []
    if not later or min(later) == max(later):
        return
    low = min(float(np.quantile(later, 0.05)), *best)
    margin = 0.08 * (max(later) - low)
    axis.set_ylim(low - margin, max(best) + margin)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
