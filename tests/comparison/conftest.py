"""Run directories made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.comparison.reading import MakeRun
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.training.history import History


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run directory; returns its path."""

    def make(
        name: str,
        elbo: float | None = -20.0,
        settings: dict[str, Any] | None = None,
        content: dict[str, float] | None = None,
        **scores: Any,
    ) -> str:
        run = tmp_path / name
        run.mkdir(parents=True)
        config: dict[str, dict[str, Any]] = json.loads(json.dumps(ExperimentConfig().to_json()))
        for setting, value in (settings or {}).items():
            section = next((s for s, entries in config.items() if setting in entries), "objective")
            config[section][setting] = value
        config["run"]["run_dir"] = str(run)
        (run / "config.json").write_text(json.dumps(config))
        test = {
            "num_sequences": 180,
            "num_samples": 1,
            "elbo": elbo,
            "elbo_standard_error": 0.25,
            "nats_per_step": None if elbo is None else elbo / 4,
            "bits_per_dim": 0.5,
            "kl_per_step": 0.75,
            "active_units": 28,
            **scores,
        }
        results = {
            "model": config["model"]["model"],
            "dataset": "digits",
            "seed": config["run"]["seed"],
            "parameters": 101_968,
            "epochs": 4,
            "best_epoch": 3,
            "step": 135,
            "seconds": 10.0,
            "validation": {**test, "elbo": -19.0},
            "test": {key: value for key, value in test.items() if value != "absent"},
        }
        (run / "results.json").write_text(json.dumps(results))
        if content is not None:
            found = {split: {"steps": 720, "sum": value} for split, value in content.items()}
            (run / "data.json").write_text(json.dumps({"name": name, "content": found}))
        history = History(run / "history.csv")
        for epoch, bound in enumerate((-90.0, -25.0, -20.0, -21.0), 1):
            history.append(epoch, 45 * epoch, {"elbo": bound + 1}, {"elbo": bound})
        return str(run)

    return make
