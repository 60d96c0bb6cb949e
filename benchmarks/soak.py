"""Whether a training goes on as it began: memory, open files, and speed, for as long as one likes.

  python benchmarks/soak.py --minutes=30

trains without an end on random data, with validation, summaries and checkpoints each few seconds,
and looks at the process each `--every` seconds. The slope is by least squares over all but the
first fifth, in which TensorFlow's allocators fill up. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="-- and more flags of the training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        generator = np.random.default_rng(0)
        lengths = generator.integers(20, 101, 256).astype(np.int32)
        x = generator.normal(size=(256, 100, 40)).astype(np.float32)
        np.savez(folder / "data.npz", train=x, train_lengths=lengths, valid=x[:32], test=x[:8])
        flags = [f"--manual_dir={folder / 'data.npz'}", f"--data_dir={folder / 'tfds'}",
                 f"--run_dir={folder / 'run'}", "--dataset=array", "--train_epochs=1000000",
                 "--checkpoint_every_steps=50", "--summary_samples=4",
                 *(flag for flag in arguments.flags if flag != "--")]  # fmt: skip
        with open(folder / "output.txt", "w+", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "zforcing_tf.train", *flags],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            rows = _watch(process, folder / "output.txt", arguments.minutes, arguments.every)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait()
            if code != 143:
                output.seek(0)
                sys.exit(f"the training ended with {code}: {output.read()[-2000:]}")
    _print(np.array(rows), arguments.every)


def _watch(
    process: subprocess.Popen[bytes], output: Path, minutes: float, every: float
) -> list[tuple[float, float, float, float]]:
    """Seconds, MiB in memory, open files, epochs so far."""
    rows: list[tuple[float, float, float, float]] = []
    began = time.monotonic()
    while time.monotonic() - began < 60 * minutes and process.poll() is None:
        time.sleep(every)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            resident = float(status.partition("VmRSS:")[2].split()[0]) / 1024
            files = float(len(os.listdir(f"/proc/{process.pid}/fd")))
        except (OSError, IndexError):
            break
        epochs = float(output.read_text(encoding="utf-8").count("\nepoch "))
        rows.append((time.monotonic() - began, resident, files, epochs))
    return rows


def _print(rows: np.ndarray, every: float) -> None:
    seconds, resident, files, epochs = rows[len(rows) // 5 :].T
    slope = np.polyfit(seconds / 3600, resident, 1)[0]
    half = len(seconds) // 2

    def rate(part: slice) -> float:
        return float((epochs[part][-1] - epochs[part][0]) / (seconds[part][-1] - seconds[part][0]))

    first, second = rate(slice(0, half)), rate(slice(half, None))
    print(f"{seconds[-1] / 60:.1f} minutes, {epochs[-1]:.0f} epochs, a look each {every:g} s")
    print(f"memory      {resident[0]:.0f} to {resident[-1]:.0f} MiB, {slope:+.1f} MiB an hour")
    print(f"open files  {files.min():.0f} to {files.max():.0f}, at the end {files[-1]:.0f}")
    print(f"throughput  {60 * first:.1f} epochs a minute, then {60 * second:.1f}")


if __name__ == "__main__":
    main()
