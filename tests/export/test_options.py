"""Options of an export: other precision, fewer versions, a card, requests to warm up with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from export import staging, warmup
from export.bare_process import listing
from export.model_card import Exported, model_card
from export.saved_model import export
from tests import model_factory
from tests.export.conftest import STEP
from tests.export.served import request, served
from zforcing_tf.data.description import Text
from zforcing_tf.data.spec import DataSpec


@pytest.fixture(scope="module")
def exported(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "small"
    return export(run_dir, folder, iwae_samples=4)


def test_a_tighter_bound_as_a_signature(exported: Path) -> None:
    signatures = tf.saved_model.load(str(exported)).signatures
    x = np.zeros((2, 5, 3), np.float32)
    inputs = {
        "x": tf.constant(x),
        "lengths": tf.constant([5, 3]),
        "seed": tf.constant([[0, 1], [0, 2]]),
    }
    assert signatures["score_iwae"](**inputs)["iwae"].shape == (2,)


def test_beside_the_model_lies_what_it_is(exported: Path) -> None:
    extra = exported / "assets.extra"
    names = {path.name for path in extra.iterdir()}
    assert names == {
        *("MODEL_CARD.md", "config.json", "data.json", "export.json", "results.json"),
        "signatures.json",
        warmup.FILE,
    }
    card = (extra / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# zforcing on linear_gaussian, version {STEP}\n")
    assert "score_iwae" in card and "--dataset=linear_gaussian" in card
    assert "run_dir" not in card and str(exported.parent.parent) not in card


def test_a_card_says_what_the_run_reached() -> None:
    config = model_factory.experiment("categorical", model="vrnn", score_first_frame=False)
    text = Text(("</s>", "<unk>", "good"))
    spec = DataSpec("reviews", "symbol", 3, 1200, text=text)
    test = {"elbo": -12.5, "nats_per_step": -2.5, "kl_per_step": 0.25, "num_sequences": 17}
    results = {"parameters": 12345, "epochs": 9, "best_epoch": 7, "test": test}
    exported = Exported(3, 900, "best", "float32", "float32")
    card = model_card(config, spec, results, exported, "score ...")
    assert "VRNN (Chung et al. 2015), 12,345 parameters, trained for 9 epochs (best: 7)." in card
    assert "sequences of up to 1,200 steps, symbols of a vocabulary of 3: words of text." in card
    assert "| test | 17 | -12.500 | -2.500 | 0.250 |" in card
    assert "how a sequence begins it never learned" in card
    assert "after update 900 (checkpoint: best); the model computes in float32." in card
    assert "Not the weights" not in card
    assert "None are known" in model_card(config, spec, {}, exported, "")


def test_a_card_says_when_results_are_of_other_weights() -> None:
    results = {"test": {"elbo": -1.0, "step": 1350}, "validation": {"elbo": -2.0, "step": 900}}
    exported = Exported(3, 900, "last", "mixed_bfloat16", "float32")
    config, spec = model_factory.experiment(), model_factory.spec()
    card = model_card(config, spec, results, exported, "")
    assert "**Not the weights of this export**: test of update 1,350." in card
    assert "computed in float32, not in mixed_bfloat16" in card


@pytest.mark.slow
def test_in_another_precision(run_dir: Path, tmp_path: Path) -> None:
    path = export(run_dir, tmp_path, dtype="float64")
    found = listing(tf.saved_model.load(str(path)).signatures)
    assert found["score"]["outputs"]["elbo"]["dtype"] == "float64"
    path = export(run_dir, tmp_path, dtype="mixed_bfloat16", version=7)
    found = listing(tf.saved_model.load(str(path)).signatures)
    assert found["score"]["outputs"]["elbo"]["dtype"] == "float32"


def make(folder: Path, *names: str, marked: bool = True) -> None:
    for name in names:
        mark = folder / name / staging.MARK
        mark.parent.mkdir(parents=True)
        if marked:
            mark.write_text("{}")


@pytest.mark.parametrize(
    ("keep", "gone"), [(0, []), (1, ["1", "8", "20"]), (2, ["1", "8"]), (3, ["1"]), (9, [])]
)
def test_the_oldest_go(tmp_path: Path, keep: int, gone: list[str]) -> None:
    make(tmp_path, "1", "8", "20", "100", "300", "mine", ".staging-5-host-1")
    make(tmp_path, "3", marked=False)  # of somebody else
    before = {path.name for path in tmp_path.iterdir()}
    staging.remove_older(tmp_path, 100, keep)
    assert {path.name for path in tmp_path.iterdir()} == before - set(gone)


def test_requests_to_warm_up_with_are_answered(tmp_path: Path) -> None:
    """Replayed through a session, as a server has it."""
    from tensorflow_serving.apis import prediction_log_pb2

    from export.cases import cases

    one, right = served(), request(served())
    found = list(cases(one.model, right["x"], right["lengths"]))
    assert warmup.write_warmup(tmp_path, "small", found, 3)
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(tmp_path / warmup.FILE))
    ]
    signatures = set(one.signatures) - {"serving_default"}
    assert len(records) == len(signatures) * len(warmup.ROWS) <= 1000
    asked: dict[str, list[int]] = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(one.path))
        for record in records:
            wanted = record.predict_log.request
            assert wanted.model_spec.name == "small"
            name = wanted.model_spec.signature_name
            spec = meta.signature_def[name]
            inputs = {k: tf.make_ndarray(v) for k, v in wanted.inputs.items()}
            feeds = {spec.inputs[k].name: v for k, v in inputs.items()}
            answers = session.run({k: v.name for k, v in spec.outputs.items()}, feeds)
            rows = len(next(iter(inputs.values())))
            assert {len(value) for value in answers.values()} == {rows}
            asked.setdefault(name, []).append(rows)
    assert asked == {name: list(warmup.ROWS) for name in signatures}


def test_requests_to_warm_up_with_are_short() -> None:
    from export.cases import Case

    x, samples = np.zeros((2, 99, 3), np.float32), np.zeros((2, 200), np.float32)
    long = {"x": x, "lengths": np.array([99, 4], np.int32), "temperature": np.ones(2)}
    sound = {"samples": samples, "num_samples": np.array([200, 7], np.int32)}
    cases = [Case("a batch", "score", long, {}), Case("sound", "score_audio", sound, {})]
    found = {
        (name, len(v["lengths" if "x" in v else "num_samples"])): v
        for name, v in warmup.requests(cases, 3)
    }
    score, audio = found["score", 4], found["score_audio", 4]
    assert score["x"].shape == (4, warmup.STEPS, 3)
    assert score["lengths"].tolist() == [16, 4, 16, 4]
    assert audio["samples"].shape == (4, 48)
    assert audio["num_samples"].tolist() == [48, 7, 48, 7]


def test_without_the_messages_of_the_server_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", missing)
    assert not warmup.write_warmup(tmp_path, "small", [], 3)
    assert "pip install 'zforcing-tf[serving]'" in caplog.text
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"
