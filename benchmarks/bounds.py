"""Bounds against the truth: a trained run on linear-Gaussian data, whose likelihood is known.

  python -m zforcing_tf.train --flagfile=flags/linear_gaussian_vrnn.flags --run_dir=runs/lg_vrnn
  python benchmarks/bounds.py --run_dir=runs/lg_vrnn

prints iwae(K) and fivo(N) of the test split for K, N = 1, 4, 16, 64, 256 beside the mean of the
exact log-likelihood (Kalman filter), and the largest memory of the process after each row. Takes
minutes.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--counts", default="1,4,16,64,256")
    parser.add_argument("--eval_batch_size", type=int, default=256)
    arguments = parser.parse_args()
    from zforcing_tf import quiet

    quiet.silence()
    from zforcing_tf.data import linear_gaussian, registry
    from zforcing_tf.scoring import tighter_bounds
    from zforcing_tf.training.checkpoint import load_model

    model, config, spec, _ = load_model(arguments.run_dir)
    if spec.name != "linear_gaussian":
        parser.error(f"{arguments.run_dir} was trained on {spec.name}, not on linear_gaussian")
    split = registry.load(config.data).test
    x, lengths = split.padded(range(split.num_sequences))
    exact = linear_gaussian.default_model().log_likelihood(x, lengths).mean()
    print(f"exact log-likelihood, mean over {split.num_sequences} sequences: {exact:.3f} nats")
    print("  K, N       iwae    +-       fivo    +-   peak MiB")
    for count in map(int, arguments.counts.split(",")):
        found = tighter_bounds(model, split, arguments.eval_batch_size, ["iwae", "fivo"], count)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cells = "  ".join(
            f"{found[name]:9.3f} {found[f'{name}_standard_error']:5.2f}"
            for name in ("iwae", "fivo")
        )
        print(f"{count:6d}  {cells} {peak:10.0f}", flush=True)


if __name__ == "__main__":
    main()
