"""Tables: the same columns as text for a terminal, as Markdown, and as CSV."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import TypeAlias

Value: TypeAlias = str | int | float | None

MACRO = "nats_per_step_macro"
WHOLE = "_whole"
"""Ends the name of a bound of all pieces of a sequence together, where pieces are scored."""
TITLES = {
    "elbo": "nats/sequence",
    "elbo_standard_error": "+-",
    f"elbo{WHOLE}": "nats/whole",
    f"elbo{WHOLE}_standard_error": "+- whole",
    "nats_per_step": "nats/step",
    MACRO: "nats/step macro",
    "bits_per_dim": "bits/dim",
    "perplexity": "perplexity",
    "kl_per_step": "KL/step",
    "active_units": "active units",
    "parameters": "parameters",
    "seconds": "seconds",
}
"""What the results of a run are called in tables, in the order of their columns."""


def of_bound(bound: str, name: str) -> str:
    """What a number that each bound has is called: by itself for the elbo, after others' names."""
    return name if bound == "elbo" else f"{bound}_{name}"


def perplexity(nats_per_step: float) -> float:
    """Of symbols: the number of equally likely ones that would be as hard to predict."""
    try:
        return math.exp(-nats_per_step)
    except OverflowError:
        return math.inf


@dataclasses.dataclass(frozen=True)
class Column:
    """One column. Words stand at its left, numbers at its right.

    Attributes:
        name: in CSV files.
        title: for people.
        values: one for each row; None where there is none.
        mark_best: whether people are shown which value is the highest, if there are two or more.
    """

    name: str
    title: str
    values: Sequence[Value]
    mark_best: bool = False

    @property
    def of_words(self) -> bool:
        """Whether no value is a number."""
        return all(value is None or isinstance(value, str) for value in self.values)

    def cells(self, best: str, other: str) -> list[str]:
        """The values for people; each goes into the pattern `best` or `other`, such as `{}*`."""
        numbers = [value for value in self.values if isinstance(value, (int, float))]
        highest = max(numbers) if self.mark_best and len(numbers) > 1 else None
        return [
            (other if highest is None or value != highest else best).format(_cell(value))
            for value in self.values
        ]


def filled(columns: Sequence[Column]) -> list[Column]:
    """The columns that hold any value."""
    return [column for column in columns if any(value is not None for value in column.values)]


def as_text(columns: Sequence[Column]) -> str:
    """Aligned columns; `*` marks the best values."""
    padded = []
    for column in columns:
        blank = "{} " if column.mark_best else "{}"
        cells = [blank.format(column.title), *column.cells("{}*", blank)]
        width = max(map(len, cells))
        padded.append([c.ljust(width) if column.of_words else c.rjust(width) for c in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def as_markdown(columns: Sequence[Column]) -> str:
    """A table of GitHub's Markdown; the best values are bold."""
    written = [
        [
            _escaped(column.title),
            "---" if column.of_words else "---:",
            *map(_escaped, column.cells("**{}**", "{}")),
        ]
        for column in columns
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*written, strict=True))


def as_csv(columns: Sequence[Column]) -> str:
    """All digits of all values, nothing marked; what is None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(zip(*(column.values for column in columns), strict=True))
    return text.getvalue()


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
