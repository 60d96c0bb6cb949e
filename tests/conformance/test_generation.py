"""Whole sequences in one loop, compiled or not, against single steps made one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import SEEDS, each_case, each_part_in_turn, model_of
from tests.layers.harness import assert_close, normal
from zforcing_tf import unroll
from zforcing_tf.products import flipped
from zforcing_tf.randomness import row_noise
from zforcing_tf.sequence_model import SequenceModel

ROWS = 3
NUM_STEPS = unroll.BLOCK + 3  # one block, and a part of another


def request(model: SequenceModel, num_steps: int = NUM_STEPS) -> tuple[Any, ...]:
    """Arguments of `unroll.frames` behind the parts: state, x, seeds, steps, temperature."""
    cell, own = model.cell, model.emission
    wide = "float64" if cell.compute_dtype == "float64" else "float32"
    state = tf.nest.map_structure(
        lambda v: normal(*v.shape, seed=5, dtype=cell.compute_dtype), cell.initial_state(ROWS)
    )
    temperature = tf.constant([[1.0], [0.5], [0.0]], wide)
    return state, own.first_input(ROWS), SEEDS, tf.constant(num_steps), temperature


def noise_of(model: SequenceModel, num_steps: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    width = model.cell.latent_size + model.emission.noise_size
    return tf.cast(row_noise(SEEDS, num_steps, width), dtype)


def step_by_step(
    model: SequenceModel,
    state: Any,
    x: tf.Tensor,
    seeds: tf.Tensor,
    num_steps: tf.Tensor,
    temperature: tf.Tensor,
) -> tf.Tensor:
    """Each step by itself, in Python, by the methods that serve known frames."""
    cell, own, drawn = model.cell, model.emission, []
    noise = noise_of(model, num_steps, temperature.dtype)
    for t in range(noise.shape[0]):
        of_latent, of_frame = tf.split(noise[t], [cell.latent_size, -1], axis=-1)
        of_latent = tf.cast(temperature * of_latent, cell.compute_dtype)
        skip = own.skip(cell, x)
        state, seen = unroll.prior_step(cell, state, cell.drive(x), of_latent)
        x = own.sample(own(seen.features, skip), of_frame, temperature)
        drawn.append(x)
    return tf.stack(drawn)


def drawn_by_loop(model: SequenceModel, compiled: bool, *asked: Any) -> tf.Tensor:
    return unroll.frames(model.cell, model.emission, *asked, compiled=compiled)


@each_part_in_turn("dtype", "float32", "float64")
def test_the_loop_is_its_steps(variant, emission, dtype):
    model = factory.build(emission, dtype=dtype, **factory.VARIANTS[variant])
    asked = request(model)
    expected = step_by_step(model, *asked)
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    if emission == "discretised_logistic_mixture":
        tolerance = 2.0**-14  # rounding to levels may fall to the next one
    assert_close(drawn_by_loop(model, False, *asked), expected, tolerance)
    compiled = drawn_by_loop(model, True, *asked)
    assert compiled.dtype == expected.dtype == model.frame_dtype
    assert_close(compiled, expected, tolerance)


@each_case
def test_frames_are_those_that_are_generated_with_all_else(variant, emission):
    model = model_of(variant, emission)
    state, x, seeds, num_steps, temperature = request(model, 4)
    noise = noise_of(model, num_steps, temperature.dtype)
    _, generated = unroll.generate(model.cell, model.emission, state, x, noise, temperature)
    ours = drawn_by_loop(model, False, state, x, seeds, num_steps, temperature)
    np.testing.assert_array_equal(ours, generated.x)


@each_case
def test_the_prior_in_the_loop_is_that_behind_it(variant, emission):
    """Of a state and of frames other than those at the start."""
    cell, x = model_of(variant, emission).cell, tf.constant(factory.frames(emission, ROWS))
    state = tf.nest.map_structure(lambda v: normal(v.shape[-1], ROWS), cell.initial_state(ROWS))
    drive = cell.driver()(x)
    assert_close(drive, flipped(cell.drive(x)))
    weights = cell.loop_weights("prior")
    conditioning = cell.condition(weights, state, drive)
    past = tf.nest.map_structure(flipped, cell.past(conditioning))
    expected = tf.nest.map_structure(flipped, tuple(cell.prior(past)))
    assert_close(cell.prior_in_loop(weights, conditioning), expected)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("hidden_size", [0, 4])
@pytest.mark.parametrize("emission", ["gaussian", "categorical"])
def test_the_emitter_is_the_emission(emission, hidden_size, skip):
    model = factory.build(emission, emission_hidden_size=hidden_size, emission_skip=skip)
    cell, own = model.cell, model.emission
    features, x = normal(ROWS, cell.feature_size), tf.constant(factory.frames(emission, ROWS))
    ours = own.emitter(cell)(flipped(features), x)
    assert_close(ours, own(features, own.skip(cell, x)))


@pytest.mark.parametrize("name", ["vrnn", "zforcing"])
def test_without_a_latent(name):
    model = factory.build("gaussian", model=name, latent_size=0)
    asked = request(model)
    assert_close(drawn_by_loop(model, True, *asked), step_by_step(model, *asked))


def test_low_precision_is_compiled_too():
    """Near the frames of float32 while roundings have not grown."""
    values = []
    for dtype in ("mixed_bfloat16", "float32"):
        model = factory.build("gaussian", dtype=dtype)
        x = drawn_by_loop(model, True, *request(model))
        assert x.dtype == tf.float32
        values.append(x[:2].numpy())
    np.testing.assert_allclose(*values, atol=0.1)


@pytest.mark.parametrize("given", [{}, {"prefix": 3}, {"prefix": 3, "num_particles": 4}])
def test_compiled_answers_are_the_others(given):
    model = model_of("full", "gaussian")
    if "prefix" in given:
        given = given | {"prefix": factory.frames("gaussian", ROWS, given["prefix"])}
    for num_steps in (1, NUM_STEPS):
        plain, compiled = (
            model.generate(num_steps, seed=SEEDS, temperature=0.7, compiled=compiled, **given)
            for compiled in (False, True)
        )
        assert compiled.shape == (ROWS, num_steps, factory.FRAME_SIZE)
        assert_close(compiled, plain)


def test_no_rows_are_compiled():
    assert model_of("vrnn", "gaussian").generate(4, 0, compiled=True).shape == (0, 4, 3)


def test_long_sequences_are_compiled_unless_in_a_graph():
    model, asked = factory.build("gaussian"), []
    forms = model._answers._frames
    for compiled, form in list(forms.items()):
        forms[compiled] = lambda *a, c=compiled, f=form: (asked.append(c), f(*a))[1]
    for num_steps in (unroll.COMPILED_FROM - 1, unroll.COMPILED_FROM):
        model.generate(num_steps)
    model.generate(2, compiled=True)
    model.generate(unroll.COMPILED_FROM, compiled=False)
    tf.function(lambda n: model.generate(n), autograph=False)(tf.constant(unroll.COMPILED_FROM))
    assert asked == [False, True, True, False, False]


@pytest.mark.parametrize("compiled", [False, True])
def test_latents_and_frames_have_temperatures_of_their_own(compiled):
    """Both alike are one; without a latent that of latents does not matter."""
    model = factory.build("gaussian", model="zforcing")
    one = model.generate(6, 2, seed=3, temperature=0.7, compiled=compiled)
    assert_close(model.generate(6, 2, 3, [[0.7, 0.7]], compiled=compiled), one, 1e-6)
    rows = model.generate(6, 2, 3, [[0.7, 0.7], [1.0, 0.0]], compiled=compiled)
    assert_close(rows[0], one[0], 1e-6)
    means = model.generate(6, 2, 3, [[1.0, 0.0]], compiled=compiled)
    assert_close(rows[1], means[1], 1e-6)
    assert np.abs(means - model.generate(6, 2, 3, 0.0, compiled=compiled)).max() > 1e-3
    plain = factory.build("gaussian", model="rnn")
    found = plain.generate(6, 2, 3, [[1.0, 0.0]], compiled=compiled)
    assert_close(found, plain.generate(6, 2, 3, 0.0, compiled=compiled), 1e-6)
