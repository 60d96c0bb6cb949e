"""The whole table of speed and memory: training, generation, scoring, memory, input, start-up.

  python benchmarks/run.py [--only=train,generate] [--configs=small,timit] [--repeats=5]
      [--json=FILE] [--peers --peers_python=.venv-peers/bin/python]

Machines are noisy: all forms of a part run in turn with each other, and what counts are the ratios
within one run. README.md in this folder says what each row is. Ours alone takes about ten minutes,
with the peers an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import forms, inputs, sections, startup
from benchmarks.forms import Row
from benchmarks.problem import CONFIGS
from benchmarks.sections import Settings

TITLES = {
    "train": "Training step (forward, backward, clipping, Adam)",
    "generate": "Generation (whole sequences, noise included)",
    "score": "Scoring (one-sample bound)",
    "memory": "Memory and time of a training step over its length",
    "input": "Input (the pipeline against the training step that it feeds)",
    "startup": "Start-up",
}
COLUMNS = {
    "config": ("config", "{}"),
    "dataset": ("dataset", "{}"),
    "stage": ("stage", "{}"),
    "gib": ("GiB", "{:g}"),
    "batch": ("batch", "{}"),
    "steps": ("steps", "{}"),
    "form": ("form", "{}"),
    "ms_median": ("ms", "{:.1f}"),
    "ms_best": ("best ms", "{:.1f}"),
    "ms_per_step": ("ms/step", "{:.3f}"),
    "speed_ratio": ("x reference", "{:.2f}"),
    "sequences_per_second": ("sequences/s", "{:.1f}"),
    "gflops": ("GFLOP/s", "{:.1f}"),
    "peak_gflops": ("peak GFLOP/s", "{:.1f}"),
    "share_of_peak": ("of peak", "{:.0%}"),
    "mib": ("peak MiB", "{:.0f}"),
    "mib_per_step": ("MiB/step above first", "{:.3f}"),
    "first_step_s": ("first call s", "{:.1f}"),
    "load_s": ("load s", "{:.2f}"),
    "batch_ms": ("ms/batch", "{:.3f}"),
    "own_mib": ("own MiB", "{:.0f}"),
    "step_ms": ("ms/training step", "{:.2f}"),
    "share_of_step": ("of step", "{:.1%}"),
    "seconds": ("seconds", "{:.2f}"),
    "refused": ("not timed, because", "{}"),
}
"""Keys of rows in the order of the columns: heading and format."""


def table(rows: Sequence[Row]) -> str:
    """Rows as text: the columns that any of them has."""
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    cells = [[COLUMNS[key][0] for key in keys]]
    cells += [[COLUMNS[k][1].format(row[k]) if k in row else "" for k in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = {"config", "dataset", "stage", "form", "refused"}

    def aligned(line: Sequence[str]) -> str:
        parts = zip(keys, line, widths, strict=True)
        return "  ".join(c.ljust(w) if k in texts else c.rjust(w) for k, c, w in parts).rstrip()

    return "\n".join(map(aligned, cells))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import importlib.metadata

    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
    }


def _form_names() -> list[str]:
    """Of all forms that any part may run."""
    named: dict[str, None] = {}
    for mode in ("train", "generate", "score"):
        both = forms.own_forms(mode), forms.peer_forms(mode, sys.executable, whole_graph=True)
        named |= dict.fromkeys(form.name for group in both for form in group)
    own = forms.own_forms("train")
    return [*named, *(forms.recomputing(form).name for form in own)]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Checked arguments; tuples where several are given."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", default=",".join(TITLES), help="parts of the table")
    parser.add_argument("--configs", default="small,timit", help="sizes: tiny, small, timit")
    parser.add_argument("--repeats", type=int, default=5, help="rounds through all forms")
    parser.add_argument("--json", default="", help="file to write all numbers to")
    parser.add_argument("--peers", action="store_true", help="PyTorch and JAX beside ours")
    parser.add_argument("--peers_python", default="", help="interpreter that has both")
    parser.add_argument("--without", default="", help="names of forms to leave out, split by ';'")
    parser.add_argument(
        "--whole_graph", action="store_true", help="also unroll and compile a step in PyTorch"
    )
    parser.add_argument("--long", action="store_true", help="memory of ours at 16,000 steps too")
    found = parser.parse_args(arguments)
    for name, known in (("only", TITLES), ("configs", CONFIGS)):
        chosen = tuple(getattr(found, name).split(","))
        unknown = [one for one in chosen if one not in known]
        if unknown:
            parser.error(f"--{name}: unknown {unknown[0]!r}; there are {', '.join(known)}")
        setattr(found, name, chosen)
    if found.repeats < 1:
        parser.error(f"--repeats={found.repeats}: give 1 or more")
    if found.peers_python and not found.peers:
        parser.error("--peers_python has no effect without --peers")
    if found.peers:
        found.peers_python = found.peers_python or sys.executable
        if not os.access(found.peers_python, os.X_OK):
            parser.error(f"--peers_python={found.peers_python} is no program that can be run")
        # Workers run elsewhere. Not resolved: a link to Python is what makes a virtual environment.
        found.peers_python = os.path.abspath(found.peers_python)
    found.without = tuple(filter(None, found.without.split(";")))
    known_forms = _form_names()
    for name in found.without:
        if name not in known_forms:
            parser.error(f"--without: unknown {name!r}; there are {'; '.join(known_forms)}")
    if found.json and not Path(found.json).absolute().parent.is_dir():
        parser.error(f"--json={found.json}: there is no such folder")
    return found


def main() -> None:
    """Prints the table part by part, and writes JSON with --json=FILE."""
    chosen = parsed()
    settings = Settings(
        configs=chosen.configs,
        repeats=chosen.repeats,
        peers_python=chosen.peers_python,
        without=chosen.without,
        whole_graph=chosen.whole_graph,
        long=chosen.long,
    )
    parts = {**sections.SECTIONS, "input": inputs.rows, "startup": startup.rows}
    results: dict[str, Any] = {"machine": machine()}
    print("  ".join(f"{name}: {value}" for name, value in results["machine"].items()))
    for name in chosen.only:
        print(f"\n{TITLES[name]}", flush=True)
        results[name] = parts[name](settings)
        print(table(results[name]), flush=True)
        if chosen.json:  # after each part: an hour's work is not lost with the last one
            Path(chosen.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
