"""The table of models, and how a configuration becomes one of them."""

from __future__ import annotations

from collections.abc import Callable

import keras

from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.cells.rnn import RNNCell
from zforcing_tf.cells.zforcing import ZForcingCell
from zforcing_tf.config import ExperimentConfig, ModelConfig
from zforcing_tf.data.spec import DataKind, DataSpec
from zforcing_tf.distributions import FAMILIES, EmissionName
from zforcing_tf.errors import UserError
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.backward_encoder import BackwardEncoder
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.emission import Emission
from zforcing_tf.layers.recurrent_core import RecurrentCore
from zforcing_tf.layers.weights import initializer
from zforcing_tf.objectives import Schedule
from zforcing_tf.sequence_model import SequenceModel

Parts = tuple[LatentCell, Auxiliary | None, int]
"""A cell, its auxiliary network, and the width of its backward states (0: it has none)."""

EMISSIONS: dict[DataKind, EmissionName] = {
    "binary": "bernoulli",
    "real": "gaussian",
    "symbol": "categorical",
}
"""The emission of each kind of data with `--emission=auto`."""


def _rnn(config: ModelConfig, embedding: Embedding, dtype: str) -> Parts:
    init = initializer(config.initializer, config.recurrent_size)
    core = RecurrentCore(config.recurrent_size, embedding.size, initializer=init, dtype=dtype)
    return RNNCell(embedding, core, dtype=dtype), None, 0


def _zforcing(config: ModelConfig, embedding: Embedding, dtype: str) -> Parts:
    units, hidden, latent = config.recurrent_size, config.hidden_size, config.latent_size
    init = initializer(config.initializer, units)
    cell = ZForcingCell(
        embedding=embedding,
        backward_encoder=BackwardEncoder(units, embedding.size, init, dtype=dtype),
        prior=ConditionalGaussian((units,), hidden, latent, init, dtype=dtype),
        posterior=ConditionalGaussian((units, units), hidden, latent, init, dtype=dtype),
        core=RecurrentCore(
            units, embedding.size, latent, hidden, config.condition, init, dtype=dtype
        ),
        dtype=dtype,
    )
    auxiliary = Auxiliary(
        latent_size=latent,
        backward_size=units,
        hidden_size=hidden,
        past_size=units if config.auxiliary_sees_state else 0,
        loss=config.auxiliary_loss,
        initializer=init,
        dtype=dtype,
    )
    return cell, auxiliary, units


MODELS: dict[str, Callable[[ModelConfig, Embedding, str], Parts]] = {
    "rnn": _rnn,
    "zforcing": _zforcing,
}


def build(config: ExperimentConfig, spec: DataSpec) -> SequenceModel:
    """Makes the model of a configuration, all weights built, for data of a specification.

    The auxiliary network and the backward emission exist only if their weight is ever above zero.

    Raises:
        UserError: an emission that does not fit the data.
    """
    model, objective, dtype = config.model, config.objective, config.run.dtype
    family = emission_family(model, spec)
    kl_weight = Schedule(
        objective.kl_weight_start, objective.kl_weight_end, objective.kl_weight_step
    )
    auxiliary_weight = Schedule(
        objective.auxiliary_weight_start,
        objective.auxiliary_weight_end,
        objective.auxiliary_weight_step,
    )
    backward_weight = Schedule(
        objective.backward_weight_start,
        objective.backward_weight_end,
        objective.backward_weight_step,
    )
    init = initializer(model.initializer, model.recurrent_size)
    symbols = FAMILIES[family].symbols
    embedding = Embedding(spec.frame_size, model.embedding_size, symbols, init, dtype=dtype)
    cell, auxiliary, backward_size = MODELS[model.model](model, embedding, dtype)

    def emission(feature_size: int, skip_size: int, hidden_size: int) -> Emission:
        return Emission(
            family=family,
            frame_size=spec.frame_size,
            feature_size=feature_size,
            skip_size=skip_size,
            hidden_size=hidden_size,
            components=model.mixture_components,
            initializer=init,
            dtype=dtype,
        )

    skip_size = embedding.size if model.emission_skip else 0
    backward = backward_size and backward_weight.used
    return SequenceModel(
        cell=cell,
        emission=emission(cell.feature_size, skip_size, model.emission_hidden_size),
        auxiliary=auxiliary if auxiliary_weight.used else None,
        backward_emission=emission(backward_size, 0, 0) if backward else None,
        kl_weight=kl_weight,
        auxiliary_weight=auxiliary_weight,
        backward_weight=backward_weight,
        dropout=model.dropout,
        clip_norm=config.optimizer.clip_norm,
        enable_xla=config.run.enable_xla,
        seed=config.run.seed,
        name=model.model,
        dtype=dtype,
    )


def emission_family(model: ModelConfig, spec: DataSpec) -> EmissionName:
    """The emission that a configuration names, or that fits the data.

    Raises:
        UserError: an emission that does not fit the data.
    """
    if model.emission == "auto":
        return EMISSIONS[spec.kind]
    if FAMILIES[model.emission].symbols != (spec.kind == "symbol"):
        raise UserError(
            f"--emission={model.emission} does not fit --dataset={spec.name}, whose frames are "
            f"{spec.kind}; --emission=auto takes {EMISSIONS[spec.kind]}"
        )
    return model.emission


def optimizer(config: ExperimentConfig, model: SequenceModel) -> keras.optimizers.Optimizer:
    """Adam, built for the model.

    Nothing is scaled here: float16 alone needs that, and `compile` sees to it.
    """
    settings = config.optimizer
    adam = keras.optimizers.Adam(
        learning_rate=settings.learning_rate,
        beta_2=settings.adam_beta_2,
        epsilon=settings.adam_epsilon,
    )
    adam.build(model.trainable_variables)
    return adam
