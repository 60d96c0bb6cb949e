"""One picture of a run's diagnostics. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

Numbers = Mapping[str, Any]
Arrays = Mapping[str, Any]

# Okabe and Ito's palette, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "0.45"
_ERRORS = {
    "squared_error": "mean squared error of a number",
    "wrong_symbols": "share of wrong symbols",
}


def save(path: Path, title: str, numbers: Numbers, arrays: Arrays) -> Path:
    """Writes what `draw` draws; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(title, numbers, arrays).savefig(path, dpi=120)
    return path


def draw(title: str, numbers: Numbers, arrays: Arrays) -> Figure:
    """Draws what `diagnostics.diagnose` found: a panel for each kind of number that there is.

    Args:
        title: of the whole.
        numbers: `Diagnostics.numbers`.
        arrays: `Diagnostics.arrays`.
    """
    panels: list[Callable[[Axes, Numbers, Arrays], None]] = []
    if "kl_per_dimension" in arrays:
        panels += [_draw_dimensions, _draw_steps]
    if "free_running_error" in arrays:
        panels.append(_draw_errors)
    panels.append(_draw_bounds)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(5.2 * columns, 3.5 * rows + 0.5),
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
    )
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel, axis in zip(panels, axes, strict=False):
        panel(axis, numbers, arrays)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_dimensions(axis: Axes, numbers: Numbers, arrays: Arrays) -> None:
    kl = np.sort(arrays["kl_per_dimension"])[::-1]
    axis.bar(np.arange(1, len(kl) + 1), kl, width=0.85 if len(kl) <= 64 else 1.0, color=_BLUE)
    axis.set_xlabel("dimensions of the latent, sorted")
    axis.set_ylabel("nats per step")
    axis.set_xlim(0.4, len(kl) + 0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _titled(axis, "KL of each dimension")
    lines = [f"{numbers['active_units']} of {numbers['latent_size']} units active"]
    if numbers["kl_share_of_top_dimension"] is not None:
        most = numbers["dimensions_of_most_kl"]
        lines.append(f"the first holds {numbers['kl_share_of_top_dimension']:.0%} of the KL")
        lines += [f"the first {most} hold 90%"] * (most > 1)
    lines += [
        f"mutual information {numbers['mutual_information']:.2f} nats",
        f"(no estimate can exceed {numbers['mutual_information_limit']:.2f})",
    ]
    if kl[len(kl) // 3] > 0.5 * kl[0] > 0:
        axis.set_ylim(0, 1.75 * kl[0])  # or bars would stand behind the words
    axis.text(0.97, 0.95, "\n".join(lines), transform=axis.transAxes, ha="right", va="top", size=9)


def _draw_steps(axis: Axes, numbers: Numbers, arrays: Arrays) -> None:
    kl, sequences = arrays["kl_at_step"], arrays["sequences_at_step"]
    steps = np.arange(1, len(kl) + 1)
    axis.plot(steps, kl, color=_BLUE, **_marked(len(kl)))
    mean = numbers["kl_per_step"]
    axis.axhline(mean, color=_GREY, linewidth=1, linestyle="--", label=f"mean {mean:.3g}")
    few = sequences < 0.1 * sequences[0]
    if few.any():
        first = steps[few][0] - 0.5
        axis.axvspan(first, len(kl) + 0.5, color="0.9", label="a tenth of sequences, or fewer")
    _from_zero(axis, kl)
    axis.set_xlabel("step")
    axis.set_ylabel("nats")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _titled(axis, "KL at each step")
    axis.legend(frameon=False, fontsize=9)


def _draw_errors(axis: Axes, numbers: Numbers, arrays: Arrays) -> None:
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "free_running_error": ("on frames of its own", {"color": _ORANGE}),
        "teacher_forced_error": ("on true frames", {"color": _BLUE}),
        "constant_error": ("best constant", {"color": _GREY, "linestyle": "--"}),
    }
    horizon = np.arange(1, len(arrays["constant_error"]) + 1)
    for name, (label, style) in styles.items():
        label += f", mean {numbers[name]:.3g}"
        axis.plot(
            horizon, arrays[name], label=label, linewidth=1.5, **style, **_marked(len(horizon))
        )
    _from_zero(axis, np.concatenate([arrays[name] for name in styles]))
    axis.set_xlabel(f"steps ahead, after the {numbers['given_steps']} given")
    axis.set_ylabel(_ERRORS[numbers["error"]])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _titled(axis, "Error of predictions")
    axis.legend(frameon=False, fontsize=9)


def _draw_bounds(axis: Axes, numbers: Numbers, arrays: Arrays) -> None:
    bars = [("log p(x)", numbers["nats_per_step"], _BLUE)]
    if "kl_per_step" in numbers:
        bound, kl = numbers["nats_per_step"], numbers["kl_per_step"]
        prior = numbers["nats_per_step_prior_latents"]
        bars = [
            ("log p(x | z),\nz inferred", bound + kl, _GREEN),
            ("less the KL:\nthe bound", bound, _BLUE),
            ("log p(x | z),\nz of the prior", prior, _ORANGE),
        ]
    labels, values, colours = zip(*bars, strict=True)
    drawn = axis.barh(range(len(bars)), values, height=0.6, color=colours)
    written = [f"{value:,.{2 if abs(value) < 1000 else 0}f}" for value in values]
    axis.bar_label(drawn, written, padding=4, fontsize=9)
    axis.set_yticks(range(len(bars)), labels, fontsize=9)
    axis.set_ylim(max(2.0, len(bars)) - 0.5, min(0.0, len(bars) - 2.0) - 0.5)  # the first on top
    axis.axvline(0, color="0.2", linewidth=0.8)
    low, high = min(0.0, *values), max(0.0, *values)
    margin = 0.25 * (high - low)  # for the numbers at the ends
    axis.set_xlim(low - margin * (low < 0), high + margin * (high > 0))
    axis.set_xlabel("nats per step")
    _titled(axis, "Bound, and what the latents add to it" if len(bars) > 1 else "Log-likelihood")


def _marked(count: int) -> dict[str, Any]:
    """Few points are shown as such."""
    return {"marker": "o", "markersize": 4} if count <= 30 else {}


def _from_zero(axis: Axes, values: Any) -> None:
    highest = float(np.max(values))
    if highest > 0:
        axis.set_ylim(0, 1.4 * highest)  # the legend needs room


def _titled(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
