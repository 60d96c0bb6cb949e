"""Steps a second of one training on one machine: alone, on two devices, in two processes.

  python benchmarks/scaling.py --rounds=3

runs the training program in each form in turn, on two cores: one process with a thread, with two,
with two parts of a batch side by side, with two logical devices (mirrored); two worker processes of
a thread each (multi_worker_mirrored). Model and data are random, of the size `--recurrent_size`.
Medians over rounds; what spreading costs is the time beyond one process with two threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SEQUENCES, STEPS, FRAME = 512, 100, 88


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of which the first is not counted")
    parser.add_argument("--recurrent_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        x = np.random.default_rng(0).normal(size=(SEQUENCES, STEPS, FRAME)).astype(np.float32)
        np.savez(folder / "data.npz", train=x, valid=x[:8], test=x[:8])
        found: dict[str, list[float]] = {form: [] for form in _FORMS}
        for number in range(arguments.rounds):
            for form, rates in found.items():
                rates.append(_rate(arguments, folder, form, folder / f"{form}-{number}"))
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


def _rate(arguments: argparse.Namespace, folder: Path, form: str, run_dir: Path) -> float:
    """Training steps a second, validation and the first epoch left out."""
    threads, own = _FORMS[form]
    size = arguments.recurrent_size
    settings = {
        "dataset": "array",
        "manual_dir": folder / "data.npz",
        "data_dir": folder / "tfds",
        "run_dir": run_dir,
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
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch "):
                times.append(time.monotonic())
        error = process.stderr.read()
    if process.returncode:
        sys.exit(f"{form} failed: {error[-2000:]}")
    steps = -(-SEQUENCES // arguments.batch_size) * (len(times) - 1)
    return steps / (times[-1] - times[0])


if __name__ == "__main__":
    main()
