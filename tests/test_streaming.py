"""Streams: the same as the loop, and the same as generation, whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.slowly import slow_unless
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import noise_at, row_noise
from zforcing_tf.streaming import Stream

SEEDS = np.array([[1, 2], [3, 4], [5, 6]], np.int32)
STEPS = 6
CASES = [
    ("gaussian", "rnn"),
    ("bernoulli", "storn"),
    ("gaussian", "vrnn"),
    ("gaussian_mixture", "srnn_gru"),
    ("categorical", "zforcing"),
    ("bernoulli", "full"),
    ("discretised_logistic_mixture", "autoregressive"),
]
each_case = pytest.mark.parametrize(("emission", "variant"), CASES, ids=":".join)
scored_or_given = pytest.mark.parametrize("scored", [True, False])


def build(emission: str, variant: str, **more: Any) -> Any:
    settings = {**factory.VARIANTS[variant], "dtype": "float64", **more}
    return factory.build(emission, **settings)


def streamed(model: Any, frames: Any, seeds: Any = SEEDS, temperature: float = 1.0) -> Any:
    """What each step says of frames [B, T, ...], stacked along time."""
    stream, said = Stream(model), []
    rows = len(seeds)
    state = stream.initial_state(rows)
    for t in range(frames.shape[1]):
        x = tf.constant(frames[:, t], model.frame_dtype)
        state, seen = stream.step(state, x, tf.constant(seeds), tf.fill([rows], temperature))
        said.append(seen)
    np.testing.assert_array_equal(state.count, [frames.shape[1]] * rows)
    return tf.nest.map_structure(lambda *v: np.stack([np.array(i) for i in v], axis=1), *said)


def test_the_noise_of_a_step_is_that_of_all_steps() -> None:
    for width in (1, 3, 4, 6):
        noise = row_noise(SEEDS, 9, width)
        for steps in ([0, 1, 2], [8, 3, 5]):
            found = noise_at(tf.constant(SEEDS), tf.constant(steps), width)
            for row, step in enumerate(steps):
                np.testing.assert_array_equal(found[row], noise[step, row])


@each_case
@pytest.mark.parametrize(
    ("temperature", "scored"),
    [
        slow_unless(scored == (temperature == 1.0), temperature, scored)
        for temperature in (1.0, 0.5)
        for scored in (True, False)
    ],
)
def test_a_stream_of_its_own_samples_is_what_the_model_generates(
    emission: str, variant: str, temperature: float, scored: bool
) -> None:
    model = build(emission, variant, score_first_frame=scored)
    if scored:
        frames = model.generate(STEPS, seed=SEEDS, temperature=temperature).numpy()
    else:
        first = factory.frames(emission, 3, 1)
        rest = model.generate(STEPS - 1, seed=SEEDS, temperature=temperature, prefix=first)
        frames = np.concatenate([first, rest], axis=1)
    samples = streamed(model, frames, temperature=temperature).sample
    np.testing.assert_allclose(samples[:, :-1], frames[:, 1:], rtol=1e-9, atol=1e-9)


@each_case
@scored_or_given
def test_a_row_does_not_depend_on_the_others(emission: str, variant: str, scored: bool) -> None:
    """One stream begins while another is in its midst."""
    model = build(emission, variant, score_first_frame=scored)
    frames = factory.frames(emission, 3, STEPS)
    together = streamed(model, frames)
    stream = Stream(model)
    one = np.ones(1)
    late, early = stream.initial_state(1), stream.initial_state(1)
    dtype = model.frame_dtype
    for t in range(2):
        x = tf.constant(frames[:1, t], dtype)
        early, _ = stream.step(early, x, tf.constant(SEEDS[:1]), tf.constant(one))
    state = tf.nest.map_structure(lambda a, b: tf.concat([a, b], 0), early, late)
    for t in range(2):
        x = tf.constant(np.stack([frames[0, t + 2], frames[1, t]]), dtype)
        state, seen = stream.step(state, x, tf.constant(SEEDS[:2]), tf.constant([1.0, 1.0]))
        for found, expected in zip(seen, together, strict=True):
            np.testing.assert_allclose(found[0], expected[0, t + 2], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found[1], expected[1, t], rtol=1e-9, atol=1e-12)


def test_frames_of_a_model_without_a_latent_are_as_probable_as_it_scores_them() -> None:
    for scored in (True, False):
        model = build("gaussian", "rnn", score_first_frame=scored)
        frames = factory.frames("gaussian", 3, STEPS)
        expected = model.score(frames).log_prob_per_step.numpy()
        if not scored:
            expected = np.concatenate([np.zeros((3, 1)), expected], axis=1)
        np.testing.assert_allclose(streamed(model, frames).log_prob, expected, rtol=1e-9)


@each_case
def test_a_continuation_is_of_each_row_after_its_own_end(emission: str, variant: str) -> None:
    model = build(emission, variant)
    prefix, lengths = factory.frames(emission, 3, STEPS), np.array([6, 2, 1])
    together = model.generate(4, seed=SEEDS, prefix=prefix, prefix_lengths=lengths).numpy()
    for row, length in enumerate(lengths):
        alone = model.generate(4, seed=SEEDS[row : row + 1], prefix=prefix[row : row + 1, :length])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-9, atol=1e-9)


def test_a_continuation_after_the_first_frame_that_is_given() -> None:
    model = build("gaussian", "srnn_gru", score_first_frame=False)
    prefix, lengths = factory.frames("gaussian", 3, STEPS), np.array([6, 2, 1])
    together = model.generate(4, seed=SEEDS, prefix=prefix, prefix_lengths=lengths).numpy()
    for row, length in enumerate(lengths):
        alone = model.generate(4, seed=SEEDS[row : row + 1], prefix=prefix[row : row + 1, :length])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-9, atol=1e-9)


def test_lengths_without_a_prefix() -> None:
    model = build("gaussian", "rnn")
    with pytest.raises(UserError, match="prefix_lengths go with a prefix"):
        model.generate(4, seed=SEEDS, prefix_lengths=[1, 2, 3])
    with pytest.raises(UserError, match="and with num_particles=1 alone"):
        prefix = factory.frames("gaussian", 3, 2)
        model.generate(4, seed=SEEDS, prefix=prefix, prefix_lengths=[1, 2, 2], num_particles=2)
