"""The gradient by hand, and that by recomputing windows, against TensorFlow's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import each_part_slowly, tensors
from tests.layers.harness import assert_close
from tests.slowly import slow_unless
from zforcing_tf import objectives, recompute
from zforcing_tf.inference import Particles
from zforcing_tf.objectives import Bound, Weights
from zforcing_tf.resampling import Resampling
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.sequences import Keep

LENGTHS = (5, 3, 1)


@pytest.fixture(autouse=True)
def without_graphs():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(recompute, "WINDOW", 2)


def normal(*shape: int, seed: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def like(structure: Any, seed: int) -> Any:
    """Normal numbers in the place of each tensor."""
    return tf.nest.map_structure(lambda v: normal(*v.shape, seed=seed), structure)


def cost_and_gradients(
    model: SequenceModel, emission: str, training: Any, last_state: bool = True
) -> Any:
    """Loss with every term, its gradient by weights, carried states and noise: in float64."""
    batch = tensors(factory.batch(emission, LENGTHS))
    cell, rows, steps = model.cell, len(LENGTHS), max(LENGTHS)
    state = like(cell.initial_state(rows), 1)
    encoder = getattr(cell, "backward_encoder", None) or getattr(cell, "forward_encoder", None)
    backward = None if encoder is None else like(encoder.core.initial_state(rows), 2)
    noise = normal(steps, rows, cell.latent_size, seed=3)
    keep = Keep(
        normal(steps, rows, cell.embedding.size, seed=4),
        normal(steps, rows, cell.feature_size, seed=5),
    )
    sources = [v.value for v in model.trainable_variables]
    sources += tf.nest.flatten((state, [] if backward is None else backward, noise, keep))
    with tf.GradientTape() as tape:
        tape.watch(sources)
        found = model.infer(
            model.sequences(**batch),
            noise,
            keep,
            state=state,
            backward_state=backward,
            training=training,
        )
        cost = tf.reduce_sum(objectives.loss(found.terms, Weights(0.7, 0.3, 0.2)))
        if last_state:
            cost += sum(tf.reduce_sum(tf.sin(v)) for v in tf.nest.flatten(found.state))
    gradients = tape.gradient(cost, sources, unconnected_gradients="zero")
    return cost, [tf.convert_to_tensor(g) for g in gradients]


@each_part_slowly
def test_of_every_model(variant, emission):
    """Ragged lengths, dropout, a state that was carried here, and one to carry on."""
    model = factory.build(emission, dtype="float64", **factory.VARIANTS[variant])
    expected = cost_and_gradients(model, emission, False)
    assert any(np.abs(g).max() > 0 for g in expected[1])
    by_hand = cost_and_gradients(model, emission, True)
    assert_close(by_hand, expected, 1e-10)


@each_part_slowly
def test_of_windows_computed_again(variant, emission):
    model = factory.build(emission, dtype="float64", **factory.VARIANTS[variant])
    """Windows of two of five steps; the last state is not known then."""
    whole = cost_and_gradients(model, emission, True, last_state=False)
    again = cost_and_gradients(model, emission, "recompute", last_state=False)
    assert_close(again, whole, 1e-10)


@pytest.mark.parametrize(
    ("variant", "window", "scored"),
    [
        slow_unless((i + j + scored) % 3 == 0, variant, window, scored)
        for i, variant in enumerate(["storn", "vrnn", "srnn", "full"])
        for j, window in enumerate([2, 3, 4, 7])
        for scored in (True, False)
    ],
)
def test_windows_that_do_not_divide_the_length(variant, window, scored, monkeypatch):
    settings = {"dtype": "float64", "score_first_frame": scored, **factory.VARIANTS[variant]}
    model = factory.build("gaussian", **settings)
    monkeypatch.setattr(recompute, "WINDOW", window)
    batch = tensors(factory.batch("gaussian", LENGTHS))
    steps = max(LENGTHS) - (not scored)
    noise = normal(steps, len(LENGTHS), model.cell.latent_size, seed=3)

    def terms_and_gradients(training: Any) -> Any:
        sources = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            terms = model.infer(model.sequences(**batch), noise, training=training).terms
            cost = tf.reduce_sum(objectives.loss(terms, Weights(0.7, 0.3, 0.2)))
        terms = [term for term in terms if term is not None]
        return terms, tape.gradient(cost, sources, unconnected_gradients="zero")

    assert_close(terms_and_gradients("recompute"), terms_and_gradients(True), 1e-10)


@pytest.mark.parametrize(
    ("variant", "criterion"),
    [
        slow_unless((variant == "srnn") == (criterion == "ess"), variant, criterion)
        for variant in ("vrnn", "srnn", "zforcing")
        for criterion in ("ess", "always")
    ],
)
def test_a_particle_filter_goes_on_from_window_to_window(variant, criterion):
    model = factory.build("gaussian", dtype="float64", **factory.VARIANTS[variant])
    bound = Bound("fivo", 4, Resampling(criterion))
    batch = tensors(factory.batch("gaussian", LENGTHS))
    rows, steps = len(LENGTHS), max(LENGTHS)
    noise = normal(steps, rows * 4, model.cell.latent_size, seed=3)
    draws = tf.cast(normal(steps, rows, bound.resampling.noise_size(4), seed=6), tf.float32)
    particles = Particles(4, True, bound.resampling, draws)

    def found(training: Any) -> Any:
        sources = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            one = model.infer(
                model.sequences(**batch), noise, training=training, particles=particles
            )
            loss = objectives.loss(one.terms, Weights(0.7, 0.0, 0.0), bound, one.resampled)
            cost = tf.reduce_sum(loss)
        return loss, one.resampled, tape.gradient(cost, sources, unconnected_gradients="zero")

    whole, again = found(True), found("recompute")
    assert np.any(whole[1])
    assert_close(again, whole, 1e-10)


def test_compiled():
    model = factory.build("gaussian", dtype="float64", **factory.VARIANTS["full"])
    tf.config.run_functions_eagerly(False)
    batch = tensors(factory.batch("gaussian", LENGTHS))
    noise = normal(max(LENGTHS), len(LENGTHS), model.cell.latent_size, seed=3)

    def gradients(training: Any) -> Any:
        sources = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            terms = model.infer(model.sequences(**batch), noise, training=training).terms
            cost = tf.reduce_sum(objectives.loss(terms, Weights(0.7, 0.3, 0.2)))
        return tape.gradient(cost, sources, unconnected_gradients="zero")

    compiled = tf.function(lambda: gradients("recompute"), autograph=False, jit_compile=True)
    assert_close(compiled(), gradients(False), 1e-9)
