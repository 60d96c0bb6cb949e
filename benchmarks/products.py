"""Why the loop is feature-major: one product a step, in two layouts, in a loop of its own.

  python benchmarks/products.py

prints GFLOP/s of `x [B, K] kernel` and of `kernel^T x^T [K, B]`, best of five interleaved runs,
for the sizes of `run.py`. Takes half a minute.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

SIZES = {"small": (16, 256, 1152, 100), "timit": (32, 1024, 4608, 40)}


def looped(product: Callable[[Any, Any], Any], state_of: Callable[[Any], Any], steps: int) -> Any:
    """A loop in which each product waits for the one before."""

    def run(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        def body(i: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, tf.tanh(state_of(product(state, kernel)))

        return tf.while_loop(lambda i, _: i < steps, body, (0, x), maximum_iterations=steps)[1]

    return run


def main() -> None:
    """Prints the table."""
    print("config  form                     XLA  GFLOP/s")
    for config, (batch, inputs, outputs, steps) in SIZES.items():
        x, kernel = tf.random.normal((batch, inputs)), tf.random.normal((inputs, outputs)) * 0.01
        forms = {
            "batch-major, x kernel": (
                looped(lambda x, w: x @ w, lambda y, k=inputs: y[:, :k], steps),
                (x, kernel),
            ),
            "feature-major, kernel^T x": (
                looped(lambda x, w: w @ x, lambda y, k=inputs: y[:k], steps),
                (tf.transpose(x), tf.transpose(kernel)),
            ),
        }
        runs = {
            (name, xla): (tf.function(run, jit_compile=xla), arguments)
            for name, (run, arguments) in forms.items()
            for xla in (False, True)
        }
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(6):  # the first one compiles
            for form, (run, arguments) in runs.items():
                start = time.perf_counter()
                run(*arguments).numpy()
                best[form] = min(best[form], time.perf_counter() - start)
        for (name, xla), seconds in best.items():
            gflops = 2e-9 * batch * inputs * outputs * steps / seconds
            print(f"{config:7} {name:25} {'on' if xla else 'off':3} {gflops:8.1f}")


if __name__ == "__main__":
    main()
