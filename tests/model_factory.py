"""Small models by parts, and small data for them. All numbers are functions of seeds given here."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zforcing_tf import models
from zforcing_tf.config import ExperimentConfig, RunConfig, settings
from zforcing_tf.data.spec import DataKind, DataSpec
from zforcing_tf.distributions import FAMILIES
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training import distribution

FRAME_SIZE = 3
VOCABULARY = 6
RECURRENT_SIZE = 5
NUM_STEPS = 5
LENGTHS = (5, 3, 1)

SMALL: dict[str, Any] = {
    "recurrent_size": RECURRENT_SIZE,
    "latent_size": 2,
    "embedding_size": 4,
    "hidden_size": 4,
    "mixture_components": 3,
}
KINDS: dict[str, DataKind] = {
    "bernoulli": "binary",
    "gaussian": "real",
    "gaussian_mixture": "real",
    "discretised_logistic_mixture": "real",
    "categorical": "symbol",
}
AIDED: dict[str, Any] = {"auxiliary_weight_start": 0.3, "auxiliary_weight_end": 0.3}
AIDED |= {"backward_weight_start": 0.2, "backward_weight_end": 0.2}
VARIANTS: dict[str, dict[str, Any]] = {
    "rnn": {"model": "rnn"},
    "storn": {"model": "storn"},
    "vrnn": {"model": "vrnn"},
    "srnn": {"model": "srnn"},
    "zforcing": {"model": "zforcing"},
    "vrnn_gru_layer_norm": {"model": "vrnn", "core": "gru", "condition": "layer_norm"},
    "srnn_gru": {"model": "srnn", "core": "gru", "emission_skip": True, "posterior_window": 2},
    "layer_norm": {"model": "zforcing", "condition": "layer_norm"},
    "autoregressive": {"autoregressive_emission": True, "autoregressive_hidden_size": 4},
    "full": {"model": "zforcing", "emission_skip": True, "emission_hidden_size": 4, **AIDED},
}
"""The models that properties are tested with; `full` has every optional part."""


def experiment(emission: str = "bernoulli", **values: Any) -> ExperimentConfig:
    """A configuration from settings of any section by name, small unless they say otherwise."""
    values = {**SMALL, "emission": emission, **values}
    sections: dict[str, dict[str, Any]] = {}
    for section, field in settings():
        if field.name in values:
            sections.setdefault(section, {})[field.name] = values.pop(field.name)
    if values:
        raise KeyError(f"no such settings: {sorted(values)}")
    return ExperimentConfig.from_json(sections)


def spec(emission: str = "bernoulli") -> DataSpec:
    """Of data that the emission fits."""
    size = VOCABULARY if emission == "categorical" else FRAME_SIZE
    return DataSpec("small", KINDS[emission], size, NUM_STEPS)


def randomise(layer: keras.layers.Layer, seed: int = 1, scale: float = 0.4) -> None:
    """Gives every weight, biases too, normal numbers; gains stay around one."""
    generator = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        centre = 1.0 if variable.name == "gain" else 0.0
        variable.assign(centre + scale * generator.standard_normal(variable.shape))


def build(emission: str = "bernoulli", weight_seed: int = 1, **values: Any) -> SequenceModel:
    """A model with weights that depend on its structure and on `weight_seed` only."""
    model = models.build(experiment(emission, **values), spec(emission))
    randomise(model, weight_seed)
    return model


def trainable(emission: str = "bernoulli", **values: Any) -> SequenceModel:
    """A model that is compiled, its optimizer built."""
    config = experiment(emission, **values)
    model = build(emission, **values)
    optimizer = models.optimizer(config, model)
    model.compile(optimizer=optimizer, jit_compile=False, run_eagerly=config.run.run_eagerly)
    return model


def frames(emission: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Data of a kind that the emission fits, [*shape, D] or [*shape] int32."""
    generator = np.random.default_rng(seed)
    kind = KINDS[emission]
    if kind == "symbol":
        return generator.integers(0, VOCABULARY, shape).astype(np.int32)
    x = generator.standard_normal((*shape, FRAME_SIZE)).astype(np.float32)
    return (x > 0).astype(np.float32) if kind == "binary" else x.clip(*FAMILIES[emission].limits)


def batch(
    emission: str = "bernoulli", lengths: tuple[int, ...] = LENGTHS, seed: int = 0
) -> dict[str, np.ndarray]:
    """{"x", "lengths"} as the pipeline gives them, zero in padding."""
    x = frames(emission, len(lengths), max(lengths), seed=seed)
    x[np.arange(x.shape[1]) >= np.array(lengths)[:, None]] = 0
    return {"x": x, "lengths": np.array(lengths, np.int32)}


def two_replicas() -> tf.distribute.Strategy:
    """The one of this process, over both logical CPUs."""
    return distribution.strategy(RunConfig(distribution_strategy="mirrored"))


def weights_of(model: SequenceModel) -> list[np.ndarray]:
    """Copies of all trainable weights."""
    return [np.array(variable) for variable in model.trainable_variables]


def replaced(batch: dict[str, np.ndarray], **entries: np.ndarray) -> dict[str, np.ndarray]:
    """A batch with other entries."""
    return {**batch, **entries}
