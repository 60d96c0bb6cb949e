"""Settings that do not go together, each with a sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zforcing_tf.errors import UserError

if TYPE_CHECKING:
    from zforcing_tf.config import ExperimentConfig


def check(config: ExperimentConfig) -> None:
    """UserError if settings exclude each other, or one has no effect without another."""
    for name in ("kl_weight", "auxiliary_weight", "backward_weight"):
        _check_schedule(config, name)
    model = config.model
    _check_data(config)
    if config.objective.bound != "elbo" and config.objective.num_samples == 1:
        raise UserError(
            f"--bound={config.objective.bound} with --num_samples=1 is the elbo: give "
            "--num_samples of 2 or more"
        )
    if model.autoregressive_hidden_size and not model.autoregressive_emission:
        raise UserError(
            f"--autoregressive_hidden_size={model.autoregressive_hidden_size} has no effect "
            "without --autoregressive_emission: give both or neither"
        )
    _check_run(config)


def _check_data(config: ExperimentConfig) -> None:
    data, run = config.data, config.run
    for flag, given in {
        "--carry_state": data.carry_state,
        "--chunk_evaluation": data.chunk_evaluation,
    }.items():
        if given and not data.chunk_length:
            raise UserError(f"{flag} needs pieces: give a --chunk_length above 0, such as 40")
    if data.forget_probability and not data.carry_state:
        raise UserError(
            f"--forget_probability={data.forget_probability:g} has no effect without "
            "--carry_state: give both or neither"
        )
    if data.chunk_length == 1 and not (data.carry_state or data.score_first_frame):
        raise UserError(
            "--chunk_length=1 with --noscore_first_frame leaves nothing to score, as the first "
            "frame of each piece is only given: give longer pieces, or --carry_state"
        )
    window = config.model.posterior_window
    if window and data.chunk_length % window:
        raise UserError(
            f"--posterior_window={window} does not divide --chunk_length={data.chunk_length}, so "
            "that windows in training would not be those in scoring: give a divisor, or that"
        )
    for flag, given in {
        "--recompute": run.recompute,
        "--cudnn_encoder": run.cudnn_encoder,
    }.items():
        if window and given:
            raise UserError(
                f"{flag} does not work with --posterior_window={window}, whose windows the network "
                "that runs backward goes through side by side: leave out one of them"
            )
    others = {
        "--bound=elbo": config.objective.bound == "elbo",
        "--norecompute": not run.recompute,
        "--nocudnn_encoder": not run.cudnn_encoder,
        "--distribution_strategy=off": run.distribution_strategy in ("off", "one_device"),
        "--bucket_batches=0": not run.bucket_batches,
    }
    missing = [flag for flag, given in others.items() if not given]
    if data.carry_state and missing:
        raise UserError(f"--carry_state works with {missing[0]} only: give that, or leave it out")


def _check_run(config: ExperimentConfig) -> None:
    model, run = config.model, config.run
    spread = run.distribution_strategy in ("mirrored", "multi_worker_mirrored")
    if run.num_gpus > 1 and not spread:
        raise UserError(
            f"--num_gpus={run.num_gpus} needs --distribution_strategy=mirrored, "
            f"not {run.distribution_strategy}"
        )
    if run.num_logical_devices > 1 and run.distribution_strategy != "mirrored":
        raise UserError(
            f"--num_logical_devices={run.num_logical_devices} needs "
            f"--distribution_strategy=mirrored, not {run.distribution_strategy}"
        )
    if run.all_reduce_alg != "auto" and not spread:
        raise UserError(
            f"--all_reduce_alg={run.all_reduce_alg} has no effect with "
            f"--distribution_strategy={run.distribution_strategy}: leave it out"
        )
    if run.run_eagerly and run.distribution_strategy == "multi_worker_mirrored":
        raise UserError("--run_eagerly works in one process only: leave it out")
    alone = {
        f"--distribution_strategy={run.distribution_strategy}": spread,
        "--run_eagerly": run.run_eagerly,
    }
    for flag, given in alone.items():
        if given and run.steps_per_execution > 1:
            raise UserError(
                f"--steps_per_execution={run.steps_per_execution} does not work with {flag}, "
                "where each step is an execution of its own: leave it at 1"
            )
    if run.concurrent_parts > run.batch_size:
        raise UserError(
            f"--concurrent_parts={run.concurrent_parts} leaves parts without a sequence, as "
            f"--batch_size={run.batch_size}: give at most that"
        )
    others = {
        "--enable_xla=off": run.enable_xla == "off",
        "--core=lstm": model.core == "lstm",
        "--distribution_strategy=off": run.distribution_strategy == "off",
        "--norecompute": not run.recompute,
        "--dtype=float32": run.dtype == "float32",
    }
    missing = [flag for flag, given in others.items() if not given]
    if run.cudnn_encoder and missing:
        raise UserError(f"--cudnn_encoder works with {missing[0]} only: give that, or leave it out")
    if run.run_eagerly and run.enable_xla == "on":
        raise UserError("--run_eagerly and --enable_xla exclude each other: give one of them")
    if run.profile_steps:
        first, comma, last = run.profile_steps.partition(",")
        digits = first.isdecimal() and last.isdecimal()
        if not (comma and digits and 1 <= int(first) <= int(last)):
            raise UserError(
                f"--profile_steps={run.profile_steps} is not possible; "
                "give the first and the last step, such as 10,20"
            )


def _check_schedule(config: ExperimentConfig, name: str) -> None:
    start, end, step = (
        getattr(config.objective, f"{name}_{part}") for part in ("start", "end", "step")
    )
    if start != end and not step:
        raise UserError(
            f"--{name}_start={start} never becomes --{name}_end={end}: give a --{name}_step above 0"
        )
