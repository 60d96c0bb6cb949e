"""Time and memory of one training step, against the machine's own peak of matrix products.

  python benchmarks/train_step.py [--configs=small,timit] [--repeats=7]

runs every form of the step interleaved with the peak measurement, and prints medians: machines are
noisy, so compare ratios within one run. Each form runs in a process of its own (for its peak
memory) that waits for its turn. The operations counted are the fewest that a step needs, whatever a
form really does. Takes about four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

CONFIGS = {
    "small": dict(D=88, E=128, H=256, M=128, Z=32, T=100, B=16),
    "timit": dict(D=200, E=512, H=1024, M=512, Z=256, T=40, B=32),
}
PEAK_SIZES = (1024, 2048)
FEWEST_GFLOP = {"small": 9.6, "timit": 124.0}
"""Products of one step of Z-Forcing with a Gaussian emission, auxiliary cost and backward emission:
[n, a] x [a, b] takes 2nab forward and twice that backward, and linear maps that follow each other
(embedding or code, then gates) count as the one product that they are."""


def worker(config: str, xla: bool) -> None:
    """Times one step for each line on standard input, and prints the milliseconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import tensorflow as tf

    from zforcing_tf import config as configuration
    from zforcing_tf import models
    from zforcing_tf.data.spec import DataSpec

    s = CONFIGS[config]
    experiment = configuration.ExperimentConfig(
        model=configuration.ModelConfig(
            recurrent_size=s["H"],
            latent_size=s["Z"],
            embedding_size=s["E"],
            hidden_size=s["M"],
        ),
        objective=configuration.ObjectiveConfig(
            auxiliary_weight_start=0.1,
            auxiliary_weight_end=0.1,
            backward_weight_start=0.1,
            backward_weight_end=0.1,
        ),
        run=configuration.RunConfig(enable_xla=xla, batch_size=s["B"]),
    )
    keras.utils.set_random_seed(0)
    model = models.build(experiment, DataSpec("benchmark", "real", s["D"], s["T"], None))
    model.compile(optimizer=models.optimizer(experiment, model), jit_compile=False)
    step = tf.function(model.train_step, autograph=False)
    rng = np.random.default_rng(0)
    batch = {
        "x": tf.constant(rng.normal(size=(s["B"], s["T"], s["D"])), tf.float32),
        "lengths": tf.fill([s["B"]], s["T"]),
    }
    start = time.perf_counter()
    step(batch)["loss"].numpy()
    print(json.dumps({"first_step_s": time.perf_counter() - start}), flush=True)
    step(batch)["loss"].numpy()
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = float(step(batch)["loss"].numpy())
        milliseconds = 1e3 * (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"ms": milliseconds, "loss": loss, "mib": peak}), flush=True)


def peak_worker() -> None:
    """For each line on standard input, prints TensorFlow's best float32 product now, GFLOP/s."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    product = tf.function(tf.matmul)
    matrices = [tf.random.normal((n, n)) for n in PEAK_SIZES]
    for a in matrices:
        product(a, a)
    print(json.dumps({"first_step_s": 0.0}), flush=True)
    for _ in sys.stdin:
        best = 0.0
        for a in matrices:
            for _ in range(3):
                start = time.perf_counter()
                product(a, a).numpy()
                best = max(best, 2e-9 * a.shape[0] ** 3 / (time.perf_counter() - start))
        print(json.dumps({"gflops": best}), flush=True)


class Process:
    """A worker process that answers one JSON line for each line it is sent."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.first = self.read()

    def read(self) -> dict[str, float]:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.process.args} ended without an answer")
        return json.loads(line)

    def ask(self) -> dict[str, float]:
        """Lets the worker do its work once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """Ends the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(config: str, repeats: int) -> list[dict[str, object]]:
    """Interleaves peak, graph and XLA; one result for each form."""
    sizes = CONFIGS[config]
    gflop = FEWEST_GFLOP[config]
    peak = Process("--worker=peak")
    forms = {name: Process(f"--worker={config}", f"--xla={name}") for name in ("off", "on")}
    peaks, answers = [], {name: [] for name in forms}
    for _ in range(repeats):
        peaks.append(peak.ask()["gflops"])
        for name, process in forms.items():
            answers[name].append(process.ask())
    best = max(peaks)
    results = []
    for name, process in forms.items():
        median = statistics.median(a["ms"] for a in answers[name])
        results.append(
            {
                "config": config,
                "xla": name,
                "ms_median": median,
                "ms_best": min(a["ms"] for a in answers[name]),
                "sequences_per_second": 1e3 * sizes["B"] / median,
                "gflop_fewest": gflop,
                "gflops": 1e3 * gflop / median,
                "peak_gflops": best,
                "share_of_peak": 1e3 * gflop / median / best,
                "peak_mib": answers[name][-1]["mib"],
                "first_step_s": process.first["first_step_s"],
            }
        )
        process.close()
    peak.close()
    return results


def main() -> None:
    """Prints the table, and JSON with --json=FILE."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--configs", default="small,timit")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", default="")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--xla", default="off", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker == "peak":
        return peak_worker()
    if arguments.worker:
        return worker(arguments.worker, arguments.xla == "on")
    unknown = [name for name in arguments.configs.split(",") if name not in CONFIGS]
    if unknown:
        parser.error(f"unknown configuration {unknown[0]!r}; there are {', '.join(CONFIGS)}")
    print(
        "config  XLA   ms/step (best)    sequences/s  GFLOP  GFLOP/s  peak GFLOP/s  share of peak"
        "  peak MiB  first step s"
    )
    results = []
    for config in arguments.configs.split(","):
        for r in measure(config, arguments.repeats):
            results.append(r)
            print(
                f"{r['config']:7} {r['xla']:4} {r['ms_median']:8.0f} ({r['ms_best']:5.0f}) "
                f"{r['sequences_per_second']:14.1f} {r['gflop_fewest']:6.1f} {r['gflops']:8.1f} "
                f"{r['peak_gflops']:13.1f} {r['share_of_peak']:13.0%} {r['peak_mib']:10.0f} "
                f"{r['first_step_s']:13.1f}",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
