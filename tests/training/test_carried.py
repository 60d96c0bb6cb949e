"""Truncated back-propagation: pieces that go on from each other; first frames that are given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.layers.harness import assert_close
from tests.slowly import slow_unless
from tests.training.runs import assert_same_run
from tests.training.test_fit import stop_at
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data.pipeline import stream_batches
from zforcing_tf.data.spec import Split
from zforcing_tf.data.streams import pieces
from zforcing_tf.errors import UserError
from zforcing_tf.objectives import Weights
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.fit import Stopped, fit
from zforcing_tf.training.gradients import gradient_inputs
from zforcing_tf.training.noise import TrainingNoise

LENGTHS = (9, 4, 6)


def without_noise(inputs: tuple) -> tuple:
    """So that pieces and whole sequences have the same latents."""
    x, lengths, noise, *rest = inputs
    return x, lengths, TrainingNoise(tf.zeros_like(noise.latent), None, None), *rest


def split_of(batch: dict[str, np.ndarray]) -> Split:
    return Split.from_padded("train", batch["x"], batch["lengths"])


def loss_of_whole(batch: dict[str, np.ndarray], **settings: object) -> float:
    """The loss of whole sequences, of a model with nothing carried."""
    whole = factory.trainable("gaussian", **settings)
    inputs = without_noise(gradient_inputs(whole, factory.replaced(batch)))
    return float(whole.gradients(*inputs)[1]["loss"])


def losses_of_pieces(model: SequenceModel, split: Split, chunk: int, given: bool) -> float:
    """The sum of the losses of an epoch's pieces, each batch going on from the last one."""
    total = 0.0
    planned = pieces(split, model.carried_rows, chunk, 0, 0, given)
    for batch in stream_batches(split, planned):
        _, sums, after = model.gradients(*without_noise(gradient_inputs(model, batch)))
        model.carried.keep(after)
        total += float(sums["loss"])
    return total


@pytest.mark.parametrize(
    ("model", "parts", "given"),
    [
        slow_unless(given == (parts == 2), model, parts, given)
        for model in ("rnn", "vrnn", "storn")
        for parts in (1, 2)
        for given in (False, True)
    ],
)
def test_pieces_add_up_to_the_whole(model: str, parts: int, given: bool) -> None:
    """Where nothing runs backward a step sees the same, cut or not."""
    settings = {"model": model, "dtype": "float64", "score_first_frame": not given}
    batch = factory.batch("gaussian", LENGTHS)
    expected = loss_of_whole(batch, **settings)
    carried = factory.trainable(
        "gaussian",
        **settings,
        carry_state=True,
        chunk_length=2,
        batch_size=2,
        concurrent_parts=parts,
    )
    found = losses_of_pieces(carried, split_of(batch), 2, given)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    # What a sequence leaves does not reach the next one.
    np.testing.assert_allclose(losses_of_pieces(carried, split_of(batch), 2, given), found)


@pytest.mark.parametrize("model", [slow_unless(True, "srnn"), slow_unless(False, "zforcing")])
def test_a_posterior_sees_its_piece_alone(model: str) -> None:
    """With pieces as long as sequences nothing is cut: the bound is that of whole sequences."""
    settings = {"model": model, "dtype": "float64"}
    batch = factory.batch("gaussian", LENGTHS)
    expected = loss_of_whole(batch, **settings)
    carried = factory.trainable(
        "gaussian", **settings, carry_state=True, chunk_length=9, batch_size=2
    )
    found = losses_of_pieces(carried, split_of(batch), 9, False)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert losses_of_pieces(carried, split_of(batch), 2, False) != pytest.approx(expected)


@pytest.mark.parametrize(
    ("variant", "enable_xla", "chunk"),
    [
        slow_unless((variant, chunk) in (("srnn", 2), ("zforcing", 4)), variant, enable_xla, chunk)
        for variant, enable_xla in (("srnn", "off"), ("zforcing", "off"), ("full", "on"))
        for chunk in (2, 4)
    ],
)
def test_with_windows_pieces_add_up_to_the_whole(variant: str, enable_xla: str, chunk: int) -> None:
    """What runs backward starts anew where it does in training: pieces see what the whole does."""
    settings = {**factory.VARIANTS[variant], "dtype": "float64", "posterior_window": 2}
    batch = factory.batch("gaussian", LENGTHS)
    expected = loss_of_whole(batch, **settings)
    carried = factory.trainable(
        "gaussian",
        **settings,
        carry_state=True,
        chunk_length=chunk,
        batch_size=2,
        enable_xla=enable_xla,
    )
    found = losses_of_pieces(carried, split_of(batch), chunk, False)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    unlimited = loss_of_whole(batch, **{**settings, "posterior_window": 0})
    assert unlimited != pytest.approx(expected)


@pytest.mark.parametrize(
    ("emission", "enable_xla"),
    [
        slow_unless((emission == "gaussian") == (enable_xla == "on"), emission, enable_xla)
        for enable_xla in ("off", "on")
        for emission in ("gaussian", "categorical", "bernoulli")
    ],
)
def test_an_update_by_keras(emission: str, enable_xla: str) -> None:
    model = factory.trainable(
        emission, carry_state=True, chunk_length=2, batch_size=2, enable_xla=enable_xla
    )
    split = split_of(factory.batch(emission, LENGTHS))
    batches = stream_batches(split, pieces(split, 2, 2, 0, 0), 0, 2)
    logs = model.fit(batches, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert any(np.abs(v).max() > 0 for v in map(np.array, model.carried.variables))
    assert int(model.step_counter.numpy()) == len(list(batches))


def test_metrics_count_sequences_and_steps_that_there_are() -> None:
    model = factory.trainable("gaussian", carry_state=True, chunk_length=5, batch_size=4)
    split = split_of(factory.batch("gaussian", (5, 3)))  # two of four rows have nothing
    (batch,) = stream_batches(split, pieces(split, 4, 5, 0, 0))
    inputs = gradient_inputs(model, batch)
    _, sums, _ = model.gradients(*inputs)
    assert float(sums["sequences"]) == 2 == float(inputs[4])
    assert float(sums["steps"]) == 8


def test_a_state_that_is_not_finite_ends_with_its_batch() -> None:
    model = factory.trainable(
        "gaussian", model="rnn", carry_state=True, chunk_length=2, batch_size=1
    )
    split = split_of(factory.batch("gaussian", (6,)))
    split.values[1] = np.inf
    for batch in stream_batches(split, pieces(split, 1, 2, 0, 0)):
        logs = model.train_step(batch)
    assert int(logs["skipped_updates"]) == 2  # the frame is scored in one, and seen in the next
    assert all(np.isfinite(np.array(v)).all() for v in model.carried.variables)


@pytest.mark.parametrize("model", ["rnn", "storn", "vrnn", "srnn", "zforcing"])
def test_a_given_frame_is_seen_and_not_scored(model: str) -> None:
    """It changes what comes after it; its own probability is no part of the bound."""
    given = factory.build("gaussian", model=model, score_first_frame=False)
    batch = factory.batch("gaussian", (5, 3))
    scores = given.score(**batch)
    assert scores.log_prob_per_step.shape == (2, 4)
    assert np.all(scores.log_prob_per_step[1, 2:] == 0) and np.all(
        scores.log_prob_per_step[:, :2] != 0
    )
    np.testing.assert_allclose(
        scores.elbo, np.sum(scores.log_prob_per_step - scores.kl_per_step, axis=1), rtol=1e-6
    )
    x = batch["x"].copy()
    x[0, 0] += 1
    assert not np.allclose(given.score(x, batch["lengths"]).elbo[0], scores.elbo[0])
    # It is what a model sees that goes on after a frame: the same as its start frame.
    start = np.zeros_like(batch["x"][:, :1])
    plain = factory.build("gaussian", model=model)
    expected = plain.score(**batch).elbo
    found = given.score(np.concatenate([start, batch["x"]], 1), batch["lengths"] + 1).elbo
    assert_close(found, expected, 1e-5)
    if model != "rnn":
        assert given.encode(**batch).loc.shape == (2, 4, 2)
        assert given.iwae(**batch, num_samples=3).shape == (2,)
        assert given.fivo(**batch, num_particles=3).shape == (2,)


@pytest.mark.parametrize("model", ["rnn", "srnn", "zforcing"])
@pytest.mark.parametrize("num_particles", [1, 3])
def test_going_on_from_the_given_frame_alone(model: str, num_particles: int) -> None:
    """It is as a start frame that happens to be another one."""
    given = factory.build("gaussian", model=model, score_first_frame=False)
    plain = factory.build("gaussian", model=model)
    zeros = np.zeros((2, 1, 3), np.float32)
    found = given.generate(4, prefix=zeros, num_particles=num_particles)
    assert_close(found, plain.generate(4, num_sequences=2), 1e-6)


def test_validation_counts_frames_that_are_scored() -> None:
    model = factory.trainable("gaussian", score_first_frame=False)
    batch = factory.batch("gaussian", (5, 3))
    logs = {k: float(v) for k, v in model.test_step(batch).items()}
    elbo = np.sum(model.score(**batch, seed=np.array([[0, 0], [0, 1]], np.int32)).elbo)
    assert logs["elbo"] == pytest.approx(elbo / 2, rel=1e-5)
    assert logs["nats_per_step"] == pytest.approx(elbo / 6, rel=1e-5)


def test_weights_of_terms_reach_the_loss() -> None:
    model = factory.trainable(
        "gaussian", **factory.AIDED, carry_state=True, chunk_length=3, batch_size=2
    )
    split = split_of(factory.batch("gaussian", LENGTHS))
    batch = next(iter(stream_batches(split, pieces(split, 2, 3, 0, 0))))
    *inputs, _ = gradient_inputs(model, batch)
    losses = [
        float(model.gradients(*inputs, Weights(*map(tf.constant, weights)))[1]["loss"])
        for weights in ((1.0, 0.0, 0.0), (1.0, 0.3, 0.2))
    ]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_interruptions_change_nothing(
    experiment: ExperimentConfig, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that is carried is part of a checkpoint."""
    data = dataclasses.replace(experiment.data, chunk_length=4, carry_state=True)
    experiment = dataclasses.replace(experiment, data=data)
    through = dataclasses.replace(
        experiment, run=dataclasses.replace(experiment.run, run_dir=str(tmp_path / "through"))
    )
    fit(through)
    stop_at(monkeypatch, 3, 8)
    for _ in range(2):
        with pytest.raises(Stopped):
            fit(experiment)
    fit(experiment)
    assert_same_run(experiment.run.run_dir, through.run.run_dir)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"carry_state": True}, "--carry_state needs pieces: give a --chunk_length above 0"),
        ({"chunk_evaluation": True}, "--chunk_evaluation needs pieces"),
        (
            {"carry_state": True, "chunk_length": 4, "bound": "iwae", "num_samples": 4},
            "--carry_state works with --bound=elbo only",
        ),
        (
            {"carry_state": True, "chunk_length": 4, "recompute": True},
            "--carry_state works with --norecompute only",
        ),
        (
            {"carry_state": True, "chunk_length": 4, "posterior_window": 3},
            "--posterior_window=3 does not divide --chunk_length=4",
        ),
        (
            {"forget_probability": 0.1},
            "--forget_probability=0.1 has no effect without --carry_state",
        ),
        (
            {"posterior_window": 3, "recompute": True},
            "--recompute does not work with --posterior_window=3",
        ),
        (
            {"posterior_window": 3, "cudnn_encoder": True},
            "--cudnn_encoder does not work with --posterior_window=3",
        ),
        (
            {"chunk_length": 1, "score_first_frame": False},
            "--chunk_length=1 with --noscore_first_frame leaves nothing to score",
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        factory.experiment(**settings)
