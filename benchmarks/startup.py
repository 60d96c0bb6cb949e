"""What a user waits for before the first step: seconds of a new process for each stage."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import ours, problem
from benchmarks.forms import Row
from benchmarks.problem import CONFIGS
from benchmarks.sections import Settings
from benchmarks.workers import ROOT

FIRST_STEP = """
import os, sys
from zforcing_tf import quiet
quiet.silence()
import keras
seen = keras.callbacks.CallbackList.on_train_batch_end
def first(self, *args, **kwargs):
    seen(self, *args, **kwargs)
    print("first step", flush=True)
    os._exit(0)
keras.callbacks.CallbackList.on_train_batch_end = first
from zforcing_tf import train
sys.argv[0] = "zforcing-train"
train.run()
"""
"""The program `train`, ended after its first update."""
SETTINGS = {"ours, XLA off": ours.PLAIN, "ours, XLA on": ours.Setting(enable_xla="on")}


def rows(settings: Settings) -> list[Row]:
    """One row for each stage; medians over the repeats, at most three."""
    repeats = min(settings.repeats, 3)
    found = [
        _row("import zforcing_tf", ["-c", "import zforcing_tf"], repeats),
        _row("python -m zforcing_tf.train --help", ["-m", "zforcing_tf.train", "--help"], repeats),
    ]
    for config in settings.configs:
        for form in SETTINGS:
            runs = [_stages(config, form) for _ in range(repeats)]
            for stage in runs[0]:
                seconds = statistics.median(run[stage] for run in runs)
                found.append({"stage": stage, "config": config, "form": form, "seconds": seconds})
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-c", FIRST_STEP, "--flagfile=flags/digits_zforcing_aux.flags"]
        arguments += [f"--data_dir={folder}/data", f"--run_dir={folder}/run"]
        name = "first step of zforcing_tf.train on digits"
        found.append(_row(f"{name}, which are made for it", arguments, 1))
        found.append(_row(name, arguments, repeats))
    return found


def _row(stage: str, arguments: list[str], repeats: int) -> Row:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        seconds.append(time.perf_counter() - start)
        # absl's --help ends with 1; a run that was ended after its first step says so.
        helped = arguments[-1] == "--help" and done.returncode in (0, 1) and done.stdout
        trained = FIRST_STEP not in arguments or "first step" in done.stdout
        if not helped and (done.returncode or not trained):
            said = done.stderr.strip().splitlines() or ["nothing"]
            return {"stage": stage, "refused": f"exit code {done.returncode}: {said[-1]}"}
    return {"stage": stage, "seconds": statistics.median(seconds)}


def _stages(config: str, form: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.startup", config, form],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Goes through the stages of one process, and prints their seconds."""
    s, setting = CONFIGS[sys.argv[1]], SETTINGS[sys.argv[2]]
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    import tensorflow as tf

    done("import tensorflow")
    import zforcing_tf.models  # noqa: F401

    done("import zforcing_tf.models")
    import numpy as np

    blank = np.zeros((s.T, s.B, s.Z), np.float32)
    weights: Any = problem.Problem(problem.weights(s), problem.batch(s), blank)
    last = time.perf_counter()
    model = ours.build(weights, setting)
    done("build the model")
    batch = {"x": tf.constant(weights.x), "lengths": tf.fill([s.B], s.T)}
    step = tf.function(model.train_step, autograph=False)
    step.get_concrete_function(batch)
    done("trace the training step")
    step(batch)["loss"].numpy()
    done("first step (XLA: compile)")
    step(batch)["loss"].numpy()
    done("second step")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
