"""The library's own forms, as workers: `python -m benchmarks.ours MODE --problem=FILE ...`.

Modes: `problem` writes FILE and ends; `train`, `generate` and `score` time what they say; `peak`
times products. All but the last use what any user of the library can call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks import problem as problems
from benchmarks import workers
from benchmarks.problem import Problem, Sizes
from zforcing_tf import config as configuration

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PRODUCTS = {1024: 5, 2048: 3, 4096: 1}
"""Square matrices, and how often each is multiplied for one answer about the peak."""
Answer = Callable[[str], dict[str, Any]]


class Setting(NamedTuple):
    """Flags of a run that change its speed."""

    enable_xla: Literal["off", "on"] = "off"
    concurrent_parts: int = 1
    recompute: bool = False


PLAIN = Setting()


def experiment(s: Sizes, setting: Setting) -> configuration.ExperimentConfig:
    """Z-Forcing with auxiliary cost and backward emission."""
    both = {"start": problems.AUXILIARY_WEIGHT, "end": problems.AUXILIARY_WEIGHT}
    return configuration.ExperimentConfig(
        model=configuration.ModelConfig(
            recurrent_size=s.H, latent_size=s.Z, embedding_size=s.E, hidden_size=s.M
        ),
        objective=configuration.ObjectiveConfig(
            **{f"auxiliary_weight_{k}": v for k, v in both.items()},
            **{f"backward_weight_{k}": v for k, v in both.items()},
        ),
        run=configuration.RunConfig(batch_size=s.B, **setting._asdict()),
    )


def variables(model: Any) -> dict[str, Any]:
    """The model's variables by the names of `problem.weight_shapes`."""
    cell = model.cell
    core, backward = cell.core, cell.backward_encoder.core
    found = {
        "embedding.table": cell.embedding.table,
        "embedding.bias": cell.embedding.bias,
        "core.code": core.code_kernel,
        "core.code_bias": core.code_bias,
        "core.code_input": core.code_input_kernel,
    }
    for name, one in (("core", core), ("backward", backward)):
        found[f"{name}.input"] = one.input_kernel
        found[f"{name}.recurrent"] = one.recurrent_kernel
        found[f"{name}.bias"] = one.bias
    networks = {
        "posterior": cell.posterior_network,
        "prior": cell.prior_network,
        "auxiliary": model.auxiliary.network,
    }
    for name, network in networks.items():
        for part in ("kernel_1", "bias_1", "kernel_2", "bias_2"):
            found[f"{name}.{part}"] = getattr(network.mlp, part)
    emissions = {"emission": model.emission, "backward_emission": model.backward_emission}
    for name, emission in emissions.items():
        found[f"{name}.kernel"] = emission.output_kernel
        found[f"{name}.bias"] = emission.output_bias
    return found


def build(problem: Problem, setting: Setting = PLAIN) -> Any:
    """The model, with the problem's weights."""
    from zforcing_tf import models
    from zforcing_tf.data.spec import DataSpec

    s = problem.sizes
    config = experiment(s, setting)
    model = models.build(config, DataSpec("benchmark", "real", s.D, s.T, None))
    model.compile(optimizer=models.optimizer(config, model), jit_compile=False)
    assign(model, problem.weights)
    return model


def assign(model: Any, weights: problems.Arrays) -> None:
    """Gives the model weights by name: all of them, each once."""
    own = variables(model)
    assert own.keys() == weights.keys() and len(own) == len(model.trainable_variables)
    for name, variable in own.items():
        variable.assign(weights[name])


def write_problem(s: Sizes, path: str, kind: str) -> None:
    """Writes weights, a batch, and the noise that the library draws for it.

    Args:
        s: sizes.
        path: the file.
        kind: `training`: the noise of the first update; `scoring`: that of `score` with seed 0.
    """
    import tensorflow as tf

    from zforcing_tf import randomness
    from zforcing_tf.training.noise import training_noise

    x = problems.batch(s)
    blank = Problem(problems.weights(s), x, np.zeros((s.T, s.B, s.Z), np.float32))
    if kind == "scoring":
        noise = randomness.row_noise(randomness.row_seeds(0, s.B), s.T, s.Z)
    else:
        model = build(blank)
        rows = randomness.Rows.of(tf.distribute.get_replica_context(), tf.constant(s.B))
        update = model.step_counter.value
        steps = tf.constant(s.T)
        noise = training_noise(model.cell, model.bound, 0.0, model.seed, update, rows, steps).latent
    blank._replace(noise=noise.numpy()).save(path)


def training(problem: Problem, setting: Setting) -> dict[str, Answer]:
    """One update, timed; loss and gradients, to check."""
    import keras
    import tensorflow as tf

    model = build(problem, setting)
    step = tf.function(model.train_step, autograph=False)
    batch = {"x": tf.constant(problem.x), "lengths": tf.fill([problem.sizes.B], problem.sizes.T)}

    def timed(_: str) -> dict[str, Any]:
        start = time.perf_counter()
        loss = float(step(batch)["loss"].numpy())
        return {"ms": 1e3 * (time.perf_counter() - start), "loss": loss}

    def check(path: str) -> dict[str, Any]:
        # What a step of size 1 takes away from the weights is the gradient.
        assign(model, problem.weights)
        model.step_counter.assign(0)
        model.reset_metrics()
        clip_norm, model.clip_norm = model.clip_norm, 1e30
        adam = model.optimizer
        model.compile(optimizer=keras.optimizers.SGD(1.0), jit_compile=False)
        loss = tf.function(model.train_step, autograph=False)(batch)["loss"].numpy()
        after = {name: variable.numpy() for name, variable in variables(model).items()}
        np.savez(path, loss=loss, **{k: problem.weights[k] - v for k, v in after.items()})
        model.clip_norm = clip_norm
        model.compile(optimizer=adam, jit_compile=False)
        assign(model, problem.weights)
        return {}

    return {"time": timed, "check": check}


def generation(problem: Problem, steps: int) -> dict[str, Answer]:
    """Whole sequences, timed with their noise; without randomness, to check."""
    model, count = build(problem), problem.sizes.B
    seeds = iter(range(1, 2**31))

    def timed(_: str) -> dict[str, Any]:
        start = time.perf_counter()
        model.generate(steps, count, seed=next(seeds)).numpy()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        np.savez(path, x=model.generate(steps, count, seed=0, temperature=0.0).numpy())
        return {}

    return {"time": timed, "check": check}


def scoring(problem: Problem) -> dict[str, Answer]:
    """The bound of each sequence."""
    model = build(problem)

    def timed(_: str) -> dict[str, Any]:
        start = time.perf_counter()
        model.score(problem.x, seed=0).elbo.numpy()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        np.savez(path, bound=model.score(problem.x, seed=0).elbo.numpy())
        return {}

    return {"time": timed, "check": check}


def peak(largest: int) -> dict[str, Answer]:
    """TensorFlow's best float32 product now, GFLOP/s."""
    import tensorflow as tf

    product = tf.function(tf.matmul)
    matrices = [tf.random.normal((n, n)) for n in PRODUCTS if n <= largest]

    def timed(_: str) -> dict[str, Any]:
        best = 0.0
        for a in matrices:
            for _ in range(PRODUCTS[a.shape[0]]):
                start = time.perf_counter()
                product(a, a).numpy()
                best = max(best, 2e-9 * a.shape[0] ** 3 / (time.perf_counter() - start))
        return {"gflops": best}

    return {"time": timed}


def main() -> None:
    """Runs a worker until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=("problem", "train", "generate", "score", "peak"))
    parser.add_argument("--problem", default="")
    parser.add_argument("--sizes", default="", help="D,E,H,M,Z,T,B of a problem to write")
    parser.add_argument("--kind", default="training", choices=("training", "scoring"))
    parser.add_argument("--enable_xla", choices=("off", "on"), default="off")
    parser.add_argument("--concurrent_parts", type=int, default=1)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--largest_product", type=int, default=max(PRODUCTS))
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    mode = arguments.mode
    if mode == "problem":
        s = Sizes(*map(int, arguments.sizes.split(",")))
        return write_problem(s, arguments.problem, arguments.kind)
    if mode == "peak":
        return workers.serve({}, peak(arguments.largest_product))
    problem = Problem.load(arguments.problem)
    if mode == "train":
        names = Setting._fields
        answers = training(problem, Setting(**{n: getattr(arguments, n) for n in names}))
    elif mode == "generate":
        answers = generation(problem, arguments.steps)
    else:
        answers = scoring(problem)
    workers.serve(workers.started(answers), answers)


if __name__ == "__main__":
    sys.exit(main())
