"""The experiments: each file is complete in itself, and those of a family differ as they say.

A file is called `<family>_<model>[_<variant>]...`; a family has one data set, prepared in one way.
"""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest
from absl import flags

from zforcing_tf import config as configuration
from zforcing_tf import models
from zforcing_tf.config import ExperimentConfig, ModelConfig
from zforcing_tf.data.registry import dataset_names
from zforcing_tf.data.spec import DataKind, DataSpec

FOLDER = Path(__file__).resolve().parents[2] / "flags"
FILES = sorted(FOLDER.glob("*.flags"))
FAMILIES = {
    "blizzard": "blizzard",
    "digits": "digits",
    "imdb": "imdb_reviews",
    "jsb": "piano_roll",
    "linear_gaussian": "linear_gaussian",
    "mnist": "binarized_mnist",
    "mnist_pixels": "mnist",
    "mnist_rows": "mnist",
    "mnist_subset": "mnist",
    "muse": "piano_roll",
    "nottingham": "piano_roll",
    "piano": "piano_roll",
    "reviews": "text_file",
    "speech": "audio_folder",
    "spoken": "audio_folder",
    "timit": "timit",
}
KINDS: dict[str, DataKind] = {
    **dict.fromkeys(("audio_folder", "blizzard", "linear_gaussian", "timit"), "real"),
    **dict.fromkeys(("imdb_reviews", "text_file"), "symbol"),
}
SIZES = ("recurrent_size", "embedding_size", "hidden_size")
RUN = ("batch_size", "learning_rate", "train_epochs", "patience", "clip_norm")
VARIANTS = {
    "aux": ("auxiliary_weight_", "backward_weight_"),
    "discretised": ("emission", "mixture_components", "sample_bits", "sound_scale"),
    "kla": ("kl_weight_",),
}
"""Beginnings of the settings that a part of a name stands for; of others it may be any."""
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@functools.cache
def parsed(file: Path) -> ExperimentConfig:
    values = flags.FlagValues()
    configuration.define_flags(flag_values=values)
    assert values(["program", f"--flagfile={file}"]) == ["program"]
    return configuration.from_flags(values)


def parts(file: Path) -> tuple[str, str, frozenset[str]]:
    """Family, model and variants in the name of a file."""
    family = max((name for name in FAMILIES if file.stem.startswith(f"{name}_")), key=len)
    model, *variants = file.stem.removeprefix(f"{family}_").split("_")
    return family, model, frozenset(variants)


def settings(file: Path) -> dict[str, Any]:
    sections = parsed(file).to_json().values()
    return {name: value for section in sections for name, value in section.items()}


def changes(file: Path) -> dict[str, Any]:
    """Settings in which a file differs from that without variants."""
    family, model, _ = parts(file)
    base = settings(FOLDER / f"{family}_{model}.flags")
    return {name: value for name, value in settings(file).items() if value != base[name]}


def test_there_are_some():
    assert len(FILES) >= 5
    packaged = resources.files("flags").iterdir()
    assert {entry.name for entry in packaged} >= {file.name for file in FILES}


@each_file
def test_a_file_says_all_and_says_it_once(file):
    """Comments at the start of a line, no file in a file, no setting twice, a known dataset."""
    lines = [line for line in file.read_text().splitlines() if line]
    names = [line.partition("=")[0] for line in lines if not line.startswith("#")]
    assert lines[0].startswith("# ")
    assert all(name.startswith("--") and name != "--flagfile" for name in names)
    assert len(set(names)) == len(names)
    family, model, _ = parts(file)
    assert f"--dataset={FAMILIES[family]}" in lines and f"--model={model}" in lines
    assert FAMILIES[family] in dataset_names()
    assert model in get_args(ModelConfig.__annotations__["model"]) or model in models.MODELS


@each_file
def test_a_model_is_built_from_it(file):
    config = parsed(file)
    # Random matrices of the paper's sizes take minutes for all files together.
    small = {name: min(getattr(config.model, name), 24) for name in (*SIZES, "latent_size")}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **small))
    spec = DataSpec(config.data.dataset, KINDS.get(config.data.dataset, "binary"), 4, 3)
    model = models.build(config, spec)
    assert model.name == config.model.model
    assert bool(model.cell.latent_size) == (config.model.model != "rnn")


@each_file
def test_a_family_shares_data_sizes_and_training(file):
    family, model, variants = parts(file)
    found = settings(file)
    for other in FILES:
        if parts(other)[0] != family:
            continue
        same = [*parsed(file).to_json()["data"], *SIZES, *RUN]
        same += ["latent_size"] * ("rnn" not in (model, parts(other)[1]))
        for name in same:
            assert name in {**changes(file), **changes(other)} or (
                settings(other)[name] == found[name]
            ), f"{other.stem}: {name}"


@each_file
def test_variants_change_what_their_names_say(file):
    """One variant changes its settings, the same everywhere; two change those of both."""
    family, _, variants = parts(file)
    found = changes(file)
    assert bool(found) == bool(variants)
    if variants <= VARIANTS.keys():
        allowed = tuple(prefix for variant in variants for prefix in VARIANTS[variant])
        assert all(name.startswith(allowed) for name in found)
        for variant in variants:
            assert any(name.startswith(VARIANTS[variant]) for name in found), variant
    for other in FILES:
        if parts(other)[0] == family and parts(other)[2] <= variants:
            assert changes(other).items() <= found.items(), other.stem


def test_the_table_lists_each_file():
    table = (FOLDER / "README.md").read_text()
    for file in FILES:
        assert f"`{file.name}`" in table, file.name
