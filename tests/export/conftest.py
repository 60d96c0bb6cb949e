"""A run that can be exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import model_factory
from zforcing_tf import models
from zforcing_tf.data import registry
from zforcing_tf.training.checkpoint import Checkpoints, Progress
from zforcing_tf.training.json_files import write_json
from zforcing_tf.training.run_directory import RunDirectory

STEP = 42


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as training leaves it, but for the training."""
    path = tmp_path_factory.mktemp("runs") / "first"
    config = model_factory.experiment("auto", dataset="linear_gaussian", run_dir=str(path))
    spec = registry.load(config.data).spec
    run = RunDirectory(path)
    with run.lock():
        run.open_for_training(config)
    write_json(run.data, spec.to_json())
    model = models.build(config, spec)
    model.compile(optimizer=models.optimizer(config, model), jit_compile=False)
    for kind, step in (("best", STEP), ("last", STEP + 1)):
        model_factory.randomise(model, seed=step)
        model.step_counter.assign(step)
        Checkpoints(run.checkpoints, model).save(kind, Progress())
    run.write_results({"best_epoch": 3})
    return path
