"""What an experiment is: frozen dataclasses, one absl flag for each field, to and from JSON.

A field's name is its flag's name; help, bounds and whether it may change on resuming are its
metadata, and the rest is written over those. It needs absl only, so that `--help` is quick.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from absl import flags

from zforcing_tf.combinations import check
from zforcing_tf.data_config import DataConfig as DataConfig
from zforcing_tf.errors import UserError
from zforcing_tf.settings import Field, Section, as_text, define_flag, setting


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """Which model, its sizes and its variants."""

    model: Literal["rnn", "storn", "vrnn", "srnn", "zforcing"] = setting("zforcing", "Which model.")
    core: Literal["lstm", "gru"] = setting("lstm", "Kind of each recurrent network.")
    recurrent_size: int = setting(128, "Units of each recurrent network (H).", minimum=1)
    latent_size: int = setting(
        32, "Width of the latent (Z); 0: none. The model rnn has none.", minimum=0
    )
    embedding_size: int = setting(64, "Width of the input embedding (E).", minimum=1)
    hidden_size: int = setting(64, "Hidden width of prior, posterior, auxiliary (M).", minimum=1)
    posterior_window: int = setting(
        0,
        "Steps after which a network that runs backward starts anew, so that the posterior sees no "
        "more than it does in training on pieces of so many; 0: it begins at the end.",
        minimum=0,
    )
    condition: Literal["concat", "layer_norm"] = setting(
        "concat", "How the latent enters the core: beside the input, or by the layer norm."
    )
    auxiliary_sees_state: bool = setting(
        False, "Whether the auxiliary network sees the forward state too."
    )
    auxiliary_loss: Literal["gaussian", "l2"] = setting(
        "gaussian", "Auxiliary cost: negative log density or squared distance."
    )
    emission: Literal[
        "auto",
        "bernoulli",
        "gaussian",
        "categorical",
        "gaussian_mixture",
        "discretised_logistic_mixture",
    ] = setting("auto", "Distribution of a frame; auto: by the kind of the data.")
    mixture_components: int = setting(20, "Components of a mixture emission.", minimum=1)
    sample_bits: int = setting(
        16,
        "Bits of each number of a discretised emission, whose 2^bits levels lie over [-1, 1].",
        minimum=1,
        maximum=20,
    )
    emission_hidden_size: int = setting(
        0, "Hidden width of the emission network; 0: linear.", minimum=0
    )
    emission_skip: bool = setting(False, "Whether the emission sees the input of its step too.")
    autoregressive_emission: bool = setting(
        False, "Whether each number of a frame depends on those before it in the frame."
    )
    autoregressive_hidden_size: int = setting(
        0, "Hidden units of that dependence; 0: linear.", minimum=0
    )
    dropout: float = setting(0.0, "Share of units dropped in training.", minimum=0, below=1)
    initializer: Literal["uniform", "normal"] = setting(
        "uniform", "First weights: uniform within 1/sqrt(H), or normal with scale 0.01."
    )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(Section):
    """Weights of the terms, each moving by its step an update from start to end; the bound."""

    kl_weight_start: float = setting(1.0, "Weight of the KL at the first update.", minimum=0)
    kl_weight_end: float = setting(1.0, "Weight of the KL in the end.", minimum=0)
    kl_weight_step: float = setting(0.0, "Change of that weight an update.", minimum=0)
    auxiliary_weight_start: float = setting(
        0.0, "Weight of the auxiliary cost at the first update.", minimum=0
    )
    auxiliary_weight_end: float = setting(
        0.0, "Weight of the auxiliary cost in the end.", minimum=0
    )
    auxiliary_weight_step: float = setting(0.0, "Change of that weight an update.", minimum=0)
    backward_weight_start: float = setting(
        0.0, "Weight of the backward network's own likelihood at the first update.", minimum=0
    )
    backward_weight_end: float = setting(
        0.0, "Weight of the backward network's own likelihood in the end.", minimum=0
    )
    backward_weight_step: float = setting(0.0, "Change of that weight an update.", minimum=0)
    bound: Literal["elbo", "iwae", "fivo"] = setting(
        "elbo", "Bound of the likelihood that training maximises."
    )
    num_samples: int = setting(
        1, "Samples of the latents of each sequence; particles of fivo.", minimum=1
    )
    resampling: Literal["ess", "always", "never"] = setting(
        "ess",
        "When particles of fivo are drawn anew; ess: when fewer than half of them still count.",
    )
    resampling_scheme: Literal["systematic", "multinomial"] = setting(
        "systematic", "How particles of fivo are drawn anew."
    )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """Adam and gradient clipping."""

    learning_rate: float = setting(1e-3, "Learning rate of Adam.", above=0)
    learning_rate_patience: int = setting(
        0,
        "Epochs without a better validation bound after which the learning rate is halved, and "
        "again after as many more; 0: never.",
        minimum=0,
    )
    learning_rate_floor: float = setting(
        1e-5, "Learning rate below which it is not halved.", minimum=0
    )
    adam_beta_2: float = setting(
        0.999, "Decay of Adam's mean of squared gradients.", above=0, below=1
    )
    adam_epsilon: float = setting(1e-5, "Adam's epsilon.", above=0)
    clip_norm: float = setting(100.0, "Largest global norm of an update's gradients.", above=0)
    ema_momentum: float = setting(
        0.0,
        "Decay of a running mean of the weights, with which the model is validated, kept as the "
        "best one and exported; such as 0.999. 0: the weights as they are.",
        minimum=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class RunConfig(Section):
    """Where and how the experiment runs."""

    run_dir: str = setting("", "Folder that holds all that the run writes.", resumable=True)
    batch_size: int = setting(32, "Sequences an update, over all replicas.", minimum=1)
    bucket_batches: int = setting(
        0,
        "Neighbouring batches of an epoch whose sequences are dealt out by length, so that batches "
        "pad little; 0: none.",
        minimum=0,
    )
    eval_batch_size: int = setting(256, "Sequences scored at once.", minimum=1, resumable=True)
    train_epochs: int = setting(100, "Passes over the training split.", minimum=1, resumable=True)
    seed: int = setting(0, "Seed of weights, noise and data order.", minimum=0, maximum=2**31 - 1)
    dtype: Literal["float32", "float64", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32",
        "Floating-point type of weights and computations; mixed_float16 scales the loss, for GPUs.",
    )
    enable_xla: Literal["off", "on", "auto"] = setting(
        "off",
        "Whether to compile the step with XLA; auto: if that makes the run shorter, as measured "
        "when it begins.",
        resumable=True,
        switch=True,
    )
    steps_per_execution: int = setting(
        1,
        "Updates between two looks at signals and at the progress bar; more cost less time each.",
        minimum=1,
        resumable=True,
    )
    concurrent_parts: int = setting(
        0,
        "Parts of a batch that cores work on side by side, where networks are too small to keep "
        "them busy otherwise; 0: as many as --enable_xla=auto finds best, or 1.",
        minimum=0,
        resumable=True,
    )
    recompute: bool = setting(
        False,
        "Whether training computes windows of 128 steps twice rather than keep what they leave: a "
        "fraction of the memory for a third more time, on sequences longer than that.",
        resumable=True,
    )
    cudnn_encoder: bool = setting(
        False,
        "Whether training takes cuDNN's LSTM for the network through which the posterior sees the "
        "data; needs a GPU, and no XLA.",
        resumable=True,
    )
    distribution_strategy: Literal["off", "one_device", "mirrored", "multi_worker_mirrored"] = (
        setting(
            "off",
            "How to spread a batch over devices; multi_worker_mirrored: over processes, each with "
            "this command and a TF_CONFIG of its own.",
            resumable=True,
        )
    )
    num_gpus: int = setting(0, "GPUs to use; 0: each that is there.", minimum=0, resumable=True)
    all_reduce_alg: Literal["auto", "nccl", "hierarchical_copy", "reduction_to_one", "ring"] = (
        setting(
            "auto",
            "How gradients are summed over devices: mirrored knows the first four, "
            "multi_worker_mirrored auto, nccl and ring.",
            resumable=True,
        )
    )
    num_logical_devices: int = setting(
        0,
        "Devices that the CPU is made into, to try mirrored without GPUs; 0: it stays one.",
        minimum=0,
        maximum=64,
        resumable=True,
    )
    deterministic: bool = setting(
        False,
        "Whether operations of GPUs that add in any order are replaced by slower ones that do not; "
        "on CPUs runs repeat themselves anyway.",
        resumable=True,
    )
    run_eagerly: bool = setting(False, "Whether to run without graphs (slow).", resumable=True)
    patience: int = setting(
        0,
        "Epochs without a better bound before training stops; 0: never.",
        minimum=0,
        resumable=True,
    )
    profile_steps: str = setting(
        "", "Steps to profile, as first,last; empty: none.", resumable=True
    )
    keep_checkpoints: int = setting(2, "Checkpoints kept.", minimum=1, resumable=True)
    checkpoint_every_steps: int = setting(
        0,
        "Updates after which there is a checkpoint within an epoch too; 0: only at its end.",
        minimum=0,
        resumable=True,
    )
    max_skipped_updates: int = setting(
        100,
        "Updates skipped one after another, as they were not finite, at which training stops and "
        "says why; 0: never.",
        minimum=0,
        resumable=True,
    )
    summary_samples: int = setting(
        16, "For TensorBoard, each epoch (of sound, music, text: 4).", minimum=0, resumable=True
    )


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """All settings of an experiment.

    Raises:
        UserError: settings that do not go together.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        check(self)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The settings by section, ready for `json.dump`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ExperimentConfig":
        """The inverse of `to_json`. What is missing takes its default, so old runs stay readable.

        Raises:
            UserError: an unknown name, or a value that is not allowed.
        """
        sections: dict[str, Any] = {}
        unknown = [name for name in values if name not in _SECTIONS]
        for name, section in _SECTIONS.items():
            entries = values.get(name, {})
            if not isinstance(entries, Mapping):
                raise UserError(f"{name} is {entries!r}; it must hold settings by name")
            known = {field.name for field in dataclasses.fields(section)}
            unknown += [f"{name}.{entry}" for entry in entries if entry not in known]
            sections[name] = section(**{key: entries[key] for key in known & entries.keys()})
        if unknown:
            raise UserError(
                f"unknown settings: {', '.join(unknown)}; remove them, "
                "or use the version of this library that wrote them"
            )
        return cls(**sections)

    def differences(self, other: "ExperimentConfig", ignore: Collection[str] = ()) -> list[str]:
        """Settings in which another configuration differs, as `name: this value -> other value`."""
        here, there = self.to_json(), other.to_json()
        return [
            f"{name}: {_shown(here[section][name])} -> {_shown(there[section][name])}"
            for section, field in settings()
            if (name := field.name) not in ignore and here[section][name] != there[section][name]
        ]


def _shown(value: object) -> str:
    return as_text(value) or "(empty)"


_SECTIONS: dict[str, type[Section]] = {
    field.name: field.type
    for field in dataclasses.fields(ExperimentConfig)
    if isinstance(field.type, type)
}


def settings() -> Iterator[tuple[str, Field]]:
    """Each setting, as the name of its section and its field, in order."""
    for name, section in _SECTIONS.items():
        for field in dataclasses.fields(section):
            yield name, field


def resumable() -> frozenset[str]:
    """Names of the settings that may change when a run is resumed."""
    return frozenset(field.name for _, field in settings() if field.metadata["resumable"])


def define_flags(
    only: Collection[str] | None = None, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines one flag for each setting, or for those in `only`; a second call changes nothing."""
    for _, field in settings():
        name = field.name
        ours = name in flag_values and flag_values.find_module_defining_flag(name) == __name__
        if not ours and (only is None or name in only):
            define_flag(field, flag_values)


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> ExperimentConfig:
    """The configuration that the parsed flags ask for; a setting without a flag takes its default.

    Raises:
        UserError: a value that is not allowed, or settings that do not go together.
    """
    values: dict[str, dict[str, Any]] = {}
    for section, field in settings():
        if field.name in flag_values:
            values.setdefault(section, {})[field.name] = getattr(flag_values, field.name)
    return ExperimentConfig.from_json(values)


def to_flags_text(config: ExperimentConfig) -> str:
    """One line for each flag, such that `--flagfile` gives the same configuration again."""
    values = config.to_json()
    return "".join(f"--{f.name}={as_text(values[section][f.name])}\n" for section, f in settings())
