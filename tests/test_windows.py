"""Windows of time change no answer, and bound the memory."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import (
    SEEDS,
    each_part_slowly,
    model_of,
    paddings,
    tensors,
    with_padding,
)
from tests.layers.harness import assert_close
from zforcing_tf import inference, objectives, windows
from zforcing_tf.answers import Answers
from zforcing_tf.inference import Particles
from zforcing_tf.randomness import row_noise, sample_seeds
from zforcing_tf.resampling import Resampling

COUNT = 4
FILTER = Resampling("ess", "multinomial")
SIZES = (1, 3, 5, 7)
"""Steps of a window: the sequences have 5 at most, some fewer."""


@pytest.fixture
def size(monkeypatch):
    """Steps of a window, for all graphs that the test makes."""
    variable = tf.Variable(1)
    monkeypatch.setattr(windows, "steps_at_once", lambda rows: variable.value())
    return variable


def in_one_piece(model, x, lengths):
    """All answers, from what training and the filter do over whole sequences."""
    parts, latent = model._parts, model.cell.latent_size
    steps, sequences = tf.shape(x)[1], model.sequences(x, lengths)
    one = inference.infer(parts, sequences, row_noise(SEEDS, steps, latent))
    noise = row_noise(sample_seeds(SEEDS, 0, COUNT), steps, latent)
    several = inference.infer(parts, sequences, noise, particles=Particles(COUNT, weighed=True))
    draws = row_noise(SEEDS + [1 << 29, 0], steps, FILTER.noise_size(COUNT))
    particles = Particles(COUNT, True, FILTER, draws)
    along = inference.infer(parts, sequences, noise, particles=particles)
    mask = tf.sequence_mask(lengths, steps)[..., tf.newaxis]

    def masked(v):
        v = tf.transpose(v, (1, 0, 2))
        return tf.where(mask, v, tf.zeros_like(v))

    inferred = one.inferred
    latents = (inferred.posterior_loc, inferred.posterior_scale, inferred.latent)
    return {
        "score": (
            objectives.elbo(one.terms),
            *(tf.transpose(v) for v in (one.terms.log_prob, one.terms.kl)),
        ),
        "encode": [masked(v) for v in latents],
        "reconstruct": masked(model.emission.mean(one.parameters)),
        "log_weights": tf.reduce_sum(objectives.log_weights(several.terms, COUNT), axis=0),
        "fivo": objectives.fivo(objectives.log_weights(along.terms, COUNT), along.resampled),
    }


def in_windows(answers, x, lengths):
    score, encode = answers.score_and_encode(x, lengths, SEEDS)
    return {
        "score": tuple(score),
        "encode": list(encode),
        "reconstruct": answers.reconstruct(x, lengths, SEEDS),
        "log_weights": answers.log_weights(x, lengths, SEEDS, 0, COUNT),
        "fivo": answers.filter(x, lengths, SEEDS, COUNT, FILTER),
    }


@each_part_slowly
def test_windows_change_no_answer(variant, emission, size):
    """Bounds, their parts, latents and means; whatever the padding holds."""
    model, batch = model_of(variant, emission), factory.batch(emission)
    answers = Answers(model.cell, model.emission)
    expected = in_one_piece(model, **tensors(batch))
    for steps in SIZES:
        size.assign(steps)
        assert_close(in_windows(answers, **tensors(batch)), expected, 1e-5)
    size.assign(2)
    for value in paddings(emission):
        x, lengths = with_padding(batch, value).values()
        found = in_windows(answers, tf.cast(x, model.frame_dtype), tf.constant(lengths))
        for name in ("log_weights", "fivo"):
            assert_close(found[name], expected[name], 1e-5)
        assert_close(found["score"][0], expected["score"][0], 1e-5)


@pytest.mark.parametrize("num_steps", [1, 6, 7, 14, 15])
def test_every_step_is_seen_once_and_in_order(num_steps, monkeypatch):
    monkeypatch.setattr(windows, "steps_at_once", lambda rows: tf.constant(7))
    x = tf.range(1, num_steps + 1)

    @functools.partial(tf.function, autograph=False)
    def run(x):
        def explain(carried, first, end):
            last, total, times = carried
            now = windows.cut((x, (), {"twice": 2 * x}), first, end)
            tf.debugging.assert_equal(last, now[0][0] - 1)
            return (now[0][-1], total + tf.reduce_sum(now[0]), times + 1), now[2]["twice"]

        zero = tf.constant(0)
        return windows.over_windows(
            explain, (zero,) * 3, tf.size(x), tf.size(x), tf.TensorSpec((None,), x.dtype)
        )

    (last, total, times), twice = run(x)
    assert (int(last), int(total)) == (num_steps, num_steps * (num_steps + 1) // 2)
    assert int(times) == -(-num_steps // 7)
    np.testing.assert_array_equal(twice, 2 * x)


def test_windows_shrink_as_rows_grow():
    """Rows times steps stay within a budget until windows are as short as may be."""
    sizes = [int(windows.steps_at_once(tf.constant(rows))) for rows in (0, 1, 16, 128, 10**6)]
    most = windows.ROW_STEPS
    assert sizes == [most, most, most // 16, most // 128, windows.FEWEST_STEPS]


MEMORY = """
import resource
import numpy as np
from tests import model_factory as factory

model = factory.build("gaussian", latent_size=128, recurrent_size=16)
x = np.zeros((1, 1500, factory.FRAME_SIZE), np.float32)
answers = [
    lambda x: model.iwae(x, num_samples=128, samples_at_once=128),
    lambda x: model.fivo(x, num_particles=128),
]
peaks = []
for steps in (300, 1500):
    for answer in answers:
        answer(x[:, :steps]).numpy()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_samples_times_steps():
    """The latents of 128 samples at 1,500 steps alone are 94 MiB; from 300 steps on the process
    may grow by 60, by what the allocator holds and what there is once for each sequence.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60


def test_one_pass_scores_and_encodes():
    """What two passes give."""
    model, batch = model_of("full", "gaussian"), factory.batch("gaussian")
    two = (model.score(**batch, seed=SEEDS), model.encode(**batch, seed=SEEDS))
    assert_close(model.score_and_encode(**batch, seed=SEEDS), two, 1e-6)
