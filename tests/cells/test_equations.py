"""STORN, VRNN and SRNN against their equations, step by step in NumPy, sequence by sequence.

(Z-Forcing is held against the released implementation's numbers, in tests/reference.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory

Array = np.ndarray
Gaussian = tuple[Array, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lrelu3(x: Array) -> Array:
    return np.clip(np.where(x > 0, x, x / 3), -3, 3)


def values(layer: Any) -> dict[str, Array]:
    return {v.name: np.array(v) for v in layer.variables}


def mlp(network: Any, *inputs: Array) -> Gaussian:
    w = values(network)
    hidden = lrelu3(np.concatenate(inputs) @ w["kernel_1"] + w["bias_1"])
    loc, log_variance = np.split(np.clip(hidden @ w["kernel_2"] + w["bias_2"], -8, 8), 2)
    return loc, np.exp(log_variance / 2)


class Core:
    """LSTM or GRU on [code(z), beside, e]."""

    def __init__(self, core: Any, beside_kernel: Array | None = None) -> None:
        self.kind, self.units, self.w = core.kind, core.units, values(core)
        self.beside_kernel = beside_kernel

    def start(self) -> Any:
        return np.zeros(self.units), np.zeros(self.units)

    def __call__(
        self, e: Array, state: Any, z: Array | None = None, beside: Array | None = None
    ) -> Any:
        (h, c), w = state, self.w
        x = e @ w["input_kernel"] + w["bias"]
        if z is not None:
            x = x + (z @ w["code_kernel"] + w["code_bias"]) @ w["code_input_kernel"]
        if beside is not None:
            x = x + beside @ self.beside_kernel
        u = h @ w["recurrent_kernel"]
        if self.kind == "lstm":
            i, f, g, o = np.split(x + u, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            return sigmoid(o) * np.tanh(c), c
        (update_x, reset_x, new_x), (update_h, reset_h, new_h) = np.split(x, 3), np.split(u, 3)
        update, reset = sigmoid(update_x + update_h), sigmoid(reset_x + reset_h)
        return update * h + (1 - update) * np.tanh(new_x + reset * new_h), c


def divergence(q: Gaussian, p: Gaussian) -> float:
    ratio, distance = (q[1] / p[1]) ** 2, ((q[0] - p[0]) / p[1]) ** 2
    return float(0.5 * np.sum(ratio + distance - 1 - np.log(ratio)))


def normal_log_prob(y: Array, parameters: Array) -> float:
    loc, log_variance = np.split(parameters, 2)
    return float(
        -0.5 * np.sum(np.log(2 * np.pi) + log_variance + (y - loc) ** 2 / np.exp(log_variance))
    )


def terms(model: Any, y: Array, noise: Array) -> tuple[list[float], list[float]]:
    """log p(y[t] | ..) and KL of each step of one sequence [T, D]."""
    cell, name = model.cell, model.name
    e_w = values(cell.embedding)
    e = [v @ e_w["table"] + e_w["bias"] for v in y]  # of targets
    zero = np.zeros(y.shape[1]) @ e_w["table"] + e_w["bias"]
    e_in = [zero, *e[:-1]]  # of inputs
    core, emission, steps = Core(cell.core), values(model.emission), len(y)
    prior = getattr(cell, "prior_network", None)
    q_network, z_size = cell.posterior_network, cell.latent_size
    log_probs, kls = [], []

    def emit(features: Array, t: int, q: Gaussian, p: Gaussian) -> None:
        parameters = features @ emission["output_kernel"] + emission["output_bias"]
        log_probs.append(normal_log_prob(y[t], parameters))
        kls.append(divergence(q, p))

    state, z = core.start(), np.zeros(z_size)
    if name == "storn":
        encoder, a = Core(cell.forward_encoder.core), core.start()
        for t in range(steps):
            a = encoder(e[t], a)
            q = mlp(q_network, a[0])
            z = q[0] + q[1] * noise[t]
            state = core(e_in[t], state, z)
            emit(state[0], t, q, (np.zeros(z_size), np.ones(z_size)))
    elif name == "vrnn":
        for t in range(steps):
            state = core(e_in[t], state, z)
            q = mlp(q_network, state[0], e[t])
            z = q[0] + q[1] * noise[t]
            emit(np.concatenate([state[0], z]), t, q, mlp(prior, state[0]))
    else:
        d = []
        for t in range(steps):
            state = core(e_in[t], state)
            d.append(state[0])
        backward = Core(cell.backward_encoder.core, np.array(cell.backward_encoder.beside_kernel))
        a, states = backward.start(), {}
        for t in reversed(range(steps)):
            a = states[t] = backward(e[t], a, beside=d[t])
        for t in range(steps):
            p = mlp(prior, d[t], z)
            loc, scale = mlp(q_network, states[t][0], z)
            q = (p[0] + loc, scale)
            z = q[0] + q[1] * noise[t]
            emit(np.concatenate([d[t], z]), t, q, p)
    return log_probs, kls


@pytest.mark.parametrize("core", ["lstm", "gru"])
@pytest.mark.parametrize("name", ["storn", "vrnn", "srnn"])
def test_terms_are_those_of_the_equations(name, core):
    model = factory.build("gaussian", model=name, core=core, dtype="float64")
    batch = factory.batch("gaussian")
    noise = np.random.default_rng(3).standard_normal((5, 3, model.cell.latent_size))
    x, lengths = tf.constant(batch["x"], tf.float64), tf.constant(batch["lengths"])
    found = model.infer(model.sequences(x, lengths), tf.constant(noise)).terms
    for row, length in enumerate(batch["lengths"]):
        y = batch["x"][row, :length].astype(np.float64)
        log_prob, kl = terms(model, y, noise[:length, row])
        np.testing.assert_allclose(found.log_prob[:length, row], log_prob, rtol=1e-10)
        np.testing.assert_allclose(found.kl[:length, row], kl, rtol=1e-9)
        np.testing.assert_array_equal(found.kl[length:, row], 0.0)
