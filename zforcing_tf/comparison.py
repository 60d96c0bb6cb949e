"""Which runs can be compared, and what each one reached: from run directories, nothing recomputed.

Bounds of different data cannot be compared; runs that differ only in their seed are one group.
"""

import collections
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from zforcing_tf import config, tables
from zforcing_tf.data import identity
from zforcing_tf.data.spec import SPLIT_NAMES
from zforcing_tf.errors import UserError
from zforcing_tf.settings import as_text
from zforcing_tf.tables import MACRO, WHOLE
from zforcing_tf.training.history import History
from zforcing_tf.training.json_files import read_json
from zforcing_tf.training.run_directory import RunDirectory

Number: TypeAlias = int | float | None

STANDARD_ERROR = "_standard_error"
OF_SPLIT = (
    *("nats_per_step", MACRO, "bits_per_dim", "perplexity"),
    *("kl_per_step", "active_units"),
)
"""What `results.json` says of a split besides its bounds."""
_OF_RUN = ("parameters", "seconds", "epochs", "best_epoch")
_BOUNDS = ("elbo", "iwae", "fivo")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory tells.

    Attributes:
        name: the path that was given.
        data: settings that say what the data is, by name.
        settings: all other settings, by name.
        content: what its data was found to hold, by split; None if that is not known.
        num_sequences: how many the split has; None if it is not known.
        numbers: results by name. That of a bound says its number of samples, as in `iwae-64`;
            beside it are its standard error, `iwae-64_standard_error`, and what it is a step, over
            all steps and as the mean over sequences, by the names of `per_step`, and of symbols
            the perplexity.
        history: rows of `history.csv`; none if it is missing.
        warnings: what a reader of the numbers has to know.
    """

    name: str
    data: dict[str, Any]
    settings: dict[str, Any]
    content: dict[str, Any] | None
    num_sequences: Number
    numbers: dict[str, Number]
    history: list[dict[str, float]]
    warnings: list[str]

    @property
    def trained_on(self) -> str:
        """The bound that was maximised, with its number of samples if it has several."""
        bound = str(self.settings.get("bound", "elbo"))
        return bound if bound == "elbo" else f"{bound}-{self.settings.get('num_samples', '?')}"


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in seed, and in what may change when a run is resumed.

    Attributes:
        label: what their names have in common.
        runs: at least one.
    """

    label: str
    runs: list[Run]

    @property
    def warnings(self) -> list[str]:
        """Why a mean over the runs may not be one over seeds alone."""
        found = []
        seeds = [run.settings["seed"] for run in self.runs]
        for seed in dict.fromkeys(seeds):
            if seeds.count(seed) > 1:
                names = " and ".join(run.name for run in self.runs if run.settings["seed"] == seed)
                found.append(f"{names} have the same seed: they are one experiment, not several")
        for name in ("train_epochs", "patience"):
            values = dict.fromkeys(run.settings[name] for run in self.runs)
            if len(values) > 1:
                given = ", ".join(map(as_text, values))
                found.append(f"the runs of {self.label} had different --{name}: {given}")
        return found


@dataclasses.dataclass(frozen=True)
class Section:
    """Runs whose bounds can be compared: same data, same number of sequences.

    Attributes:
        data: what it is: name, and the settings in which it differs from that of other runs.
        split: whose results they are.
        num_sequences: of the split; None if it is not known.
        groups: at least one.
    """

    data: str
    split: str
    num_sequences: Number
    groups: list[Group]

    @property
    def heading(self) -> str:
        """Data and split in words."""
        count = "" if self.num_sequences is None else f", {self.num_sequences:,} sequences"
        return f"{self.data}: {self.split} data{count}"

    @property
    def runs(self) -> list[Run]:
        """All runs, those of a group side by side."""
        return [run for group in self.groups for run in group.runs]

    @property
    def has_seeds(self) -> bool:
        """Whether any group has several runs."""
        return any(len(group.runs) > 1 for group in self.groups)

    @property
    def warnings(self) -> list[str]:
        """Those of its runs and groups."""
        of_runs = [text for run in self.runs for text in run.warnings]
        return of_runs + [text for group in self.groups for text in group.warnings]


def read(path: str, split: str) -> Run:
    """Reads a run directory.

    Args:
        path: of the directory.
        split: whose results are wanted.

    Raises:
        UserError: there is no run, a file of it is damaged, or it has no results on the split.
    """
    run = RunDirectory(path)
    sections = run.read_settings()
    data = {k: v for k, v in sections.pop("data").items() if k not in config.resumable()}
    # What training takes of the data, and how; what is scored is the same.
    of_training = ["carry_state", "forget_probability", "train_sequences"] + ["chunk_length"] * (
        not data["chunk_evaluation"]
    )
    sections["chunks"] = {name: data.pop(name) for name in of_training}
    results = run.read_results()
    # Two folders of recordings are two sets of data, though the settings may be the same.
    data["dataset"] = str(results.get("dataset", data["dataset"]))
    scores = results.get(split)
    if not isinstance(scores, dict):
        raise UserError(
            f"{path} has no results on {split} data; get them with "
            f"python -m zforcing_tf.evaluate --run_dir={path} --split={split}"
        )
    try:
        numbers = _numbers(results, scores)
        num_sequences = _number(scores, "num_sequences")
    except UserError as error:
        raise UserError(f"{run.results} cannot be used: {error}; move it away") from error
    history = History(run.history).rows()
    return Run(
        name=path,
        data=data,
        settings={k: v for entries in sections.values() for k, v in entries.items()},
        content=_content(run),
        num_sequences=num_sequences,
        numbers=numbers,
        history=history,
        warnings=_warnings(path, results, scores, history),
    )


def _content(run: RunDirectory) -> dict[str, Any] | None:
    try:
        content = read_json(run.data).get(identity.CONTENT) if run.data.exists() else None
    except UserError as error:
        raise UserError(f"{run.data} cannot be used: {error}; move it away") from error
    return content if isinstance(content, dict) else None


def bounds(runs: Sequence[Run]) -> list[str]:
    """Names of the bounds that any run has, in order: kind, then number of samples."""
    names = {name for run in runs for name in run.numbers if "_" not in name}
    found = [name for name in names if name.partition("-")[0] in _BOUNDS]

    def order(name: str) -> tuple[int, int]:
        kind, _, samples = name.partition("-")
        return _BOUNDS.index(kind), int(samples) if samples.isdecimal() else 0

    return sorted(found, key=order)


def per_step(bound: str) -> tuple[str, str]:
    """Names of a bound a step: over all steps, and as the mean over sequences.

    Args:
        bound: one of `bounds`.
    """
    return tables.of_bound(bound, "nats_per_step"), tables.of_bound(bound, MACRO)


def arrange(runs: Sequence[Run], split: str) -> list[Section]:
    """Sections of runs with the same data, in which runs that differ only in seed are together.

    Args:
        runs: in the order that they keep.
        split: named in the headings.
    """
    sections = []
    for called_alike in _alike(runs, lambda run: [run.data, run.num_sequences]):
        several = _of_same_frames(called_alike, [split])
        for same in several:
            first = same[0]
            differ = [k for k in first.data if len({str(run.data.get(k)) for run in runs}) > 1]
            parts = [str(first.data["dataset"])]
            parts += [f"{k}={as_text(first.data[k])}" for k in differ if k != "dataset"]
            if len(several) > 1:
                parts.append(f"as of {first.name}")
            sections.append(Section(", ".join(parts), split, first.num_sequences, _groups(same)))
    return sections


def _of_same_frames(runs: Sequence[Run], splits: Sequence[str]) -> list[list[Run]]:
    """The runs by the frames of some splits, in the order of the first of each.

    Runs of which these are not known are taken for runs of the same; where there are several they
    come last.
    """
    found: list[list[Run]] = []
    unknown = [run for run in runs if run.content is None]
    for run in runs:
        if run.content is not None:
            for same in found:
                if identity.same_frames(same[0].content or {}, run.content, splits):
                    same.append(run)
                    break
            else:
                found.append([run])
    if not unknown:
        return found
    if len(found) > 1:
        return [*found, unknown]
    return [list(runs)]


def _groups(runs: Sequence[Run]) -> list[Group]:
    ignored = config.resumable() | {"seed"}
    called_alike = _alike(
        runs, lambda run: {k: v for k, v in run.settings.items() if k not in ignored}
    )
    alike = [same for some in called_alike for same in _of_same_frames(some, SPLIT_NAMES)]
    labels = [_shared_name([run.name for run in same]) for same in alike]
    taken = collections.Counter(labels)
    for i, same in enumerate(alike):
        if not labels[i] or taken[labels[i]] > 1:
            more = f" and {len(same) - 1} more" if len(same) > 1 else ""
            labels[i] = same[0].name + more
    return [Group(label, same) for label, same in zip(labels, alike, strict=True)]


def _alike(runs: Sequence[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    """The runs by a key made of what JSON knows, in the order of the first of each."""
    found: dict[str, list[Run]] = collections.defaultdict(list)
    for run in runs:
        found[json.dumps(key(run), sort_keys=True)].append(run)
    return list(found.values())


def _shared_name(names: Sequence[str]) -> str:
    """Words that begin all names and words that end them: `rnn` of `rnn_s0` and `rnn_s10`."""
    if len(names) == 1:
        return names[0]
    words = [re.split(r"([-_./])", name) for name in names]
    start = os.path.commonprefix(words)
    rest = [line[len(start) :][::-1] for line in words]
    end = os.path.commonprefix(rest)[::-1]
    return re.sub(r"[-_.]*(seed)?[-_./]*$", "", "".join([*start, *end[1:]]))


def _numbers(results: dict[str, Any], scores: dict[str, Any]) -> dict[str, Number]:
    numbers = {name: _number(scores, name) for name in OF_SPLIT}
    for bound in _BOUNDS:
        if bound in scores:
            # The elbo is a mean over samples, whose number does not change what it estimates.
            samples = "" if bound == "elbo" else f"-{scores.get(f'{bound}_num_samples', '?')}"
            name = bound + samples
            numbers[name] = _number(scores, bound)
            numbers[name + STANDARD_ERROR] = _number(scores, bound + STANDARD_ERROR)
            all_steps, mean = (_number(scores, given) for given in per_step(bound))
            # Between sequences of one length the mean over them is that over all steps.
            if mean is not None and math.isclose(mean, all_steps or 0.0, rel_tol=1e-6):
                mean = None
            numbers |= zip(per_step(name), (all_steps, mean), strict=True)
            if "perplexity" in scores and samples and all_steps is not None:
                value = tables.perplexity(all_steps)
                numbers[tables.of_bound(name, "perplexity")] = (
                    value if math.isfinite(value) else None
                )
            numbers[name + WHOLE] = _number(scores, bound + WHOLE)
            numbers[name + WHOLE + STANDARD_ERROR] = _number(scores, bound + WHOLE + STANDARD_ERROR)
    numbers |= {name: _number(results, name) for name in _OF_RUN}
    seconds, epochs = numbers.pop("seconds"), numbers["epochs"]
    numbers["seconds_per_epoch"] = seconds / epochs if seconds is not None and epochs else None
    return numbers


def _number(values: dict[str, Any], name: str) -> Number:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
        raise UserError(f"{name} is {value!r}, which is not a number")
    return value if value is not None and math.isfinite(value) else None


def _warnings(
    name: str, results: dict[str, Any], scores: dict[str, Any], history: list[dict[str, float]]
) -> list[str]:
    found = []
    if not any("validation_elbo" in row for row in history):
        found.append(f"{name} has no learning curve")
    epochs = results.get("epochs")
    if epochs is not None and history and history[-1]["epoch"] > epochs:
        found.append(
            f"{name} was trained until epoch {history[-1]['epoch']:.0f} after its results of "
            f"epoch {epochs} were written"
        )
    scored, best = scores.get("step"), results.get("step")
    if scored != best and None not in (scored, best):
        found.append(f"{name} was scored at update {scored}, not at its best epoch (update {best})")
    return found
