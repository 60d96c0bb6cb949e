"""A small experiment on synthetic data, which needs no files."""

import dataclasses

import pytest

from zforcing_tf.config import (
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
)


@pytest.fixture
def experiment(tmp_path):
    return ExperimentConfig(
        data=DataConfig(dataset="linear_gaussian"),
        model=ModelConfig(recurrent_size=6, latent_size=2, embedding_size=4, hidden_size=5),
        objective=ObjectiveConfig(
            kl_weight_start=0.2,
            kl_weight_step=0.1,
            auxiliary_weight_start=0.01,
            auxiliary_weight_end=0.01,
        ),
        run=RunConfig(run_dir=str(tmp_path / "run"), batch_size=300, train_epochs=2),
    )


@pytest.fixture
def changed():
    """A configuration with other run settings."""

    def change(experiment, **settings):
        return dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, **settings))

    return change
