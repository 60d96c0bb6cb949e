"""The table of models, and how a configuration becomes one of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.cells.rnn import RNNCell
from zforcing_tf.cells.srnn import SRNNCell
from zforcing_tf.cells.storn import STORNCell
from zforcing_tf.cells.vrnn import VRNNCell
from zforcing_tf.cells.zforcing import ZForcingCell
from zforcing_tf.config import ExperimentConfig, ModelConfig, ObjectiveConfig
from zforcing_tf.data.spec import DataKind, DataSpec
from zforcing_tf.distributions import FAMILIES, EmissionName
from zforcing_tf.errors import UserError
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.emission import Emission
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.recurrent_core import RecurrentCore
from zforcing_tf.layers.weights import initializer
from zforcing_tf.objectives import Bound, Schedule
from zforcing_tf.resampling import Resampling
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.adam import Adam

EMISSIONS: dict[DataKind, EmissionName] = {
    "binary": "bernoulli",
    "real": "gaussian",
    "symbol": "categorical",
}
"""The emission of each kind of data with `--emission=auto`."""


class Model(NamedTuple):
    """What makes a model of the family."""

    cell: type[LatentCell]
    parts: dict[str, tuple[str, ...]]
    """The parts of the cell, and what each of them sees (cores and encoders: beside the data)."""
    aided: bool = False
    """Whether the auxiliary cost and the backward emission can train it."""


MODELS: dict[str, Model] = {
    "rnn": Model(RNNCell, {"core": ()}),
    "storn": Model(
        STORNCell,
        {
            "core": ("latent",),
            "forward_encoder": (),
            "posterior_network": ("encoder",),
        },
    ),
    "vrnn": Model(
        VRNNCell,
        {
            "core": ("latent",),
            "prior_network": ("core",),
            "posterior_network": ("core", "embedding"),
        },
    ),
    "srnn": Model(
        SRNNCell,
        {
            "core": (),
            "backward_encoder": ("core",),
            "prior_network": ("core", "latent"),
            "posterior_network": ("encoder", "latent"),
        },
    ),
    "zforcing": Model(
        ZForcingCell,
        {
            "core": ("latent",),
            "backward_encoder": (),
            "prior_network": ("core",),
            "posterior_network": ("core", "encoder"),
        },
        aided=True,
    ),
}
"""The family, and the one place that knows its members."""


def _check(config: ExperimentConfig) -> None:
    """UserError for settings that the model has no use for."""
    model, objective = config.model, config.objective
    found = MODELS[model.model]
    if model.condition == "layer_norm" and "latent" not in found.parts["core"]:
        raise UserError(
            "--condition=layer_norm needs a core that the latent enters, which "
            f"--model={model.model} lacks: leave --condition=concat"
        )
    backward = "backward_encoder" in found.parts
    if model.posterior_window and not (backward and model.latent_size):
        able = ", ".join(name for name, one in MODELS.items() if "backward_encoder" in one.parts)
        cause = "--latent_size=0" if backward else f"--model={model.model}"
        raise UserError(
            f"--posterior_window={model.posterior_window} needs a latent and a network that runs "
            f"backward, which {cause} lacks: leave it at 0, or take one of {able} with a latent"
        )
    for name in ("auxiliary", "backward"):
        if _schedule(objective, name).used and not (found.aided and model.latent_size):
            cause = "--latent_size=0" if found.aided else f"--model={model.model}"
            aided = ", ".join(name for name, one in MODELS.items() if one.aided)
            raise UserError(
                f"--{name}_weight_start and --{name}_weight_end above 0 need a latent and a "
                f"backward network for it to predict, which {cause} lacks: leave them at 0, or "
                f"take --model={aided} with a latent"
            )


def _cell(config: ModelConfig, embedding: Embedding, dtype: str, cudnn_encoder: bool) -> LatentCell:
    units, hidden, latent = config.recurrent_size, config.hidden_size, config.latent_size
    widths = {"core": units, "encoder": units, "embedding": embedding.size, "latent": latent}
    own: dict[str, Any] = {
        "initializer": initializer(config.initializer, units),
        "dtype": dtype,
    }

    def part(name: str, sees: tuple[str, ...]) -> keras.layers.Layer:
        sizes = tuple(widths[seen] for seen in sees)
        if name.endswith("_network"):
            return ConditionalGaussian(sizes, hidden, latent, **own)
        if name == "core":
            takes: dict[str, Any] = {
                "latent_size": latent,
                "code_size": hidden,
                "condition": config.condition,
            }
            return RecurrentCore(
                units, embedding.size, kind=config.core, **(takes if sees else {}), **own
            )
        direction: Any = name.removesuffix("_encoder")
        return Encoder(
            units,
            embedding.size,
            kind=config.core,
            direction=direction,
            beside_size=sum(sizes),
            cudnn=cudnn_encoder,
            window=config.posterior_window if direction == "backward" else 0,
            **own,
        )

    model = MODELS[config.model]
    made = {name: part(name, sees) for name, sees in model.parts.items()}
    return model.cell(embedding=embedding, **made, dtype=dtype)


def build(config: ExperimentConfig, spec: DataSpec) -> SequenceModel:
    """Makes the model of a configuration, all weights built, for data of a specification.

    The auxiliary network and the backward emission exist only if their weight is ever above zero.

    Raises:
        UserError: an emission that does not fit the data, or settings that do not fit the model.
    """
    _check(config)
    model, objective, dtype = config.model, config.objective, config.run.dtype
    family = emission_family(model, spec)
    units, init = model.recurrent_size, initializer(model.initializer, model.recurrent_size)
    embedding = Embedding(
        spec.frame_size, model.embedding_size, FAMILIES[family].symbols, init, dtype=dtype
    )
    cell = _cell(model, embedding, dtype, config.run.cudnn_encoder)
    schedules: dict[str, Any] = {
        name: _schedule(objective, name) for name in ("kl", "auxiliary", "backward")
    }

    def emission(
        feature_size: int, skip_size: int, hidden_size: int, autoregressive: bool
    ) -> Emission:
        return Emission(
            family=family,
            frame_size=spec.frame_size,
            feature_size=feature_size,
            skip_size=skip_size,
            hidden_size=hidden_size,
            components=model.mixture_components,
            sample_bits=model.sample_bits,
            autoregressive=autoregressive,
            autoregressive_hidden_size=model.autoregressive_hidden_size if autoregressive else 0,
            initializer=init,
            dtype=dtype,
        )

    def auxiliary() -> Auxiliary:
        return Auxiliary(
            latent_size=model.latent_size,
            backward_size=units,
            hidden_size=model.hidden_size,
            past_size=units if model.auxiliary_sees_state else 0,
            loss=model.auxiliary_loss,
            initializer=init,
            dtype=dtype,
        )

    skip_size = embedding.size if model.emission_skip else 0
    return SequenceModel(
        cell=cell,
        emission=emission(
            cell.feature_size, skip_size, model.emission_hidden_size, model.autoregressive_emission
        ),
        auxiliary=auxiliary() if schedules["auxiliary"].used else None,
        backward_emission=emission(units, 0, 0, False) if schedules["backward"].used else None,
        **{f"{name}_weight": schedule for name, schedule in schedules.items()},
        bound=bound(objective),
        dropout=model.dropout,
        clip_norm=config.optimizer.clip_norm,
        enable_xla=config.run.enable_xla == "on",
        concurrent_parts=config.run.concurrent_parts or 1,
        recompute=config.run.recompute,
        first_frame_given=not config.data.score_first_frame,
        carried_rows=config.run.batch_size if config.data.carry_state else 0,
        seed=config.run.seed,
        name=model.model,
        dtype=dtype,
    )


def bound(objective: ObjectiveConfig) -> Bound:
    """The bound that a configuration trains with."""
    resampling = Resampling(objective.resampling, objective.resampling_scheme)
    return Bound(objective.bound, objective.num_samples, resampling)


def _schedule(objective: ObjectiveConfig, name: str) -> Schedule:
    return Schedule(
        *(getattr(objective, f"{name}_weight_{part}") for part in ("start", "end", "step"))
    )


def emission_family(model: ModelConfig, spec: DataSpec) -> EmissionName:
    """The emission that a configuration names, or that fits the data.

    Raises:
        UserError: an emission that does not fit the data.
    """
    if model.autoregressive_emission and spec.kind == "symbol":
        raise UserError(
            f"--autoregressive_emission needs frames of several numbers, and a frame of "
            f"--dataset={spec.name} is one symbol: leave it out"
        )
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
    adam = Adam(
        learning_rate=settings.learning_rate,
        beta_2=settings.adam_beta_2,
        epsilon=settings.adam_epsilon,
        use_ema=settings.ema_momentum > 0,
        ema_momentum=settings.ema_momentum,
    )
    adam.build(model.trainable_variables)
    return adam
