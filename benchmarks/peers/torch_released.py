"""The structure of the code that was released in 2017, on the PyTorch of today.

The whole sequence is embedded at once and read by the library's LSTM from its end. Then a loop over
time calls one small network after the other: prior, posterior, auxiliary, code of the latent, and
an LSTM cell of two products. Emissions follow after the loop. What the original multiplies with
zeros (the auxiliary network's view of the state) is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers.torch_parts import (
    Weights,
    divergence,
    inputs_of,
    library_lstm,
    log_density,
    lrelu3,
    lstm,
)
from benchmarks.problem import AUXILIARY_WEIGHT, BACKWARD_WEIGHT


def _linear(w: Weights, x: Tensor, kernel: str, bias: str) -> Tensor:
    return F.linear(x, w[kernel], w[bias])


def _network(w: Weights, name: str, x: Tensor) -> Tensor:
    hidden = lrelu3(_linear(w, x, f"{name}.kernel_1", f"{name}.bias_1"))
    return _linear(w, hidden, f"{name}.kernel_2", f"{name}.bias_2").clamp(-8.0, 8.0)


def _with_cell(w: Weights) -> Weights:
    """With the cell's one matrix for [code(z), e(x)], made once for all steps."""
    return {**w, "cell": torch.cat([w["core.code_input"], w["core.input"]], 1)}


def _move(w: Weights, h: Tensor, c: Tensor, z: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
    """h and c after a step, from code(z) and e(x)."""
    code = _linear(w, z, "core.code", "core.code_bias")
    gates = F.linear(torch.cat([code, embedded], 1), w["cell"], w["core.bias"])
    return lstm(gates + F.linear(h, w["core.recurrent"]), c)


def loss(w: Weights, y: Tensor, noise: Tensor) -> Tensor:
    """The loss of y [T, B, D] with noise [T, B, Z]; matrices lie as [out, in]."""
    w, inputs = _with_cell(w), inputs_of(y)
    embedded, embedded_targets = (
        _linear(w, v, "embedding.table", "embedding.bias") for v in (inputs, y)
    )
    b = library_lstm(
        embedded_targets, w["backward.input"], w["backward.recurrent"], w["backward.bias"]
    )
    backward = _linear(w, b, "backward_emission.kernel", "backward_emission.bias")
    h = c = y.new_zeros(y.shape[1], w["core.recurrent"].shape[1])
    states, terms = [], []
    for t in range(y.shape[0]):
        prior = _network(w, "prior", h)
        posterior = _network(w, "posterior", torch.cat([h, b[t]], 1))
        mean, log_variance = posterior.chunk(2, 1)
        z = mean + torch.exp(0.5 * log_variance) * noise[t]
        mean, log_variance = _network(w, "auxiliary", z).chunk(2, 1)
        auxiliary = log_density(torch.cat([torch.tanh(mean), log_variance], 1), b[t].detach())
        terms.append(AUXILIARY_WEIGHT * auxiliary - divergence(posterior, prior))
        h, c = _move(w, h, c, z, embedded[t])
        states.append(h)
    emission = _linear(w, torch.stack(states), "emission.kernel", "emission.bias")
    total = log_density(emission, y).sum() + torch.stack(terms).sum()
    total = total + BACKWARD_WEIGHT * log_density(backward[1:], inputs[1:]).sum()
    return -total / y.shape[1]


def generate(w: Weights, noise: Tensor) -> Tensor:
    """Frames [T, B, D] from noise [T, B, Z + D]; noise of zeros gives the modes."""
    w = _with_cell(w)
    latent_size, frame_size = w["core.code"].shape[1], w["embedding.table"].shape[1]
    rows = noise.shape[1]
    x = noise.new_zeros(rows, frame_size)
    h = c = noise.new_zeros(rows, w["core.recurrent"].shape[1])
    frames = []
    for t in range(noise.shape[0]):
        latent_noise, frame_noise = noise[t].split([latent_size, frame_size], 1)
        mean, log_variance = _network(w, "prior", h).chunk(2, 1)
        z = mean + torch.exp(0.5 * log_variance) * latent_noise
        embedded = _linear(w, x, "embedding.table", "embedding.bias")
        h, c = _move(w, h, c, z, embedded)
        mean, log_variance = _linear(w, h, "emission.kernel", "emission.bias").chunk(2, 1)
        x = mean + torch.exp(0.5 * log_variance) * frame_noise
        frames.append(x)
    return torch.stack(frames)
