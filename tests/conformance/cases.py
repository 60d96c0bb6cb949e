"""The models that every property is tested with, and what their tests share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.slowly import slow_unless
from zforcing_tf import objectives
from zforcing_tf.objectives import Weights
from zforcing_tf.sequence_model import SequenceModel

SMOOTHING = {"srnn", "zforcing", "layer_norm", "autoregressive", "full"}
"""Those whose posterior sees all frames after its step too; that of srnn_gru, those up to the next
even step."""
CASES = [
    ("rnn", "bernoulli"),
    ("storn", "categorical"),
    ("vrnn", "gaussian"),
    ("srnn", "bernoulli"),
    ("vrnn_gru_layer_norm", "categorical"),
    ("srnn_gru", "gaussian"),
    ("zforcing", "bernoulli"),
    ("zforcing", "categorical"),
    ("layer_norm", "gaussian"),
    ("full", "gaussian"),
    ("full", "gaussian_mixture"),
    ("full", "categorical"),
    ("autoregressive", "gaussian"),
]
# Of each variant and each emission one; `make slow` has the others.
_LATER = [
    ("vrnn_gru_layer_norm", "categorical"),
    ("zforcing", "bernoulli"),
    ("full", "gaussian"),
    ("full", "categorical"),
    ("srnn", "bernoulli"),
]


def _cases(cases: list[tuple[str, str]]) -> Any:
    return pytest.mark.parametrize(
        ("variant", "emission"), [slow_unless(case not in _LATER, *case) for case in cases]
    )


each_case = _cases(CASES)
each_stochastic_case = _cases(CASES[1:])
each_smoothing_case = _cases([case for case in CASES if case[0] in SMOOTHING])
# Compiling takes seconds: each variant and each emission once.
PARTS = [
    ("rnn", "gaussian"),
    ("storn", "bernoulli"),
    ("vrnn", "categorical"),
    ("vrnn_gru_layer_norm", "gaussian"),
    ("srnn", "gaussian"),
    ("srnn_gru", "bernoulli"),
    ("zforcing", "categorical"),
    ("layer_norm", "bernoulli"),
    ("full", "gaussian_mixture"),
    ("autoregressive", "discretised_logistic_mixture"),
]
# Four of them where it takes dozens of seconds; `make slow` has the others.
_HALF = {"srnn_gru", "zforcing", "full", "autoregressive"}
each_part_slowly = pytest.mark.parametrize(
    ("variant", "emission"),
    [slow_unless(part[0] in _HALF, *part) for part in PARTS],
)


def each_part_in_turn(name: str, *values: Any) -> Any:
    """Each part with each value; soon with one of them, so that each value has its turn."""
    return pytest.mark.parametrize(
        ("variant", "emission", name),
        [
            slow_unless(part[0] in _HALF and (i + j) % len(values) == 0, *part, value)
            for i, part in enumerate(PARTS)
            for j, value in enumerate(values)
        ],
    )


WEIGHTS = Weights(0.7, 0.3, 0.2)
SEEDS = tf.constant([[7, 1], [7, 2], [-3, 5]], tf.int32)


@functools.cache
def model_of(variant: str, emission: str) -> SequenceModel:
    return factory.build(emission, **factory.VARIANTS[variant])


def tensors(batch: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in batch.items()}


def with_padding(batch: dict[str, np.ndarray], value: float) -> dict[str, np.ndarray]:
    """The same sequences in a batch two steps longer, the value wherever nothing is valid."""
    x, lengths = batch["x"], batch["lengths"]
    x = np.concatenate([x, np.zeros_like(x[:, :2])], axis=1)
    x[np.arange(x.shape[1]) >= lengths[:, None]] = value
    return {"x": x, "lengths": lengths}


def paddings(emission: str) -> list[float]:
    return [0, 10**6, -5] if emission == "categorical" else [0.0, 1e6, np.nan, -np.inf]


def noise_for(model: SequenceModel, num_steps: int, rows: int, extra: int = 0) -> tf.Tensor:
    shape = (num_steps, rows, model.cell.latent_size + extra)
    return tf.random.stateless_normal(shape, (1, 2))


def dense_gradients(tape: tf.GradientTape, cost: tf.Tensor, variables: Any) -> list[tf.Tensor]:
    """Zeros where there is none."""
    values = [variable.value for variable in variables]
    gradients = tape.gradient(cost, values, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def loss_and_gradients(
    model: SequenceModel,
    x: tf.Tensor,
    lengths: tf.Tensor,
    noise: tf.Tensor,
    training: bool = True,
    weights: Weights = WEIGHTS,
) -> tuple[Any, ...]:
    with tf.GradientTape() as tape:
        inference = model.infer(model.sequences(x, lengths), noise, training=training)
        loss = objectives.loss(inference.terms, weights)
    gradients = dense_gradients(tape, loss, model.trainable_variables)
    return loss, [term for term in inference.terms if term is not None], gradients
