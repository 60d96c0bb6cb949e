"""A comparison of runs as text, as Markdown, as CSV files, and as a picture."""

import collections
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from zforcing_tf import comparison, learning_curves, tables
from zforcing_tf.comparison import OF_SPLIT, STANDARD_ERROR, Group, Run, Section
from zforcing_tf.learning_curves import Curves, Panel
from zforcing_tf.tables import MACRO, WHOLE, Column
from zforcing_tf.training.json_files import write_atomically

_PICTURE, _SEEDS_FILE = "comparison.png", "comparison_seeds.csv"
_SPREAD = "+-"
_TITLES = tables.TITLES | {
    "seconds_per_epoch": "s/epoch",
    "epochs": "epochs",
    "best_epoch": "best epoch",
}
_UNITS = "Bounds in nats per sequence, higher is better; +- is the standard error over sequences."
_SEVERAL = "Bounds of different data cannot be compared: one table each."
_PER_STEP = (
    "Nats a step, over all steps; and the mean over sequences of what each has a step (macro)"
)
_SEEDS = "Mean over seeds; +- is the sample standard deviation over n runs"


def write(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Writes tables and picture into a folder, which is made if it is missing; returns the paths.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"comparison.md": markdown(sections), "comparison.csv": runs_csv(sections)}
    if any(section.has_seeds for section in sections):
        texts[_SEEDS_FILE] = seeds_csv(sections)
    else:
        # That of an earlier comparison would be taken for one of these runs.
        (folder / _SEEDS_FILE).unlink(missing_ok=True)
    for name, content in texts.items():
        write_atomically(folder / name, content)
    picture = learning_curves.save_comparison(folder / _PICTURE, panels(sections))
    return [*(folder / name for name in texts), picture]


def run_columns(runs: Sequence[Run]) -> list[Column]:
    """A row for each run."""
    bounds = comparison.bounds(runs)
    columns = [
        Column("run", "run", [run.name for run in runs]),
        Column("model", "model", [str(run.settings["model"]) for run in runs]),
        Column("trained_on", "trained on", [run.trained_on for run in runs]),
    ]
    for bound in bounds:
        columns.append(_numbers(bound, bound, runs, mark_best=True))
        columns.append(_numbers(bound + STANDARD_ERROR, _SPREAD, runs))
    for name, title in _titles(runs).items():
        columns.append(_numbers(name, title, runs))
    for name in ("parameters", "seconds_per_epoch", "epochs", "best_epoch"):
        columns.append(_numbers(name, _TITLES[name], runs))
    columns.append(Column("seed", "seed", [str(run.settings["seed"]) for run in runs]))
    return tables.filled(columns)


def _titles(runs: Sequence[Run]) -> dict[str, str]:
    """Names of what is said of a split besides bounds, with a perplexity by each bound."""
    found = {}
    for bound in comparison.bounds(runs):
        found[bound + WHOLE] = f"{bound} whole"
        found[bound + WHOLE + STANDARD_ERROR] = _SPREAD
    for name in OF_SPLIT:
        found[name] = _TITLES[name]
        if name == "perplexity":
            for bound in comparison.bounds(runs):
                found.setdefault(tables.of_bound(bound, name), f"{name} {bound}")
    return found


def per_step_columns(runs: Sequence[Run]) -> list[Column]:
    """A row for each run: all bounds a step. No columns if that says no more than of the elbo."""
    columns = [Column("run", "run", [run.name for run in runs])]
    for name, title in _per_step_titles(runs).items():
        columns.append(_numbers(name, title, runs, mark_best=True))
    found = tables.filled(columns)
    several = [column for column in found if "-" in column.name]
    return found if any(column.name.endswith(MACRO) for column in several) else []


def _per_step_titles(runs: Sequence[Run]) -> dict[str, str]:
    """Names of all bounds a step, and what people call them: over all steps first, then macro."""
    bounds = comparison.bounds(runs)
    return {
        comparison.per_step(bound)[k]: bound + suffix
        for k, suffix in enumerate(("", " macro"))
        for bound in bounds
    }


def seed_columns(groups: Sequence[Group], more: bool = False) -> list[Column]:
    """A row for each group: means, and standard deviations where there are several runs.

    A number that not all runs of a group have is left out there: its mean would be one over fewer
    runs than the row says.

    Args:
        groups: of runs.
        more: all bounds a step too.
    """
    first = [group.runs[0] for group in groups]
    seeds = [", ".join(str(run.settings["seed"]) for run in group.runs) for group in groups]
    columns = [
        Column("runs", "runs", [group.label for group in groups]),
        Column("model", "model", [str(run.settings["model"]) for run in first]),
        Column("trained_on", "trained on", [run.trained_on for run in first]),
        Column("seeds", "seeds", seeds),
        Column("n", "n", [len(group.runs) for group in groups]),
    ]
    runs = [run for group in groups for run in group.runs]
    bounds = comparison.bounds(runs)
    titles = {bound: bound for bound in bounds} | _titles(runs)
    titles["seconds_per_epoch"] = _TITLES["seconds_per_epoch"]
    if more:
        titles |= {k: title for k, title in _per_step_titles(runs).items() if k not in titles}
    for name, title in titles.items():
        mean = [_statistic(group, name, statistics.fmean, 1) for group in groups]
        deviation = [_statistic(group, name, statistics.stdev, 2) for group in groups]
        columns.append(Column(f"{name}_mean", title, mean, mark_best=name in bounds))
        columns.append(Column(f"{name}_standard_deviation", _SPREAD, deviation))
    return tables.filled(columns)


def _numbers(name: str, title: str, runs: Sequence[Run], mark_best: bool = False) -> Column:
    return Column(name, title, [run.numbers.get(name) for run in runs], mark_best)


def _statistic(
    group: Group, name: str, of: Callable[[list[float]], float], at_least: int
) -> float | None:
    values = [v for run in group.runs if (v := run.numbers.get(name)) is not None]
    complete = len(values) == len(group.runs) >= at_least
    return of([float(value) for value in values]) if complete else None


def text(sections: Sequence[Section]) -> str:
    """All tables for a terminal, and what one has to know to read them."""
    parts = [_UNITS + " * the best.", *[_SEVERAL] * (len(sections) > 1)]
    for section in sections:
        parts.append(f"{section.heading}\n{tables.as_text(run_columns(section.runs))}")
        if steps := per_step_columns(section.runs):
            parts.append(f"{_PER_STEP}\n{tables.as_text(steps)}")
        if section.has_seeds:
            parts.append(f"{_SEEDS}\n{tables.as_text(seed_columns(section.groups))}")
        parts += ["\n".join(f"note: {warning}" for warning in section.warnings)]
    return "\n\n".join(part for part in parts if part)


def markdown(sections: Sequence[Section]) -> str:
    """The same as a document, with the picture."""
    parts = ["# Comparison of runs", _UNITS + " **Bold**: the best."]
    parts += [_SEVERAL] * (len(sections) > 1)
    for section in sections:
        parts += [f"## {section.heading}", tables.as_markdown(run_columns(section.runs))]
        if steps := per_step_columns(section.runs):
            parts += [f"{_PER_STEP}:", tables.as_markdown(steps)]
        if section.has_seeds:
            parts += [f"{_SEEDS}:", tables.as_markdown(seed_columns(section.groups))]
        parts += ["\n".join(f"- {warning}" for warning in section.warnings)]
    parts.append(f"![Learning curves]({_PICTURE})")
    return "\n\n".join(part for part in parts if part) + "\n"


def runs_csv(sections: Sequence[Section]) -> str:
    """All runs in one table, with what their data is and which group they belong to."""
    runs = [run for section in sections for run in section.runs]
    counts = [len(section.runs) for section in sections]
    labels = [g.label for section in sections for g in section.groups for _ in g.runs]
    columns = [*_data_columns(sections, counts), Column("group", "group", labels)]
    found = run_columns(runs)
    known = {column.name for column in found}
    steps = [column for column in per_step_columns(runs) if column.name not in known]
    return tables.as_csv([*columns, *found, *steps])


def seeds_csv(sections: Sequence[Section]) -> str:
    """All groups in one table, with what their data is."""
    groups = [group for section in sections for group in section.groups]
    counts = [len(section.groups) for section in sections]
    return tables.as_csv([*_data_columns(sections, counts), *seed_columns(groups, more=True)])


def _data_columns(sections: Sequence[Section], counts: Sequence[int]) -> list[Column]:
    """Says of each row where it belongs; `counts` are the rows of each section."""
    rows = [s for s, count in zip(sections, counts, strict=True) for _ in range(count)]
    return [
        Column("data", "data", [section.data for section in rows]),
        Column("split", "split", [section.split for section in rows]),
        Column("num_sequences", "sequences", [section.num_sequences for section in rows]),
    ]


def panels(sections: Sequence[Section]) -> list[Panel]:
    """What the picture shows.

    Curves are drawn over updates. Where batch sizes differ, an update has not seen as much data
    everywhere, so that they are drawn over epochs too. Folders that all runs share are left off.
    A model has one colour for all data, if there is one run of it for each.
    """
    found = []
    labels = [group.label.split("/") for section in sections for group in section.groups]
    shared = len(os.path.commonprefix([words[:-1] for words in labels]))
    for section in sections:
        sizes = {run.settings["batch_size"] for run in section.runs}
        curves = [
            Curves("/".join(g.label.split("/")[shared:]), [run.history for run in g.runs], kind)
            for g, kind in zip(section.groups, _kinds(section.groups), strict=True)
        ]
        over = ("step",) if len(sizes) == 1 else ("step", "epoch")
        found.append(Panel(section.data, curves, over))
    return found


def _kinds(groups: Sequence[Group]) -> list[str]:
    """The model and output of each group; further groups of the same are numbered."""
    seen: collections.Counter[str] = collections.Counter()
    found = []
    for group in groups:
        settings = group.runs[0].settings
        names = ("model", "emission", "autoregressive_emission")
        kind = ", ".join(str(settings.get(name)) for name in names)
        seen[kind] += 1
        found.append(f"{kind}, {seen[kind]}")
    return found
