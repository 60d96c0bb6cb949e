"""Two replicas do what one device does: two logical CPUs, the real pipeline, `fit` and `evaluate`.

Sequences have unequal lengths; the last batches do not divide: of 10 sequences in batches of 4 the
last has 2, of 9 it has 1, so that one replica has nothing to do. Dropout is on, clipping active.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from tests import model_factory as factory
from zforcing_tf.data import pipeline
from zforcing_tf.data.spec import Split
from zforcing_tf.sequence_model import SequenceModel

BATCH_SIZE = 4
LENGTHS = (5, 2, 4, 1, 3, 5, 5, 2, 1, 4)
MODELS: dict[str, dict[str, Any]] = {
    "gaussian": {**factory.VARIANTS["full"], "dropout": 0.3, "clip_norm": 0.5},
    "categorical": {**factory.VARIANTS["layer_norm"], "clip_norm": 0.5},
}
both = pytest.mark.parametrize("emission", MODELS)


class Record(NamedTuple):
    """What stands after a call of `fit`."""

    weights: list[np.ndarray]
    moments: list[np.ndarray]
    metrics: dict[str, float]


class Run(NamedTuple):
    """One model through all data, on one device or on two replicas."""

    start: list[np.ndarray]
    records: dict[str, Record]
    evaluated: dict[str, float]
    epochs: dict[str, int]
    steps: int


def split(emission: str, num_sequences: int, seed: int) -> Split:
    batch = factory.batch(emission, LENGTHS[:num_sequences], seed)
    return Split.from_padded("train", batch["x"], batch["lengths"])


def overflowing(num_sequences: int) -> Split:
    """One sequence holds a number whose density overflows."""
    data = split("gaussian", num_sequences, 5)
    data.values[data.starts[9], 1] = 1e30
    return data


def record(model: SequenceModel, history: keras.callbacks.History) -> Record:
    moments = [np.array(v) for v in model.optimizer.variables]
    metrics = {name: values[-1] for name, values in history.history.items()}
    return Record(factory.weights_of(model), moments, metrics)


@functools.cache
def run(emission: str, replicas: int) -> Run:
    with factory.two_replicas().scope() if replicas == 2 else contextlib.nullcontext():
        model = factory.trainable(emission, learning_rate=0.01, **MODELS[emission])
    start = factory.weights_of(model)

    def fit(data: Split, epoch: int, batch_size: int = BATCH_SIZE) -> Record:
        batches = pipeline.training_batches(data, batch_size, seed=1, epoch=epoch)
        return record(model, model.fit(batches, shuffle=False, verbose=0))

    records = {
        "4, 4, 2": fit(split(emission, 10, 1), epoch=0),
        "again": fit(split(emission, 10, 1), epoch=1),
        "4, 4, 1": fit(split(emission, 9, 2), epoch=2),
        "3": fit(split(emission, 3, 4), epoch=3),
    }
    validation = pipeline.evaluation_batches(split(emission, 9, 6), BATCH_SIZE)
    evaluated = model.evaluate(validation, verbose=0, return_dict=True)
    if emission == "gaussian":
        records["overflow"] = fit(overflowing(10), epoch=4)
        records["only overflow"] = fit(overflowing(10), epoch=5, batch_size=10)
    updates = {"4, 4, 2": 3, "again": 3, "4, 4, 1": 3, "3": 1}
    return Run(start, records, evaluated, updates, int(model.step_counter.numpy()))


def size_of_update(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    return max(np.abs(a - b).max(initial=0) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@both
def test_weights_are_those_of_one_device(emission):
    """To 2e-6, where a single update of a weight is up to 1e-2."""
    one, two = run(emission, 1), run(emission, 2)
    for ours, expected in zip(two.start, one.start, strict=True):
        np.testing.assert_array_equal(ours, expected)
    before = one.start
    for name, expected in one.records.items():
        moved = size_of_update(before, expected.weights)
        ours = two.records[name]
        if name != "only overflow":
            assert moved > 1e-3, name
        for a, b in zip(ours.weights, expected.weights, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6, rtol=0, err_msg=name)
        for a, b in zip(ours.moments, expected.moments, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7, rtol=1e-4, err_msg=name)
        before = expected.weights


@both
def test_metrics_are_those_of_one_device(emission):
    one, two = run(emission, 1), run(emission, 2)
    for name, expected in one.records.items():
        ours = two.records[name].metrics
        assert ours.keys() == expected.metrics.keys()
        for metric, value in expected.metrics.items():
            message = f"{name} {metric}"
            np.testing.assert_allclose(ours[metric], value, rtol=1e-4, atol=1e-6, err_msg=message)
        # Clipping was active, or the test would not show that it is global.
        if name != "only overflow":
            assert expected.metrics["gradient_norm"] > MODELS[emission]["clip_norm"]


@both
def test_evaluation_is_that_of_one_device(emission):
    one, two = run(emission, 1), run(emission, 2)
    assert one.evaluated.keys() == two.evaluated.keys() >= {"elbo", "nats_per_step", "kl_per_step"}
    for name, value in one.evaluated.items():
        np.testing.assert_allclose(two.evaluated[name], value, rtol=1e-4, err_msg=name)


@both
@pytest.mark.parametrize("replicas", [1, 2])
def test_updates_are_counted_once(emission, replicas):
    done = run(emission, replicas)
    overflow = 4 if emission == "gaussian" else 0
    assert done.steps == sum(done.epochs.values()) + overflow
    skipped = {name: now.metrics["skipped_updates"] for name, now in done.records.items()}
    expected = {name: 0 for name in done.epochs}
    if emission == "gaussian":
        expected |= {"overflow": 1, "only overflow": 1}
    assert skipped == expected
    iterations = done.records["3"].moments[0]
    assert iterations == sum(done.epochs.values())


@pytest.mark.parametrize("replicas", [1, 2])
def test_overflow_changes_nothing(replicas):
    """The number is in one batch of three, and in an only batch of all ten sequences."""
    records = run("gaussian", replicas).records
    before, after = records["overflow"], records["only overflow"]
    for part in ("weights", "moments"):
        for a, b in zip(getattr(before, part), getattr(after, part), strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(weight).all() for weight in after.weights)
    assert np.isnan(after.metrics["loss"]) and np.isnan(after.metrics["gradient_norm"])
    assert before.moments[0] == records["3"].moments[0] + 2
    assert np.isfinite(before.metrics["loss"]) and before.metrics["loss"] > 0
