"""JAX's forms, as workers: `python -m benchmarks.peers.jax_worker MODE --form=...`."""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem as problems
from benchmarks import workers
from benchmarks.peers import jax_gradient, jax_model
from benchmarks.peers.jax_model import Layout, Loops
from benchmarks.problem import Problem

Answer = Callable[[str], dict[str, Any]]

LOOPS = {
    "scan": Loops(Layout(False)),
    "scan_feature_major": Loops(Layout(True)),
    "by_hand": Loops(Layout(False), jax_gradient.infer, jax_gradient.lstm),
    "by_hand_feature_major": Loops(Layout(True), jax_gradient.infer, jax_gradient.lstm),
}


def parameters(problem: Problem) -> dict[str, jax.Array]:
    """Weights by name."""
    return {name: jnp.array(v) for name, v in problem.weights.items()}


def time_major(x: Any) -> jax.Array:
    """[T, B, .] from [B, T, .]."""
    return jnp.array(np.ascontiguousarray(x.swapaxes(0, 1)))


def update(loops: Loops, noise_shape: tuple[int, ...], carry: Any, y: jax.Array, key: Any) -> Any:
    """One update with clipping and Adam, of (weights, both moments, number of the update)."""
    w, first, second, count = carry
    noise = jax.random.normal(key, noise_shape)
    loss, gradients = jax.value_and_grad(functools.partial(jax_model.loss, loops))(w, y, noise)
    squares = sum(jnp.sum(jnp.square(g)) for g in gradients.values())
    scale = jnp.minimum(1.0, problems.CLIP_NORM / jnp.sqrt(squares))
    gradients = {k: g * scale for k, g in gradients.items()}
    count = count + 1
    b1, b2 = problems.BETA_1, problems.BETA_2
    first = {k: b1 * first[k] + (1 - b1) * g for k, g in gradients.items()}
    second = {k: b2 * second[k] + (1 - b2) * jnp.square(g) for k, g in gradients.items()}
    rate = problems.LEARNING_RATE * jnp.sqrt(1 - b2**count) / (1 - b1**count)
    w = {k: v - rate * first[k] / (jnp.sqrt(second[k]) + problems.EPSILON) for k, v in w.items()}
    return (w, first, second, count), loss


def training(problem: Problem, form: str) -> dict[str, Answer]:
    """One update, timed; loss and gradients, to check."""
    loops = LOOPS[form]
    y, shape = time_major(problem.x), problem.noise.shape
    step = jax.jit(functools.partial(update, loops, shape), donate_argnums=(0,))
    w = parameters(problem)
    # Each a buffer of its own: what is donated must not be donated twice.
    first, second = ({k: jnp.zeros_like(v) for k, v in w.items()} for _ in range(2))
    carry: Any = (w, first, second, jnp.zeros(()))
    keys = (jax.random.key(i, impl="rbg") for i in itertools.count())

    def timed(_: str) -> dict[str, Any]:
        nonlocal carry
        key = next(keys)
        start = time.perf_counter()
        carry, loss = step(carry, y, key)
        jax.block_until_ready(carry)
        value = float(loss)
        return {"ms": 1e3 * (time.perf_counter() - start), "loss": value}

    def check(path: str) -> dict[str, Any]:
        function = jax.jit(jax.value_and_grad(functools.partial(jax_model.loss, loops)))
        loss, gradients = function(parameters(problem), y, jnp.array(problem.noise))
        np.savez(path, loss=loss, **{k: np.asarray(v) for k, v in gradients.items()})
        return {}

    return {"time": timed, "check": check}


def generation(problem: Problem, form: str, steps: int) -> dict[str, Answer]:
    """Whole sequences, timed with their noise; without randomness, to check."""
    s, w = problem.sizes, parameters(problem)
    layout, shape = LOOPS[form].layout, (steps, s.B, s.Z + s.D)

    def sequences(w: Any, noise: jax.Array) -> jax.Array:
        return jax_model.generate(layout, w, noise).swapaxes(0, 1)

    draw = jax.jit(lambda w, key: sequences(w, jax.random.normal(key, shape)))
    keys = (jax.random.key(i, impl="rbg") for i in itertools.count())

    def timed(_: str) -> dict[str, Any]:
        key = next(keys)
        start = time.perf_counter()
        draw(w, key).block_until_ready()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        np.savez(path, x=np.asarray(jax.jit(sequences)(w, jnp.zeros(shape))))
        return {}

    return {"time": timed, "check": check}


def scoring(problem: Problem, form: str) -> dict[str, Answer]:
    """The bound of each sequence."""
    w, noise = parameters(problem), jnp.array(problem.noise)
    score = functools.partial(jax_model.score, LOOPS[form])
    compiled = jax.jit(lambda w, y, key: score(w, y, jax.random.normal(key, noise.shape)))
    keys = (jax.random.key(i, impl="rbg") for i in itertools.count())

    def timed(_: str) -> dict[str, Any]:
        key = next(keys)
        start = time.perf_counter()
        compiled(w, time_major(problem.x), key).block_until_ready()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        np.savez(path, bound=np.asarray(jax.jit(score)(w, time_major(problem.x), noise)))
        return {}

    return {"time": timed, "check": check}


def main() -> None:
    """Runs a worker until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=("train", "generate", "score"))
    parser.add_argument("--form", required=True, choices=tuple(LOOPS))
    parser.add_argument("--problem", required=True)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    problem, form = Problem.load(arguments.problem), arguments.form
    if arguments.mode == "train":
        answers = training(problem, form)
    elif arguments.mode == "generate":
        answers = generation(problem, form, arguments.steps)
    else:
        answers = scoring(problem, form)
    workers.serve(workers.started(answers), answers)


if __name__ == "__main__":
    main()
