"""The parts of the table whose forms are compared: training, generation, scoring, memory."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import checks, forms
from benchmarks.forms import Form, Row
from benchmarks.problem import CONFIGS, FEWEST_GFLOP, Sizes
from benchmarks.workers import WorkerFailed


class Settings(NamedTuple):
    """What a run measures."""

    configs: tuple[str, ...]
    repeats: int
    peers_python: str
    """Empty: ours only."""
    without: tuple[str, ...] = ()
    """Names of forms to leave out."""
    whole_graph: bool = False
    long: bool = False
    generated_steps: int = 400
    generated_batches: tuple[int, ...] = (1, 64)
    utterance_steps: int = 4000

    def forms(self, mode: forms.Mode) -> list[Form]:
        """All forms of a mode that are to run."""
        found = forms.own_forms(mode)
        if self.peers_python:
            found += forms.peer_forms(mode, self.peers_python, self.whole_graph)
        return [form for form in found if form.name not in self.without]


def train(settings: Settings) -> list[Row]:
    """A whole training step: forward, backward, clipping, Adam."""
    found = []
    for config in settings.configs:
        sizes, gflop = CONFIGS[config], FEWEST_GFLOP.get(config)
        rows, peak = forms.compare(sizes, "train", settings.forms("train"), settings.repeats)
        for row in rows:
            if "ms_median" in row:
                row["sequences_per_second"] = 1e3 * sizes.B / row["ms_median"]
            if "ms_median" in row and gflop is not None:
                gflops = 1e3 * gflop / row["ms_median"]
                row |= {
                    "gflop_fewest": gflop,
                    "gflops": gflops,
                    "peak_gflops": peak,
                    "share_of_peak": gflops / peak,
                }
            found.append({"config": config, **row})
    return found


def generate(settings: Settings) -> list[Row]:
    """Sequences from nothing, noise included."""
    found, steps = [], settings.generated_steps
    for config in settings.configs:
        for batch in settings.generated_batches:
            sizes = CONFIGS[config]._replace(B=batch, T=1)
            chosen = settings.forms("generate")
            rows, peak = forms.compare(sizes, "generate", chosen, settings.repeats, steps)
            for row in rows:
                if "ms_median" in row:
                    row |= {"ms_per_step": row["ms_median"] / steps, "peak_gflops": peak}
                found.append({"config": config, "batch": batch, "steps": steps, **row})
    return found


def score(settings: Settings) -> list[Row]:
    """The bound of a batch, and of one whole utterance."""
    found = []
    for config in settings.configs:
        sizes = CONFIGS[config]
        for one in (sizes, sizes._replace(B=1, T=settings.utterance_steps)):
            chosen = settings.forms("score")
            rows, peak = forms.compare(one, "score", chosen, settings.repeats)
            for row in rows:
                if "ms_median" in row:
                    row |= {"ms_per_step": row["ms_median"] / one.T, "peak_gflops": peak}
                found.append({"config": config, "batch": one.B, "steps": one.T, **row})
    return found


MEMORY_FORMS = (forms.REFERENCE, "torch gradient by hand, feature-major")


def memory(settings: Settings) -> list[Row]:
    """Memory and time of training steps over T, each length in a process of its own."""
    config = "tiny" if settings.configs == ("tiny",) else "small"
    lengths = (10, 20) if config == "tiny" else (100, 400, 1600)
    chosen = forms.own_forms("train")
    chosen += [forms.recomputing(form) for form in chosen]
    own = {form.name for form in chosen}
    if settings.peers_python:
        peers = forms.peer_forms("train", settings.peers_python)
        chosen += [form for form in peers if form.name in MEMORY_FORMS]
    chosen = [form for form in chosen if form.name not in settings.without]
    found = []
    for form in chosen:
        more = (16000,) if settings.long and form.name in own else ()
        found += _memory_of(form, CONFIGS[config], (*lengths, *more), chosen[0], settings.repeats)
    return [{"config": config, **row} for row in found]


def _memory_of(
    form: Form, sizes: Sizes, lengths: Sequence[int], measure: Form, repeats: int
) -> list[Row]:
    """Rows of one form; checked against `measure` at the first length."""
    rows: list[Row] = []
    for length in lengths:
        row: Row = {"form": form.name, "steps": length}
        with tempfile.TemporaryDirectory() as folder:
            problem = Path(folder) / "problem.npz"
            forms.write_problem(sizes._replace(T=length), "train", problem)
            try:
                worker = forms.start(form, "train", problem)
                times = [worker.ask()["ms"] for _ in range(min(repeats, 3))]
                row |= worker.ready
                if not rows and form != measure:
                    different = _difference(worker, measure, problem)
                    if different:
                        worker.close()
                        return [{**row, "refused": different}]
                worker.close()
            except WorkerFailed as failure:
                rows.append({**row, "refused": f"failed with {failure}"})
                continue
        row |= {"ms_median": statistics.median(times), "ms_best": min(times)}
        row["ms_per_step"] = row["ms_median"] / length
        if rows and "mib" in rows[0]:
            grown = row["mib"] - rows[0]["mib"]
            row["mib_per_step"] = grown / (length - rows[0]["steps"])
        rows.append(row)
    return rows


def _difference(worker: forms.Worker, measure: Form, problem: Path) -> str:
    expecting = forms.start(measure, "train", problem)
    expected = forms.result(expecting, problem.parent)
    expecting.close()
    found = forms.result(worker, problem.parent)
    return "; ".join(checks.differences(expected, found)[:3])


SECTIONS: dict[str, Callable[[Settings], list[Row]]] = {
    "train": train,
    "generate": generate,
    "score": score,
    "memory": memory,
}
