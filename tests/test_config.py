"""Settings: their checks, their flags, JSON, and what may change between two starts of a run."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from absl import flags

from zforcing_tf import config
from zforcing_tf.config import (
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)
from zforcing_tf.errors import UserError

CHANGED = ExperimentConfig(
    DataConfig(dataset="synthetic", data_dir="/data/with space", rows_per_step=0, max_length=7),
    ModelConfig(
        recurrent_size=5,
        latent_size=3,
        condition="layer_norm",
        auxiliary_sees_state=True,
        emission="gaussian_mixture",
        dropout=0.25,
    ),
    ObjectiveConfig(0.2, 1.0, 5e-5, 0.0025, 0.0025, 0.0, 0.1, 0.0, 1e-7),
    OptimizerConfig(learning_rate=1 / 3, adam_beta_2=0.99),
    RunConfig(run_dir="runs/a", seed=2**31 - 1, enable_xla=True, profile_steps="10,20"),
)


def parsed(*arguments: str, only: list[str] | None = None) -> flags.FlagValues:
    values = flags.FlagValues()
    config.define_flags(only, flag_values=values)
    values(["program", *arguments])
    return values


def test_each_setting_has_one_flag_with_its_name_default_and_help() -> None:
    values = parsed()
    names = [field.name for _, field in config.settings()]
    assert len(names) == len(set(names)) == len(list(values))
    for _, field in config.settings():
        flag = values[field.name]
        assert flag.default == field.default
        assert field.metadata["help"] in flag.help
        assert field.metadata["help"].endswith(".")
        assert flag.boolean == (field.type is bool or field.metadata["switch"])
        assert tuple(getattr(flag.parser, "enum_values", ())) == get_args(field.type)
    assert list(values.flags_by_module_dict()) == ["zforcing_tf.config"]


def test_without_arguments_flags_give_the_defaults() -> None:
    assert config.from_flags(parsed()) == ExperimentConfig()


def test_arguments_reach_their_settings() -> None:
    arguments = ("--model=rnn", "--noenable_xla", "--auxiliary_sees_state", "--clip_norm=3")
    result = config.from_flags(parsed(*arguments))
    assert result.model == ModelConfig(model="rnn", auxiliary_sees_state=True)
    assert result.optimizer.clip_norm == 3.0
    assert result.run == RunConfig()


def test_flags_text_is_a_flagfile_of_the_same_configuration(tmp_path: Path) -> None:
    file = tmp_path / "flags.txt"
    for experiment in (ExperimentConfig(), CHANGED):
        file.write_text(config.to_flags_text(experiment))
        assert config.from_flags(parsed(f"--flagfile={file}")) == experiment
    later = config.from_flags(parsed(f"--flagfile={file}", "--seed=3"))
    assert CHANGED.differences(later) == ["seed: 2147483647 -> 3"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "off"),
        (("--enable_xla",), "on"),
        (("--noenable_xla",), "off"),
        (("--enable_xla", "--noenable_xla"), "off"),
        (("--enable_xla=true",), "on"),
        (("--enable_xla=False",), "off"),
        (("--enable_xla=on",), "on"),
        (("--enable_xla=off",), "off"),
        (("--enable_xla=auto", "--seed=3"), "auto"),
    ],
)
def test_a_choice_that_was_a_switch_is_still_given_as_one(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    """As are settings that a version wrote in which it was one."""
    assert config.from_flags(parsed(*arguments)).run.enable_xla == expected
    file = tmp_path / "flags.txt"
    file.write_text("\n".join(arguments))
    assert config.from_flags(parsed(f"--flagfile={file}")).run.enable_xla == expected
    with pytest.raises(flags.IllegalFlagValueError):
        parsed("--enable_xla=maybe")


@pytest.mark.parametrize(("written", "read"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_json_of_a_choice_that_was_a_switch(written: Any, read: str) -> None:
    assert ExperimentConfig.from_json({"run": {"enable_xla": written}}).run.enable_xla == read
    with pytest.raises(UserError, match="--enable_xla=1 is not possible; give one of off, on"):
        ExperimentConfig.from_json({"run": {"enable_xla": 1}})


def test_json_round_trip() -> None:
    for experiment in (ExperimentConfig(), CHANGED):
        text = json.dumps(experiment.to_json(), allow_nan=False)
        assert ExperimentConfig.from_json(json.loads(text)) == experiment


def test_what_an_older_version_did_not_write_takes_its_default() -> None:
    values = CHANGED.to_json()
    del values["objective"]
    del values["model"]["dropout"]
    result = ExperimentConfig.from_json(values)
    assert result.objective == ObjectiveConfig()
    assert result.model == dataclasses.replace(CHANGED.model, dropout=0.0)
    assert ExperimentConfig.from_json({}) == ExperimentConfig()


def test_unknown_names_in_json_are_all_named() -> None:
    with pytest.raises(UserError, match=r"unknown settings: speed, model\.depth, run\.mood; "):
        ExperimentConfig.from_json({"speed": 1, "model": {"depth": 3}, "run": {"mood": "good"}})
    with pytest.raises(UserError, match=r"model is \[1\]; it must hold settings by name"):
        ExperimentConfig.from_json({"model": [1]})


@pytest.mark.parametrize(
    ("section", "name", "value", "allowed"),
    [
        (ModelConfig, "model", "lstm", "one of rnn, storn, vrnn, srnn, zforcing"),
        (ModelConfig, "recurrent_size", 0, "a whole number, at least 1"),
        (ModelConfig, "recurrent_size", 1.5, "a whole number, at least 1"),
        (ModelConfig, "recurrent_size", True, "a whole number, at least 1"),
        (ModelConfig, "recurrent_size", "8", "a whole number, at least 1"),
        (ModelConfig, "latent_size", -1, "a whole number, at least 0"),
        (ModelConfig, "dropout", 1.0, "a number, at least 0, below 1"),
        (ModelConfig, "dropout", None, "a number, at least 0, below 1"),
        (ModelConfig, "emission_skip", 1, "true or false"),
        (ObjectiveConfig, "kl_weight_end", -0.1, "a number, at least 0"),
        (ObjectiveConfig, "kl_weight_end", float("nan"), "a number, at least 0"),
        (OptimizerConfig, "learning_rate", 0, "a number, above 0"),
        (OptimizerConfig, "learning_rate", float("inf"), "a number, above 0"),
        (OptimizerConfig, "adam_beta_2", 1, "a number, above 0, below 1"),
        (RunConfig, "dtype", "float16", "one of float32, float64, mixed_bfloat16, mixed_float16"),
        (RunConfig, "seed", 2**31, "a whole number, at least 0, at most 2147483647"),
        (RunConfig, "run_dir", "a\nb", "one line of text"),
        (RunConfig, "run_dir", " a", "one line of text"),
        (RunConfig, "run_dir", None, "one line of text"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    section: type, name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(UserError) as caught:
        section(**{name: value})
    given = str(value).lower() if isinstance(value, bool) else value
    shown = str(float(value)) if section is OptimizerConfig else given
    assert str(caught.value) == f"--{name}={shown} is not possible; give {allowed}"


def test_bounds_themselves_are_allowed_where_they_are_inclusive() -> None:
    assert ModelConfig(dropout=0.0, latent_size=0, recurrent_size=1).dropout == 0.0
    assert RunConfig(seed=2**31 - 1).seed == 2**31 - 1


def test_whole_numbers_become_floats_where_a_float_belongs() -> None:
    rate = OptimizerConfig(learning_rate=1).learning_rate
    assert isinstance(rate, float) and rate == 1.0


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"objective": {"kl_weight_start": 0.2}},
            "--kl_weight_start=0.2 never becomes --kl_weight_end=1.0: "
            "give a --kl_weight_step above 0",
        ),
        (
            {"model": {"model": "rnn"}, "objective": {"auxiliary_weight_start": 0.1}},
            "--auxiliary_weight_start=0.1 never becomes --auxiliary_weight_end=0.0: "
            "give a --auxiliary_weight_step above 0",
        ),
        (
            {"objective": {"bound": "fivo"}},
            "--bound=fivo with --num_samples=1 is the elbo: give --num_samples of 2 or more",
        ),
        (
            {"model": {"autoregressive_hidden_size": 8}},
            "--autoregressive_hidden_size=8 has no effect without --autoregressive_emission: "
            "give both or neither",
        ),
        (
            {"run": {"num_gpus": 2}},
            "--num_gpus=2 needs --distribution_strategy=mirrored, not off",
        ),
        (
            {"run": {"num_logical_devices": 2}},
            "--num_logical_devices=2 needs --distribution_strategy=mirrored, not off",
        ),
        (
            {"run": {"all_reduce_alg": "ring", "distribution_strategy": "one_device"}},
            "--all_reduce_alg=ring has no effect with --distribution_strategy=one_device: "
            "leave it out",
        ),
        (
            {"run": {"run_eagerly": True, "distribution_strategy": "multi_worker_mirrored"}},
            "--run_eagerly works in one process only: leave it out",
        ),
        (
            {"run": {"run_eagerly": True, "enable_xla": True}},
            "--run_eagerly and --enable_xla exclude each other: give one of them",
        ),
        *(
            (
                {"run": {"steps_per_execution": 4, **other}},
                f"--steps_per_execution=4 does not work with {flag}, where each step is an "
                "execution of its own: leave it at 1",
            )
            for flag, other in (
                ("--distribution_strategy=mirrored", {"distribution_strategy": "mirrored"}),
                ("--run_eagerly", {"run_eagerly": True}),
            )
        ),
        *(
            (
                {"run": {"profile_steps": steps}},
                f"--profile_steps={steps} is not possible; "
                "give the first and the last step, such as 10,20",
            )
            for steps in ("10", "20,10", "0,3", "a,b", "1,2,3", "1,-2")
        ),
    ],
)
def test_settings_that_do_not_go_together(
    sections: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        ExperimentConfig.from_json(sections)
    assert str(caught.value) == message


def test_settings_that_do_go_together() -> None:
    assert ExperimentConfig(model=ModelConfig(latent_size=0)).model.model == "zforcing"
    annealed = ObjectiveConfig(auxiliary_weight_start=0.1, auxiliary_weight_step=0.01)
    assert ExperimentConfig(objective=annealed).objective is annealed
    run = RunConfig(num_gpus=2, distribution_strategy="mirrored", profile_steps="3,3")
    assert ExperimentConfig(run=run).run is run
    run = RunConfig(all_reduce_alg="ring", distribution_strategy="multi_worker_mirrored")
    assert ExperimentConfig(run=run).run is run


def test_differences_name_the_setting_and_both_values() -> None:
    old = ExperimentConfig(run=RunConfig(run_dir="a"))
    new = ExperimentConfig(
        model=ModelConfig(recurrent_size=64, emission_skip=True), run=RunConfig(run_dir="")
    )
    differences = ["recurrent_size: 128 -> 64", "emission_skip: false -> true"]
    assert old.differences(new) == [*differences, "run_dir: a -> (empty)"]
    assert old.differences(new, ignore={"run_dir"}) == differences
    assert old.differences(old) == []


def test_what_may_change_on_resuming() -> None:
    assert config.resumable() == {
        "all_reduce_alg",
        "checkpoint_every_steps",
        "concurrent_parts",
        "cudnn_encoder",
        "deterministic",
        "data_dir",
        "manual_dir",
        "max_length",
        "distribution_strategy",
        "enable_xla",
        "eval_batch_size",
        "keep_checkpoints",
        "max_skipped_updates",
        "num_gpus",
        "num_logical_devices",
        "patience",
        "profile_steps",
        "recompute",
        "run_dir",
        "run_eagerly",
        "steps_per_execution",
        "summary_samples",
        "train_epochs",
    }


def test_flags_may_be_defined_twice_and_in_part() -> None:
    values = flags.FlagValues()
    config.define_flags(["run_dir"], flag_values=values)
    assert list(values) == ["run_dir"]
    config.define_flags(["run_dir", "seed"], flag_values=values)
    config.define_flags(["run_dir", "seed"], flag_values=values)
    values(["program", "--run_dir=x"])
    assert list(values) == ["run_dir", "seed"]
    assert config.from_flags(values) == ExperimentConfig(run=RunConfig(run_dir="x"))


def test_a_flag_of_somebody_else_is_not_taken_for_ours() -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("dataset", "", "Another's.", flag_values=values)
    with pytest.raises(flags.DuplicateFlagError, match="dataset"):
        config.define_flags(flag_values=values)


def test_unparsed_flags_are_not_read() -> None:
    values = flags.FlagValues()
    config.define_flags(flag_values=values)
    with pytest.raises(flags.UnparsedFlagAccessError):
        config.from_flags(values)


def test_a_flag_out_of_bounds_is_a_user_error() -> None:
    with pytest.raises(UserError, match="--batch_size=0 is not possible"):
        config.from_flags(parsed("--batch_size=0"))


def test_importing_the_configuration_imports_nothing_heavy() -> None:
    heavy = "{'tensorflow', 'tensorflow_datasets', 'keras', 'numpy'}"
    code = f"import sys, zforcing_tf.config; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
