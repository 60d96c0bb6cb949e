"""Steps a second of one training on one machine: alone, on two devices, in two processes.

  python benchmarks/scaling.py --rounds=3

runs the training program in each form in turn, on two cores: one process with a thread, with two,
with two parts of a batch side by side, with two logical devices (mirrored); two worker processes of
a thread each (multi_worker_mirrored). Model and data are random, of the size `--recurrent_size`.
A step is what an epoch of many takes longer than one of few, so that validation and checkpoints are
not in it. Medians over rounds; what spreading costs is the time beyond one process of two threads.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FEW, MANY, STEPS, FRAME = 128, 768, 100, 88


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="of which the first is not counted")
    parser.add_argument("--recurrent_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        x = np.random.default_rng(0).normal(size=(MANY, STEPS, FRAME)).astype(np.float32)
        for count in (FEW, MANY):
            np.savez(folder / f"{count}.npz", train=x[:count], valid=x[:8], test=x[:8])
        found: dict[str, list[float]] = {form: [] for form in _FORMS}
        for number in range(arguments.rounds):
            for form, rates in found.items():
                few, many = (
                    _seconds(arguments, folder, form, count, f"{form}-{number}-{count}")
                    for count in (FEW, MANY)
                )
                rates.append((MANY - FEW) / arguments.batch_size / (many - few))
    reference = statistics.median(found["1 process, 2 threads"])
    print(f"H {arguments.recurrent_size}, batches of {arguments.batch_size} x {STEPS} x {FRAME}")
    print("form                      steps/s   x 1 process of 2 threads   ms a step")
    for form, rates in found.items():
        rate = statistics.median(rates)
        print(f"{form:25s} {rate:7.2f} {rate / reference:26.2f} {1000 / rate:11.1f}")


_FORMS = {
    "1 process, 1 thread": (1, ()),
    "1 process, 2 threads": (2, ()),
    "1 process, 2 parts": (2, ("--concurrent_parts=2",)),
    "2 logical devices": (2, ("--distribution_strategy=mirrored", "--num_logical_devices=2")),
    "2 worker processes": (1, ()),
}


def _seconds(
    arguments: argparse.Namespace, folder: Path, form: str, count: int, name: str
) -> float:
    """Of an epoch of so many sequences, the first one left out."""
    threads, own = _FORMS[form]
    size = arguments.recurrent_size
    settings = {
        "dataset": "array",
        "manual_dir": folder / f"{count}.npz",
        "data_dir": folder / f"tfds-{count}",
        "run_dir": folder / name,
        "recurrent_size": size,
        "embedding_size": size,
        "hidden_size": size // 2,
        "latent_size": 32,
        "train_epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "summary_samples": 0,
    }
    flags = [*(f"--{name}={value}" for name, value in settings.items()), *own]
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(names, str(threads))}
    if form == "2 worker processes":
        script = str(ROOT / "benchmarks" / "launch_local_workers.py")
        command = [sys.executable, script, "--workers=2", "--threads=1", "--", *flags]
    else:
        command = [sys.executable, "-m", "zforcing_tf.train", *flags]
    times = []
    with (
        open(folder / "errors.txt", "w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch "):
                times.append(time.monotonic())
        if process.wait():
            errors.seek(0)
            sys.exit(f"{form} failed: {errors.read()[-2000:]}")
    return statistics.median(b - a for a, b in itertools.pairwise(times))


if __name__ == "__main__":
    main()
