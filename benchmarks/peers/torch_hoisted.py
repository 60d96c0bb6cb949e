"""The restructured model in PyTorch: large products around the loop, few in it.

What needs no latent is computed before the loop, what needs no recurrence after it; h meets one
matrix `[W_q1_h | W_hh]`, and the linear maps of frames and latents are merged into the gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.peers.torch_parts import (
    Weights,
    bound_terms,
    inputs_of,
    library_lstm,
    loss_of,
    lrelu3,
    lstm,
    project,
)


class LoopWeights(NamedTuple):
    """What the loop multiplies with, batch-major [in, out]."""

    state: Tensor
    """h meets [posterior's first layer, gates], [H, M + 4H]."""
    head: Tensor
    """Second layer of the posterior, [M, 2Z]."""
    head_bias: Tensor
    latent: Tensor
    """z meets the gates, [Z, 4H]."""


class LoopInputs(NamedTuple):
    """What a step reads, [T, B, .]."""

    drive: Tensor
    """Share of the data in the gates, [T, B, 4H]."""
    share: Tensor
    """Share of b in the posterior's first layer, [T, B, M]."""
    noise: Tensor


class Left(NamedTuple):
    """What the loop leaves, [T, B, .]."""

    h: Tensor
    posterior: Tensor
    z: Tensor


Loop = Callable[[LoopInputs, LoopWeights], Left]
Encoder = Callable[[Weights, Tensor], Tensor]


def step(
    h: Tensor,
    c: Tensor,
    drive: Tensor,
    share: Tensor,
    noise: Tensor,
    w: LoopWeights,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, c, the posterior's parameters and z of one step."""
    hidden, recurrent = (h @ w.state).split([share.shape[-1], drive.shape[-1]], -1)
    posterior = torch.addmm(w.head_bias, lrelu3(hidden + share), w.head).clamp(-8.0, 8.0)
    mean, log_variance = posterior.chunk(2, -1)
    z = torch.addcmul(mean, torch.exp(0.5 * log_variance), noise)
    h, c = lstm(torch.addmm(recurrent + drive, z, w.latent), c)
    return h, c, posterior, z


def plain_loop(inputs: LoopInputs, w: LoopWeights, step: Callable[..., tuple] = step) -> Left:
    """The loop in Python; PyTorch makes its gradient."""
    h = c = inputs.drive.new_zeros(inputs.drive.shape[1], w.state.shape[0])
    left = []
    for drive, share, noise in zip(*(v.unbind(0) for v in inputs), strict=True):
        h, c, posterior, z = step(h, c, drive, share, noise, w)
        left.append((h, posterior, z))
    return Left(*(torch.stack(v) for v in zip(*left, strict=True)))


def library_encoder(w: Weights, y: Tensor) -> Tensor:
    """Backward states [T, B, H] by the library's LSTM, the embedding merged into its input."""
    table, bias = w["embedding.table"], w["backward.bias"]
    recurrent = w["backward.recurrent"].t()
    if table.shape[0] > table.shape[1]:
        embedded = torch.matmul(y, table) + w["embedding.bias"]
        return library_lstm(embedded, w["backward.input"].t(), recurrent, bias)
    kernel = table @ w["backward.input"]
    bias = bias + w["embedding.bias"] @ w["backward.input"]
    return library_lstm(y, kernel.t(), recurrent, bias)


def loop_weights(w: Weights) -> LoopWeights:
    """Merged, once for all steps."""
    size = w["core.recurrent"].shape[0]
    state = torch.cat([w["posterior.kernel_1"][:size], w["core.recurrent"]], 1)
    latent = w["core.code"] @ w["core.code_input"]
    return LoopWeights(state, w["posterior.kernel_2"], w["posterior.bias_2"], latent)


def infer(
    w: Weights, y: Tensor, inputs: Tensor, noise: Tensor, loop: Loop, encoder: Encoder
) -> tuple[Tensor, Left]:
    """Backward states, and what the loop leaves."""
    b = encoder(w, y)
    size = w["core.recurrent"].shape[0]
    share = torch.matmul(b, w["posterior.kernel_1"][size:]) + w["posterior.bias_1"]
    bias = w["core.bias"] + w["core.code_bias"] @ w["core.code_input"]
    drive = project(w, inputs, w["core.input"], bias)
    return b, loop(LoopInputs(drive, share, noise), loop_weights(w))


def loss(
    w: Weights,
    y: Tensor,
    noise: Tensor,
    loop: Loop = plain_loop,
    encoder: Encoder = library_encoder,
) -> Tensor:
    """The loss of y [T, B, D] with noise [T, B, Z]."""
    inputs = inputs_of(y)
    b, left = infer(w, y, inputs, noise, loop, encoder)
    return loss_of(w, y, inputs, b, *left)


def score(w: Weights, y: Tensor, noise: Tensor, loop: Loop, encoder: Encoder) -> Tensor:
    """The bound of each sequence, [B] nats."""
    _, left = infer(w, y, inputs_of(y), noise, loop, encoder)
    log_prob, kl = bound_terms(w, y, left.h, left.posterior)
    return (log_prob - kl).sum(0)


class GenerationWeights(NamedTuple):
    """What generation multiplies with, made once."""

    state: Tensor
    """h meets [emission, prior's first layer, gates], [H, 2D + M + 4H]."""
    state_bias: Tensor
    head: Tensor
    head_bias: Tensor
    drawn: Tensor
    """[z, x] meets the gates, [Z + D, 4H]."""


def generation_weights(w: Weights) -> GenerationWeights:
    """Merged: all that meets the same vector."""
    names = ("emission.kernel", "prior.kernel_1", "core.recurrent")
    bias = w["core.bias"] + w["core.code_bias"] @ w["core.code_input"]
    bias = bias + w["embedding.bias"] @ w["core.input"]
    drawn = [w["core.code"] @ w["core.code_input"], w["embedding.table"] @ w["core.input"]]
    return GenerationWeights(
        torch.cat([w[name] for name in names], 1),
        torch.cat([w["emission.bias"], w["prior.bias_1"], bias]),
        w["prior.kernel_2"],
        w["prior.bias_2"],
        torch.cat(drawn),
    )


def generation_step(
    seen: Tensor, c: Tensor, x: Tensor, noise: Tensor, w: GenerationWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """From what h gave (`state`), c and x of the last step to those of the next."""
    hidden_size, gates_size = w.head.shape[0], w.drawn.shape[1]
    latent_size = w.head.shape[1] // 2
    _, hidden, recurrent = seen.split(
        [seen.shape[1] - hidden_size - gates_size, hidden_size, gates_size], 1
    )
    latent_noise, frame_noise = noise.split([latent_size, x.shape[1]], 1)
    head = torch.addmm(w.head_bias, lrelu3(hidden), w.head).clamp(-8.0, 8.0)
    mean, log_variance = head.chunk(2, 1)
    z = torch.addcmul(mean, torch.exp(0.5 * log_variance), latent_noise)
    h, c = lstm(torch.addmm(recurrent, torch.cat([z, x], 1), w.drawn), c)
    seen = torch.addmm(w.state_bias, h, w.state)
    mean, log_variance = seen[:, : 2 * x.shape[1]].chunk(2, 1)
    return seen, c, torch.addcmul(mean, torch.exp(0.5 * log_variance), frame_noise)


def generate(
    w: GenerationWeights, noise: Tensor, step: Callable[..., tuple] = generation_step
) -> Tensor:
    """Frames [T, B, D] from noise [T, B, Z + D]; noise of zeros gives the modes."""
    rows, units = noise.shape[1], w.state.shape[0]
    c = noise.new_zeros(rows, units)
    x = noise.new_zeros(rows, noise.shape[2] - w.head.shape[1] // 2)
    seen = w.state_bias.expand(rows, -1).contiguous()  # h is zero
    frames = []
    for noise_t in noise.unbind(0):
        seen, c, x = step(seen, c, x, noise_t, w)
        frames.append(x)
    return torch.stack(frames)
