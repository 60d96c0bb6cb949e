"""What a training step tells of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf.training.guard import GRADIENT, TERMS


def step(model: factory.SequenceModel, batch: dict[str, np.ndarray]) -> None:
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)


def with_weight(value: float, part: str) -> factory.SequenceModel:
    model = factory.trainable("gaussian", model="zforcing", **factory.AIDED)
    layer = getattr(model.cell if part == "prior_network" else model, part)
    layer.trainable_variables[0].assign(np.full(layer.trainable_variables[0].shape, value))
    return model


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("emission", {TERMS["elbo"]}),
        ("prior_network", {TERMS["elbo"], TERMS["kl"]}),
        ("auxiliary", {TERMS["auxiliary"]}),
        ("backward_emission", {TERMS["backward"]}),
    ],
)
def test_a_term_that_is_not_finite_is_named(part: str, words: set[str]) -> None:
    model, batch = with_weight(np.nan, part), factory.batch("gaussian")
    before = [w.numpy() for w in model.trainable_variables]
    step(model, batch)
    skipped = model.guard.skipped()
    assert (skipped.in_a_row, skipped.total, skipped.step) == (1, 1, 1)
    assert words <= set(skipped.terms) and GRADIENT not in skipped.terms
    for weight, expected in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_term_whose_gradient_is_finite_is_skipped_too(dtype: str) -> None:
    """As with a weight of zero, through which nothing flows back."""
    model = factory.trainable("gaussian", model="vrnn", dtype=dtype)
    batch = factory.batch("gaussian")
    for _ in range(20):  # float16 finds its scale
        step(model, batch)
    assert not model.guard.skipped().in_a_row
    before = [w.numpy() for w in model.trainable_variables]
    gradients = model.gradients

    def infinite(*inputs: Any) -> Any:
        found, sums, after = gradients(*inputs)
        return found, sums | {"kl": sums["kl"] + np.inf}, after

    model.set_form(False, 1, infinite)
    step(model, batch)
    assert model.guard.skipped().in_a_row == 1
    assert model.guard.skipped().terms == [TERMS["kl"]]
    for weight, expected in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)


def test_updates_that_are_made_end_the_row() -> None:
    model = factory.trainable("gaussian", model="vrnn")
    good = factory.batch("gaussian")
    bad = good | {"x": good["x"] * np.float32(1e30)}
    counts = []
    for batch in (good, bad, bad, good, bad):
        step(model, batch)
        skipped = model.guard.skipped()
        counts.append((skipped.in_a_row, skipped.total, skipped.step))
    assert counts == [(0, 0, 0), (1, 1, 2), (2, 2, 3), (0, 2, 3), (1, 3, 5)]


def test_it_is_no_part_of_the_model() -> None:
    """Checkpoints of earlier versions have none."""
    model = factory.trainable("gaussian", model="vrnn")
    names = {variable.path for variable in model.variables}
    assert not any("guard" in name or name.startswith("Variable") for name in names)


def test_a_wish_to_stop_is_known_after_the_next_step() -> None:
    model, batch = factory.trainable("gaussian", model="vrnn"), factory.batch("gaussian")
    step(model, batch)
    assert not model.guard.stop_agreed
    model.guard.request_stop()
    assert not model.guard.stop_agreed
    step(model, batch)
    assert model.guard.stop_agreed
