"""Running means of weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.training.runs import weights
from zforcing_tf.data import registry
from zforcing_tf.training.averaging import averaged_weights
from zforcing_tf.training.fit import fit
from zforcing_tf.training.history import History


def step(model: factory.SequenceModel, batch: dict[str, np.ndarray]) -> None:
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_the_mean_is_of_the_weights_after_each_update(dtype: str) -> None:
    model = factory.trainable(model="vrnn", ema_momentum=0.75, learning_rate=0.1, dtype=dtype)
    batch, mean = factory.batch(), None
    for _ in range(12):
        step(model, batch)
        if model.guard.skipped().in_a_row:  # float16, until its scale is small enough
            continue
        now = [w.numpy() for w in model.trainable_variables]
        mean = (
            now if mean is None else [0.75 * m + 0.25 * w for m, w in zip(mean, now, strict=True)]
        )
    with averaged_weights(model):
        for weight, expected in zip(model.trainable_variables, mean, strict=True):
            np.testing.assert_allclose(weight.numpy(), expected, atol=1e-6)
    for weight, expected in zip(model.trainable_variables, now, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)


def test_before_the_first_update_the_mean_is_of_the_weights_as_they_are() -> None:
    """Keras begins with zeros, which the first update that is made replaces."""
    model = factory.trainable(model="vrnn", ema_momentum=0.9)
    before = [w.numpy() for w in model.trainable_variables]
    batch = factory.batch()
    step(model, batch | {"x": np.full_like(batch["x"], np.float32(1e30))})
    assert model.guard.skipped().in_a_row == 1
    with averaged_weights(model):
        for weight, expected in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(weight.numpy(), expected)


def test_without_it_the_weights_stay_as_they_are() -> None:
    model = factory.trainable(model="vrnn")
    before = [w.numpy() for w in model.trainable_variables]
    with averaged_weights(model):
        for weight, expected in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(weight.numpy(), expected)


def test_the_best_checkpoint_holds_the_means_and_the_last_one_the_weights(experiment) -> None:
    optimizer = dataclasses.replace(experiment.optimizer, ema_momentum=0.9)
    experiment = dataclasses.replace(experiment, optimizer=optimizer)
    results = fit(experiment)
    run = experiment.run.run_dir
    assert results["best_epoch"] == 2  # so that both are of the same step
    best, last = weights(run, "best"), weights(run, "last")
    assert not all(np.array_equal(a, b) for a, b in zip(best, last, strict=True))
    rows = History(f"{run}/history.csv").rows()
    np.testing.assert_allclose(
        results["validation"]["elbo"], rows[-1]["validation_elbo"], rtol=1e-5
    )
    assert registry.load(experiment.data).validation.num_sequences > 0
