"""The conformance matrix: each model x what one does with a model, with each bound somewhere.

| what | where it is shown for all five models |
| --- | --- |
| equations | tests/cells, tests/reference; without a latent each is the RNN: test_bound.py |
| padding, rows, streaming, samples | test_properties.py, `each_case` |
| XLA, float64, bfloat16, gradient by hand | test_properties.py and test_filter.py, `each_part...` |
| bounds as estimates of a distribution | test_bound.py, test_filter.py |
| checkpoint, .keras file, SavedModel, replicas, dynamic shapes, low precision in training | here |
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import bare_process
from export.saved_model import write_model
from export.signatures import listing, serving_module
from tests import model_factory as factory
from tests.slowly import slow_unless
from zforcing_tf.data import pipeline
from zforcing_tf.data.spec import Split

IWAE: dict[str, Any] = {"bound": "iwae", "num_samples": 3}
FIVO: dict[str, Any] = {"bound": "fivo", "num_samples": 3}
MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("gaussian_mixture", {"dropout": 0.2}),
    "storn": ("gaussian", {**IWAE, "dropout": 0.2}),
    "vrnn": ("bernoulli", {**FIVO, "autoregressive_emission": True, "resampling": "always"}),
    "srnn": ("gaussian", {**FIVO, "core": "gru", "resampling_scheme": "multinomial"}),
    "zforcing": ("categorical", {**IWAE, **factory.AIDED}),
}
# What takes up to a minute; `make slow` has the other four.
each_model_slowly = pytest.mark.parametrize(
    "name", [slow_unless(name == "zforcing", name) for name in MATRIX]
)
LENGTHS = (5, 2, 4, 1, 3, 5, 5, 2, 1)


def trainable(name: str, **more: Any) -> Any:
    emission, settings = MATRIX[name]
    return factory.trainable(emission, **{"learning_rate": 0.01, **settings, **more, "model": name})


def train(model: Any, name: str, epochs: int = 2) -> dict[str, float]:
    """Batches of 4, 4 and 1 sequences, so that one of two replicas has nothing to do at times."""
    batch = factory.batch(MATRIX[name][0], LENGTHS)
    data = Split.from_padded("train", batch["x"], batch["lengths"])
    history: dict[str, float] = {}
    for epoch in range(epochs):
        batches = pipeline.training_batches(data, 4, seed=1, epoch=epoch)
        found = model.fit(batches, shuffle=False, verbose=0).history
        history = {metric: values[-1] for metric, values in found.items()}
    return history


def validate(model: Any, name: str) -> dict[str, float]:
    batch = factory.batch(MATRIX[name][0], LENGTHS, seed=5)
    data = Split.from_padded("validation", batch["x"], batch["lengths"])
    batches = pipeline.evaluation_batches(data, 4)
    return model.evaluate(batches, verbose=0, return_dict=True)


@each_model_slowly
def test_two_replicas_are_one_device(name):
    results = []
    for replicas in (1, 2):
        with factory.two_replicas().scope() if replicas == 2 else contextlib.nullcontext():
            model = trainable(name)
        start = factory.weights_of(model)
        logs = train(model, name)
        results.append((start, factory.weights_of(model), logs, validate(model, name)))
    (start, one, logs, validation), (_, two, other_logs, other_validation) = results
    assert max(np.abs(a - b).max(initial=0) for a, b in zip(start, one, strict=True)) > 1e-3
    for ours, expected in zip(two, one, strict=True):
        np.testing.assert_allclose(ours, expected, atol=5e-6, rtol=0)
    for ours, expected in ((other_logs, logs), (other_validation, validation)):
        assert ours.keys() == expected.keys()
        for metric, value in expected.items():
            np.testing.assert_allclose(ours[metric], value, rtol=1e-4, atol=1e-5, err_msg=metric)
    assert ("bound" in validation) == (name != "rnn")
    if "bound" in validation:
        assert validation["bound"] != validation["elbo"]


@each_model_slowly
def test_checkpoint_and_keras_file_go_on_as_if_nothing_had_happened(name, tmp_path):
    model = trainable(name)
    train(model, name, epochs=1)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "c"))
    model.save(tmp_path / "model.keras")
    restored, loaded = trainable(name), keras.models.load_model(tmp_path / "model.keras")
    factory.randomise(restored, seed=9)
    checkpoint = tf.train.Checkpoint(model=restored, optimizer=restored.optimizer)
    checkpoint.read(path).assert_existing_objects_matched().assert_consumed()
    assert loaded.get_config() == model.get_config() and loaded.bound == model.bound
    train(model, name, epochs=1)
    for other in (restored, loaded):
        train(other, name, epochs=1)
        for ours, expected in zip(
            factory.weights_of(other), factory.weights_of(model), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)


@each_model_slowly
def test_saved_model(name, tmp_path):
    """Loaded again, its signatures give what the Python model gives."""
    model = trainable(name)
    module, signatures = serving_module(model)
    write_model(module, signatures, tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert bare_process.listing(loaded) == listing(signatures)
    batch = factory.batch(MATRIX[name][0])
    seed = np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    inputs = {k: tf.constant(v) for k, v in (batch | {"seed": seed}).items()}
    scores = model.score(**batch, seed=seed)
    np.testing.assert_allclose(loaded["score"](**inputs)["elbo"], scores.elbo, rtol=1e-5)
    latents = model.encode(**batch, seed=seed)
    found = loaded["encode"](**inputs)
    np.testing.assert_allclose(found["latent_loc"], latents.loc, rtol=1e-4, atol=1e-5)
    mean = model.reconstruct(**batch, seed=seed)
    np.testing.assert_allclose(loaded["reconstruct"](**inputs)["x_mean"], mean, atol=1e-5)
    drawn = loaded["generate"](
        num_steps=tf.constant([4, 4, 4]), seed=inputs["seed"], temperature=tf.fill([3], 0.5)
    )
    expected = model.generate(4, seed=seed, temperature=0.5)
    np.testing.assert_allclose(drawn["x"], expected, atol=1e-5)


@each_model_slowly
def test_one_graph_serves_all_shapes(name):
    model = trainable(name)
    step = tf.function(model.train_step, autograph=False, reduce_retracing=True)
    for lengths in ((5, 2, 4), (1,), (3, 3), (7, 1, 2, 2)):
        batch = factory.batch(MATRIX[name][0], lengths)
        specs = {k: tf.TensorSpec([None] * v.ndim, v.dtype) for k, v in batch.items()}
        specs["x"] = tf.TensorSpec([None, None, *batch["x"].shape[2:]], batch["x"].dtype)
        graph = step.get_concrete_function(specs)
        logs = graph({k: tf.constant(v) for k, v in batch.items()})
        assert all(np.isfinite(value) for value in logs.values())
    assert int(model.step_counter.numpy()) == 4
    assert step.experimental_get_tracing_count() == 1
    for lengths in ((5, 2), (1, 1, 1), (6,)):
        batch = factory.batch(MATRIX[name][0], lengths)
        assert model.score(**batch).elbo.shape == model.fivo(**batch).shape == (len(lengths),)
    assert model._answers.score.experimental_get_tracing_count() == 1


@each_model_slowly
def test_low_precision_trains(name):
    model = trainable(name, dtype="mixed_bfloat16", learning_rate=0.02)
    first = train(model, name, epochs=1)
    last = train(model, name, epochs=15)
    assert last["skipped_updates"] == 0 and np.isfinite(last["loss"])
    assert last["loss"] < first["loss"]
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
