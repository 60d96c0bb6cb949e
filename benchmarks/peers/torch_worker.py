"""PyTorch's forms, as workers: `python -m benchmarks.peers.torch_worker MODE --form=...`."""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import problem as problems
from benchmarks import workers
from benchmarks.peers import torch_gradient, torch_hoisted, torch_released
from benchmarks.problem import Problem

Answer = Callable[[str], dict[str, Any]]
Loss = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


def _by_hand(feature_major: bool) -> tuple[torch_hoisted.Loop, torch_hoisted.Encoder]:
    layout = torch_gradient.Layout(feature_major)
    return (
        functools.partial(torch_gradient.loop, layout),
        functools.partial(torch_gradient.encoder, layout),
    )


def _library_by_hand() -> tuple[torch_hoisted.Loop, torch_hoisted.Encoder]:
    return _by_hand(True)[0], torch_hoisted.library_encoder


def _compiled_step() -> tuple[torch_hoisted.Loop, torch_hoisted.Encoder]:
    step = torch.compile(torch_hoisted.step, fullgraph=True, dynamic=False)
    loop = functools.partial(torch_hoisted.plain_loop, step=step)
    return loop, torch_hoisted.library_encoder


LOOPS: dict[str, Callable[[], tuple[torch_hoisted.Loop, torch_hoisted.Encoder]]] = {
    "hoisted": lambda: (torch_hoisted.plain_loop, torch_hoisted.library_encoder),
    "compiled_step": _compiled_step,
    "by_hand": functools.partial(_by_hand, False),
    "by_hand_feature_major": functools.partial(_by_hand, True),
    "by_hand_library_encoder": _library_by_hand,
}


def loss_function(form: str) -> Loss:
    """The loss of a form."""
    if form == "released":
        return torch_released.loss
    if form == "compiled":
        return torch.compile(torch_hoisted.loss, fullgraph=True, dynamic=False)
    loop, encoder = LOOPS[form]()
    return functools.partial(torch_hoisted.loss, loop=loop, encoder=encoder)


def parameters(problem: Problem, form: str) -> dict[str, Tensor]:
    """Weights as the form keeps them: the released structure's matrices lie as [out, in]."""
    turned = form == "released"
    return {
        name: torch.tensor(np.ascontiguousarray(v.T) if turned else v)
        for name, v in problem.weights.items()
    }


def time_major(x: Any) -> Tensor:
    """[T, B, .] from [B, T, .]."""
    return torch.tensor(x).transpose(0, 1).contiguous()


def training(problem: Problem, form: str) -> dict[str, Answer]:
    """One update, timed; loss and gradients, to check."""
    w = parameters(problem, form)
    leaves = [v.requires_grad_() for v in w.values()]
    y, noise = time_major(problem.x), torch.tensor(problem.noise)
    loss_of = loss_function(form)
    adam = torch.optim.Adam(
        leaves,
        lr=problems.LEARNING_RATE,
        betas=(problems.BETA_1, problems.BETA_2),
        eps=problems.EPSILON,
        fused=True,
    )

    def timed(_: str) -> dict[str, Any]:
        start = time.perf_counter()
        drawn = torch.randn(noise.shape)
        loss = loss_of(w, y, drawn)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, problems.CLIP_NORM)
        adam.step()
        value = loss.item()
        return {"ms": 1e3 * (time.perf_counter() - start), "loss": value}

    def check(path: str) -> dict[str, Any]:
        with torch.no_grad():
            for leaf, v in zip(leaves, parameters(problem, form).values(), strict=True):
                leaf.copy_(v)
        adam.zero_grad()
        loss = loss_of(w, y, noise)
        loss.backward()
        found = {k: v.grad.t() if form == "released" else v.grad for k, v in w.items()}
        np.savez(path, loss=loss.item(), **{k: v.numpy() for k, v in found.items()})
        return {}

    return {"time": timed, "check": check}


def generation(problem: Problem, form: str, steps: int) -> dict[str, Answer]:
    """Whole sequences, timed with their noise; without randomness, to check."""
    s, w = problem.sizes, parameters(problem, form)
    shape = (steps, s.B, s.Z + s.D)
    if form == "released":
        generate = functools.partial(torch_released.generate, w)
    else:
        step: Callable[..., Any] = torch_hoisted.generation_step
        if form == "compiled_step":
            step = torch.compile(step, fullgraph=True, dynamic=False)
        merged = torch_hoisted.generation_weights(w)
        generate = functools.partial(torch_hoisted.generate, merged, step=step)

    def timed(_: str) -> dict[str, Any]:
        with torch.inference_mode():
            start = time.perf_counter()
            generate(torch.randn(shape)).transpose(0, 1).contiguous()
            return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        with torch.inference_mode():
            np.savez(path, x=generate(torch.zeros(shape)).transpose(0, 1).numpy())
        return {}

    return {"time": timed, "check": check}


def scoring(problem: Problem, form: str) -> dict[str, Answer]:
    """The bound of each sequence."""
    w, noise = parameters(problem, form), torch.tensor(problem.noise)
    loop, encoder = LOOPS[form]()

    def timed(_: str) -> dict[str, Any]:
        with torch.inference_mode():
            start = time.perf_counter()
            torch_hoisted.score(w, time_major(problem.x), torch.randn(noise.shape), loop, encoder)
            return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(path: str) -> dict[str, Any]:
        with torch.inference_mode():
            bound = torch_hoisted.score(w, time_major(problem.x), noise, loop, encoder)
        np.savez(path, bound=bound.numpy())
        return {}

    return {"time": timed, "check": check}


def main() -> None:
    """Runs a worker until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=("train", "generate", "score"))
    parser.add_argument("--form", required=True)
    parser.add_argument("--problem", required=True)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
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
