"""The restructured model in JAX: large products around `lax.scan`, few in it.

Tensors in the loops are batch-major [B, N], or feature-major [N, B] with transposed matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.problem import AUXILIARY_WEIGHT, BACKWARD_WEIGHT

LOG_2_PI = math.log(2 * math.pi)

Weights = Mapping[str, Array]
"""By the names of `benchmarks.problem.weight_shapes`."""


class LoopWeights(NamedTuple):
    """What the loop multiplies with, [in, out]: h, the posterior's second layer, z."""

    state: Array
    head: Array
    head_bias: Array
    latent: Array


class Layout(NamedTuple):
    """How tensors lie in the loop."""

    feature_major: bool

    @property
    def axis(self) -> int:
        """Of features."""
        return 0 if self.feature_major else 1

    def flipped(self, x: Array) -> Array:
        """[T, B, N] as it lies in the loop, or back."""
        return jnp.swapaxes(x, 1, 2) if self.feature_major else x

    def matrix(self, w: Array) -> Array:
        """A matrix [in, out] as `product` takes it."""
        return w.T if self.feature_major else w

    def product(self, x: Array, matrix: Array) -> Array:
        """`x w`."""
        return matrix @ x if self.feature_major else x @ matrix

    def back(self, d: Array, w: Array) -> Array:
        """`d w^T` for w [in, out]."""
        return w @ d if self.feature_major else d @ w.T

    def bias(self, b: Array) -> Array:
        """A bias, to be added to what `product` gives."""
        return b[:, None] if self.feature_major else b

    def split(self, x: Array, *sizes: int) -> list[Array]:
        """Along features."""
        starts = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return jnp.split(x, starts, axis=self.axis)

    def zeros(self, like: Array, units: int) -> Array:
        """A state [B, units] for a loop over `like`."""
        rows = like.shape[2 - self.axis]
        return jnp.zeros((units, rows) if self.feature_major else (rows, units), like.dtype)


def lrelu3(x: Array) -> Array:
    """Leaky rectifier with slope 1/3, limited to [-3, 3]."""
    return jnp.clip(jnp.maximum(x, x / 3.0), -3.0, 3.0)


def mlp(w: Weights, name: str, x: Array) -> Array:
    """A small network, mean and log variance limited to [-8, 8]."""
    hidden = lrelu3(x @ w[f"{name}.kernel_1"] + w[f"{name}.bias_1"])
    return jnp.clip(hidden @ w[f"{name}.kernel_2"] + w[f"{name}.bias_2"], -8.0, 8.0)


def log_density(mean: Array, log_variance: Array, x: Array) -> Array:
    """log N(x; mean, exp(log variance)), summed over the last axis."""
    terms = jnp.square(x - mean) * jnp.exp(-log_variance) + log_variance
    return -0.5 * (terms.sum(-1) + LOG_2_PI * x.shape[-1])


def divergence(q: Array, p: Array) -> Array:
    """KL(q || p) of Gaussians given as [mean, log variance]."""
    mean_q, log_q = jnp.split(q, 2, -1)
    mean_p, log_p = jnp.split(p, 2, -1)
    ratio = (jnp.exp(log_q) + jnp.square(mean_q - mean_p)) * jnp.exp(-log_p)
    return 0.5 * (log_p - log_q + ratio - 1.0).sum(-1)


def project(w: Weights, y: Array, kernel: Array, bias: Array) -> Array:
    """`e(y) kernel + bias`, by the cheaper order of products."""
    table, shift = w["embedding.table"], w["embedding.bias"]
    if table.shape[0] <= table.shape[1]:
        return y @ (table @ kernel) + (bias + shift @ kernel)
    return (y @ table + shift) @ kernel + bias


def lstm(layout: Layout, gates: Array, c: Array) -> tuple[Array, Array]:
    """Point-wise part of the cell, gates i, f, g, o."""
    i, f, g, o = jnp.split(gates, 4, layout.axis)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def infer_loop(
    layout: Layout, drive: Array, share: Array, noise: Array, *w: Array
) -> tuple[Array, Array, Array]:
    """h, the posterior's parameters and z of all steps; sequences as they lie in the loop."""
    state, head, head_bias, latent = w
    matrices = [layout.matrix(v) for v in (state, head, latent)]
    bias = layout.bias(head_bias)

    def step(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
        h, c = carry
        drive, share, noise = now
        hidden, recurrent = layout.split(layout.product(h, matrices[0]), head.shape[0])
        posterior = layout.product(lrelu3(hidden + share), matrices[1]) + bias
        posterior = jnp.clip(posterior, -8.0, 8.0)
        mean, log_variance = jnp.split(posterior, 2, layout.axis)
        z = mean + jnp.exp(0.5 * log_variance) * noise
        gates = recurrent + drive + layout.product(z, matrices[2])
        h, c = lstm(layout, gates, c)
        return (h, c), (h, posterior, z)

    first = (layout.zeros(drive, state.shape[0]),) * 2
    return lax.scan(step, first, (drive, share, noise))[1]


def lstm_loop(layout: Layout, drive: Array, recurrent: Array) -> Array:
    """States of the backward network, from the last step to the first."""
    matrix = layout.matrix(recurrent)

    def step(carry: tuple[Array, Array], drive: Array) -> tuple[Any, Array]:
        h, c = lstm(layout, drive + layout.product(carry[0], matrix), carry[1])
        return (h, c), h

    first = (layout.zeros(drive, recurrent.shape[0]),) * 2
    return lax.scan(step, first, drive, reverse=True)[1]


class Loops(NamedTuple):
    """A layout, and the loops in it."""

    layout: Layout
    infer: Callable[..., tuple[Array, Array, Array]] = infer_loop
    lstm: Callable[..., Array] = lstm_loop


def terms(
    loops: Loops, w: Weights, y: Array, inputs: Array, noise: Array
) -> tuple[Array, Array, Array, Array]:
    """log p(y) and KL [T, B], backward states and latents [T, B, .]."""
    layout = loops.layout
    drive = project(w, y, w["backward.input"], w["backward.bias"])
    b = layout.flipped(loops.lstm(layout, layout.flipped(drive), w["backward.recurrent"]))
    size = w["core.recurrent"].shape[0]
    share = b @ w["posterior.kernel_1"][size:] + w["posterior.bias_1"]
    bias = w["core.bias"] + w["core.code_bias"] @ w["core.code_input"]
    drive = project(w, inputs, w["core.input"], bias)
    merged = LoopWeights(
        jnp.concatenate([w["posterior.kernel_1"][:size], w["core.recurrent"]], 1),
        w["posterior.kernel_2"],
        w["posterior.bias_2"],
        w["core.code"] @ w["core.code_input"],
    )
    left = loops.infer(layout, *map(layout.flipped, (drive, share, noise)), *merged)
    h, posterior, z = map(layout.flipped, left)
    past = jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])
    emission = jnp.split(h @ w["emission.kernel"] + w["emission.bias"], 2, -1)
    return log_density(*emission, y), divergence(posterior, mlp(w, "prior", past)), b, z


def loss(loops: Loops, w: Weights, y: Array, noise: Array) -> Array:
    """The loss of y [T, B, D] with noise [T, B, Z]."""
    inputs = jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]])
    log_prob, kl, b, z = terms(loops, w, y, inputs, noise)
    mean, log_variance = jnp.split(mlp(w, "auxiliary", z), 2, -1)
    auxiliary = log_density(jnp.tanh(mean), log_variance, lax.stop_gradient(b))
    backward = b[1:] @ w["backward_emission.kernel"] + w["backward_emission.bias"]
    total = (log_prob - kl + AUXILIARY_WEIGHT * auxiliary).sum()
    backward = log_density(*jnp.split(backward, 2, -1), inputs[1:]).sum()
    return -(total + BACKWARD_WEIGHT * backward) / y.shape[1]


def score(loops: Loops, w: Weights, y: Array, noise: Array) -> Array:
    """The bound of each sequence, [B] nats."""
    inputs = jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]])
    log_prob, kl, _, _ = terms(loops, w, y, inputs, noise)
    return (log_prob - kl).sum(0)


def generate(layout: Layout, w: Weights, noise: Array) -> Array:
    """Frames [T, B, D] from noise [T, B, Z + D], in one loop; noise of zeros gives the modes."""
    hidden, latent = w["prior.kernel_2"].shape[0], w["core.code"].shape[0]
    names = ("emission.kernel", "prior.kernel_1", "core.recurrent")
    bias = w["core.bias"] + w["core.code_bias"] @ w["core.code_input"]
    bias = bias + w["embedding.bias"] @ w["core.input"]
    state_bias = layout.bias(jnp.concatenate([w["emission.bias"], w["prior.bias_1"], bias]))
    state = layout.matrix(jnp.concatenate([w[name] for name in names], 1))
    drawn = [w["core.code"] @ w["core.code_input"], w["embedding.table"] @ w["core.input"]]
    drawn = layout.matrix(jnp.concatenate(drawn))
    head, head_bias = layout.matrix(w["prior.kernel_2"]), layout.bias(w["prior.bias_2"])
    emitted = w["emission.bias"].shape[0]

    def step(carry: tuple[Array, Array, Array], noise: Array) -> tuple[Any, Array]:
        seen, c, x = carry
        latent_noise, frame_noise = layout.split(noise, latent)
        _, first, recurrent = layout.split(seen, emitted, hidden)
        prior = jnp.clip(layout.product(lrelu3(first), head) + head_bias, -8.0, 8.0)
        mean, log_variance = jnp.split(prior, 2, layout.axis)
        z = mean + jnp.exp(0.5 * log_variance) * latent_noise
        gates = recurrent + layout.product(jnp.concatenate([z, x], layout.axis), drawn)
        h, c = lstm(layout, gates, c)
        seen = layout.product(h, state) + state_bias
        mean, log_variance = jnp.split(layout.split(seen, emitted)[0], 2, layout.axis)
        x = mean + jnp.exp(0.5 * log_variance) * frame_noise
        return (seen, c, x), x

    noise = layout.flipped(noise)
    c = layout.zeros(noise, w["core.recurrent"].shape[0])
    x = layout.zeros(noise, emitted // 2)
    seen = layout.zeros(noise, emitted + hidden + w["core.bias"].shape[0]) + state_bias
    return layout.flipped(lax.scan(step, (seen, c, x), noise)[1])
