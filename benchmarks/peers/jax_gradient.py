"""The loops of `jax_model` with gradients written by hand.

The forward scan keeps activations; the backward scan gives the gradients of pre-activations only,
and those of the matrices follow as one product each over all steps.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.peers.jax_model import Layout, infer_loop, lrelu3, lstm_loop


def _activated(layout: Layout, gates: Array, c: Array) -> tuple[Array, Array, Array, Array]:
    """h, c, activations of the gates, and tanh(c)."""
    i, f, g, o = jnp.split(gates, 4, layout.axis)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    tanh = jnp.tanh(c)
    return o * tanh, c, jnp.concatenate([i, f, g, o], layout.axis), tanh


def _cell_backward(
    layout: Layout, gates: Array, c: Array, tanh: Array, dh: Array, dc: Array
) -> tuple[Array, Array]:
    """Gradients of pre-activations, and of the c before."""
    i, f, g, o = jnp.split(gates, 4, layout.axis)
    dc = dc + dh * o * (1.0 - tanh * tanh)
    d_gates = (
        dc * g * i * (1.0 - i),
        dc * c * f * (1.0 - f),
        dc * i * (1.0 - g * g),
        dh * tanh * o * (1.0 - o),
    )
    return jnp.concatenate(d_gates, layout.axis), dc * f


def _gradient(layout: Layout, x: Array, d: Array) -> Array:
    """Gradient [in, out] of a matrix over all steps."""
    both = (
        (
            v.swapaxes(0, 1).reshape(v.shape[1], -1)
            if layout.feature_major
            else v.reshape(-1, v.shape[2]).T
        )
        for v in (x, d)
    )
    x, d = both
    return x @ d.T


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def infer(layout: Layout, drive: Array, share: Array, noise: Array, *w: Array) -> Any:
    """`jax_model.infer_loop`."""
    return infer_loop(layout, drive, share, noise, *w)


def _infer_forward(layout: Layout, drive: Array, share: Array, noise: Array, *w: Array) -> Any:
    state, head, head_bias, latent = w
    matrices = [layout.matrix(v) for v in (state, head, latent)]
    bias = layout.bias(head_bias)

    def step(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
        h, c = carry
        drive, share, noise = now
        hidden, recurrent = layout.split(layout.product(h, matrices[0]), head.shape[0])
        hidden = hidden + share
        raw = layout.product(lrelu3(hidden), matrices[1]) + bias
        mean, log_variance = jnp.split(jnp.clip(raw, -8.0, 8.0), 2, layout.axis)
        z = mean + jnp.exp(0.5 * log_variance) * noise
        gates = recurrent + drive + layout.product(z, matrices[2])
        new_h, new_c, gates, tanh = _activated(layout, gates, c)
        return (new_h, new_c), (new_h, raw, z, h, c, hidden, gates, tanh)

    first = (layout.zeros(drive, state.shape[0]),) * 2
    _, (h, raw, z, *kept) = lax.scan(step, first, (drive, share, noise))
    return (h, jnp.clip(raw, -8.0, 8.0), z), (w, noise, raw, z, *kept)


def _infer_backward(layout: Layout, kept: Any, upstream: tuple[Array, Array, Array]) -> Any:
    (state, head, _, latent), noise, raw, z, h, c, hidden, gates, tanh = kept
    d_h, d_posterior, d_z = upstream
    axis = layout.axis
    log_variance = jnp.split(raw, 2, axis + 1)[1]
    of_z = 0.5 * jnp.exp(0.5 * jnp.clip(log_variance, -8.0, 8.0)) * noise
    activated = lrelu3(hidden)
    slope = jnp.where(hidden >= 0, 1.0, 1 / 3) * (jnp.abs(activated) < 3.0)
    inside = (jnp.abs(raw) <= 8.0).astype(noise.dtype)

    def step(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Any]:
        dh, dc = carry
        c, gates, tanh, of_z, slope, inside, d_h, d_posterior, d_z = now
        d_gates, dc = _cell_backward(layout, gates, c, tanh, dh + d_h, dc)
        dz = layout.back(d_gates, latent) + d_z
        d_head = (jnp.concatenate([dz, dz * of_z], axis) + d_posterior) * inside
        d_hidden = layout.back(d_head, head) * slope
        d_met = jnp.concatenate([d_hidden, d_gates], axis)
        return (layout.back(d_met, state), dc), (d_met, d_head)

    zeros = jnp.zeros_like(c[0])
    sequences = (c, gates, tanh, of_z, slope, inside, d_h, d_posterior, d_z)
    _, (d_met, d_head) = lax.scan(step, (zeros, zeros), sequences, reverse=True)
    d_share, d_drive = jnp.split(d_met, [head.shape[0]], axis + 1)
    return (
        d_drive,
        d_share,
        jnp.zeros_like(noise),
        _gradient(layout, h, d_met),
        _gradient(layout, activated, d_head),
        d_head.sum((0, 2 - axis)),
        _gradient(layout, z, d_drive),
    )


infer.defvjp(_infer_forward, _infer_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def lstm(layout: Layout, drive: Array, recurrent: Array) -> Array:
    """`jax_model.lstm_loop`."""
    return lstm_loop(layout, drive, recurrent)


def _lstm_forward(layout: Layout, drive: Array, recurrent: Array) -> Any:
    matrix = layout.matrix(recurrent)

    def step(carry: tuple[Array, Array], drive: Array) -> tuple[Any, Any]:
        h, c = carry
        pre = drive + layout.product(h, matrix)
        new_h, new_c, gates, tanh = _activated(layout, pre, c)
        return (new_h, new_c), (new_h, h, c, gates, tanh)

    first = (layout.zeros(drive, recurrent.shape[0]),) * 2
    _, (states, *kept) = lax.scan(step, first, drive, reverse=True)
    return states, (recurrent, *kept)


def _lstm_backward(layout: Layout, kept: Any, d_h: Array) -> Any:
    recurrent, h, c, gates, tanh = kept

    def step(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Array]:
        dh, dc = carry
        c, gates, tanh, d_h = now
        d_gates, dc = _cell_backward(layout, gates, c, tanh, dh + d_h, dc)
        return (layout.back(d_gates, recurrent), dc), d_gates

    zeros = jnp.zeros_like(c[0])
    _, d_gates = lax.scan(step, (zeros, zeros), (c, gates, tanh, d_h))
    return d_gates, _gradient(layout, h, d_gates)


lstm.defvjp(_lstm_forward, _lstm_backward)
