"""What the PyTorch forms share: everything outside of the time loop."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.problem import AUXILIARY_WEIGHT, BACKWARD_WEIGHT

LOG_2_PI = math.log(2 * math.pi)

Weights = Mapping[str, Tensor]
"""By the names of `benchmarks.problem.weight_shapes`, matrices as [in, out]."""


def lrelu3(x: Tensor) -> Tensor:
    """Leaky rectifier with slope 1/3, limited to [-3, 3]."""
    return F.hardtanh(F.leaky_relu(x, 1 / 3), -3.0, 3.0)


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    """A small network, mean and log variance limited to [-8, 8]."""
    hidden = lrelu3(torch.matmul(x, w[f"{name}.kernel_1"]) + w[f"{name}.bias_1"])
    return (torch.matmul(hidden, w[f"{name}.kernel_2"]) + w[f"{name}.bias_2"]).clamp(-8.0, 8.0)


def log_density(parameters: Tensor, x: Tensor) -> Tensor:
    """log N(x; mean, exp(log variance)), summed over the last axis."""
    mean, log_variance = parameters.chunk(2, -1)
    terms = (x - mean).square() * torch.exp(-log_variance) + log_variance
    return -0.5 * (terms.sum(-1) + LOG_2_PI * x.shape[-1])


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of Gaussians given as [mean, log variance]."""
    mean_q, log_q = q.chunk(2, -1)
    mean_p, log_p = p.chunk(2, -1)
    ratio = (torch.exp(log_q) + (mean_q - mean_p).square()) * torch.exp(-log_p)
    return 0.5 * (log_p - log_q + ratio - 1.0).sum(-1)


def inputs_of(y: Tensor) -> Tensor:
    """What each step reads: the frame before, and zeros before the first; time-major."""
    return torch.cat([torch.zeros_like(y[:1]), y[:-1]])


def project(w: Weights, y: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """`e(y) kernel + bias`, by the cheaper order of products."""
    table, shift = w["embedding.table"], w["embedding.bias"]
    if table.shape[0] <= table.shape[1]:
        kernel, bias = table @ kernel, bias + shift @ kernel
    else:
        y = torch.matmul(y, table) + shift
    steps, rows, width = y.shape
    return torch.addmm(bias, y.reshape(-1, width), kernel).view(steps, rows, -1)


def bound_terms(w: Weights, y: Tensor, h: Tensor, posterior: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y) and KL, [T, B] each, from h after each step [T, B, H] and the posterior's values."""
    past = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    emission = torch.matmul(h, w["emission.kernel"]) + w["emission.bias"]
    return log_density(emission, y), divergence(posterior, mlp(w, "prior", past))


def loss_of(
    w: Weights, y: Tensor, inputs: Tensor, b: Tensor, h: Tensor, posterior: Tensor, z: Tensor
) -> Tensor:
    """The loss from what the loops left, [T, B, .] each."""
    log_prob, kl = bound_terms(w, y, h, posterior)
    mean, log_variance = mlp(w, "auxiliary", z).chunk(2, -1)
    auxiliary = log_density(torch.cat([torch.tanh(mean), log_variance], -1), b.detach())
    backward = torch.matmul(b[1:], w["backward_emission.kernel"]) + w["backward_emission.bias"]
    total = (log_prob - kl + AUXILIARY_WEIGHT * auxiliary).sum()
    total = total + BACKWARD_WEIGHT * log_density(backward, inputs[1:]).sum()
    return -total / y.shape[1]


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Point-wise part of the cell, gates i, f, g, o along the last axis."""
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def library_lstm(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """States of `torch.nn.LSTM` over x from the last step to the first, [T, B, H].

    Args:
        x: [T, B, .].
        kernel: [4H, .], as that class keeps it.
        recurrent: [4H, H].
        bias: [4H].
    """
    zeros = x.new_zeros(1, x.shape[1], recurrent.shape[1])
    weights = [kernel, recurrent, bias, torch.zeros_like(bias)]
    train = torch.is_grad_enabled()
    states, _, _ = torch.lstm(x.flip(0), (zeros, zeros), weights, True, 1, 0.0, train, False, False)
    return states.flip(0)
