"""Which forms there are, and how they are run beside each other."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks import checks, workers
from benchmarks.problem import Sizes
from benchmarks.workers import Worker, WorkerFailed

Mode = Literal["train", "generate", "score"]
Row = dict[str, Any]

REFERENCE = "torch eager, released"
"""The form that ratios refer to; without peers, the first form."""

_TORCH = "benchmarks.peers.torch_worker"
_JAX = "benchmarks.peers.jax_worker"


class Form(NamedTuple):
    """One way to do the work of a mode.

    Args:
        name: for the tables.
        module: the worker.
        arguments: that choose the form.
        python: the interpreter.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    python: str = sys.executable


def own_forms(mode: Mode) -> list[Form]:
    """The library as it is, and with the flags that change the speed of its training step."""
    if mode != "train":
        return [Form("ours", "benchmarks.ours", ())]
    cores = os.cpu_count() or 1
    settings = {
        "ours, XLA off": ("--enable_xla=off",),
        "ours, XLA on": ("--enable_xla=on",),
        f"ours, XLA on, {cores} parts": ("--enable_xla=on", f"--concurrent_parts={cores}"),
    }
    return [Form(name, "benchmarks.ours", flags) for name, flags in settings.items()]


def recomputing(form: Form) -> Form:
    """A form of ours with `--recompute`."""
    return form._replace(name=f"{form.name}, recompute", arguments=(*form.arguments, "--recompute"))


def peer_forms(mode: Mode, python: str, whole_graph: bool = False) -> list[Form]:
    """Those of PyTorch and JAX.

    Args:
        mode: what they are to do.
        python: an interpreter that has both.
        whole_graph: also the training step that torch.compile unrolls, which takes many minutes to
            compile.
    """
    torch = {"torch eager, merged products": "hoisted", "torch compiled step": "compiled_step"}
    jax = {"jax scan": "scan", "jax scan, feature-major": "scan_feature_major"}
    if mode != "score":
        torch = {REFERENCE: "released", **torch}
    if mode == "train":
        torch |= {
            "torch gradient by hand": "by_hand",
            "torch gradient by hand, feature-major": "by_hand_feature_major",
            "torch gradient by hand, library LSTM": "by_hand_library_encoder",
        }
        torch |= {"torch compiled whole": "compiled"} if whole_graph else {}
        jax |= {
            "jax gradient by hand": "by_hand",
            "jax gradient by hand, feature-major": "by_hand_feature_major",
        }
    both = ((_TORCH, torch), (_JAX, jax))
    return [
        Form(name, module, (f"--form={form}",), python)
        for module, named in both
        for name, form in named.items()
    ]


def write_problem(sizes: Sizes, mode: Mode, path: Path) -> None:
    """Lets the library write weights, a batch and its noise."""
    subprocess.run(
        [
            sys.executable,
            *("-m", "benchmarks.ours", "problem", f"--problem={path}"),
            f"--sizes={','.join(map(str, sizes))}",
            f"--kind={'scoring' if mode == 'score' else 'training'}",
        ],
        cwd=workers.ROOT,
        check=True,
        stderr=subprocess.DEVNULL,
    )


def start(form: Form, mode: Mode, problem: Path, steps: int = 0) -> Worker:
    """The form's worker, ready; WorkerFailed if it does not come so far."""
    extra = (f"--steps={steps}",) if steps else ()
    arguments = (mode, f"--problem={problem}", *form.arguments, *extra)
    return Worker(form.module, *arguments, python=form.python)


def result(worker: Worker, folder: Path) -> dict[str, Any]:
    """What a form computes, arrays by name."""
    path = folder / "result.npz"
    worker.ask("check", str(path))
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def admitted(
    forms: Sequence[Form], mode: Mode, problem: Path, steps: int = 0
) -> tuple[dict[str, Worker], list[Row]]:
    """Workers of the forms that agree with the first one, and rows that say why others do not run.

    Args:
        forms: the first one is the measure of the others, and must run.
        mode: what they are to do.
        problem: file.
        steps: to generate.
    """
    running: dict[str, Worker] = {}
    refused: list[Row] = []
    expected: dict[str, Any] | None = None
    for form in forms:
        try:
            worker = start(form, mode, problem, steps)
            found = result(worker, problem.parent)
        except WorkerFailed as failure:
            if expected is None:
                raise
            refused.append({"form": form.name, "refused": f"failed with {failure}"})
            continue
        expected = found if expected is None else expected
        different = checks.differences(expected, found)
        if different:
            worker.close()
            refused.append({"form": form.name, "refused": "; ".join(different[:3])})
            continue
        running[form.name] = worker
    return running, refused


def compare(
    sizes: Sizes, mode: Mode, forms: Sequence[Form], repeats: int, steps: int = 0
) -> tuple[list[Row], float]:
    """Rows of all forms, timed in turn with each other and with the machine's products.

    Returns:
        For each form median and best milliseconds, its speed relative to the reference, seconds of
        the first call and MiB before any check; and the best GFLOP/s of a product meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / "problem.npz"
        write_problem(sizes, mode, problem)
        running, refused = admitted(forms, mode, problem, steps)
        largest = 1024 if sizes.H < 64 else 4096
        peak = Worker("benchmarks.ours", "peak", f"--largest_product={largest}")
        answers, failed = workers.interleaved({"peak": peak, **running}, repeats)
        for worker in (peak, *running.values()):
            worker.close()
    best_product = max(answer["gflops"] for answer in answers.pop("peak"))
    rows: list[Row] = []
    refused += [{"form": name, "refused": reason} for name, reason in failed.items()]
    for name, worker in running.items():
        if name in failed:
            continue
        median, best = workers.median_and_best(answers[name])
        rows.append({"form": name, "ms_median": median, "ms_best": best, **worker.ready})
    set_ratios(rows)
    return rows + refused, best_product


def set_ratios(rows: Sequence[Row]) -> None:
    """Adds to each row how many times faster it is than the reference, by medians."""
    if not rows:
        return
    reference = next((r for r in rows if r["form"] == REFERENCE), rows[0])
    for row in rows:
        row["speed_ratio"] = reference["ms_median"] / row["ms_median"]
        row["speed_ratio_to"] = reference["form"]
