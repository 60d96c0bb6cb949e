"""One training step, exactly: clipping, schedules, dropout, the guard; to disk and back.

Without graphs, which take seconds each to trace; that they do the same is a test of its own.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import each_part_slowly, tensors, with_padding
from tests.layers.harness import assert_close
from tests.slowly import slow_unless
from zforcing_tf import models
from zforcing_tf.sequence_model import SequenceModel

AIDED = factory.VARIANTS["full"]


@pytest.fixture(autouse=True)
def without_graphs():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def one_update(model: SequenceModel, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of one update alone."""
    model.reset_metrics()
    return {name: float(value) for name, value in model.train_step(tensors(batch)).items()}


def with_sgd(model: SequenceModel, learning_rate: float = 1.0, **own: float) -> SequenceModel:
    optimizer = keras.optimizers.SGD(learning_rate, **own)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=False)
    return model


def distance(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    squares = [np.square(a - b).sum() for a, b in zip(before, after, strict=True)]
    return float(np.sqrt(sum(squares)))


def test_metrics_are_those_of_the_batch():
    """Nats per sequence and per step; dropout off, one update from known weights."""
    model, batch = factory.trainable("gaussian", **AIDED), factory.batch("gaussian")
    metrics = one_update(model, batch)
    sequences, steps = 3, sum(factory.LENGTHS)
    elbo, kl = metrics["elbo"], metrics["kl_per_step"] * steps / sequences
    np.testing.assert_allclose(metrics["nats_per_step"], elbo * sequences / steps, rtol=1e-5)
    aids = 0.3 * metrics["auxiliary_per_step"] + 0.2 * metrics["backward_per_step"]
    np.testing.assert_allclose(metrics["loss"], -elbo - aids * steps / sequences, rtol=1e-5)
    assert kl > 0 and metrics["skipped_updates"] == 0 and metrics["gradient_norm"] > 0


def test_evaluation_is_the_score():
    """`test_step` gives each row the noise of (seed, index)."""
    model, batch = factory.trainable("gaussian", **AIDED), factory.batch("gaussian")
    index = np.array([4, 0, 9], np.int32)
    metrics = model.test_step(tensors({**batch, "index": index}))
    seeds = np.stack([np.zeros_like(index), index], axis=1)
    scores = model.score(**batch, seed=seeds)
    np.testing.assert_allclose(metrics["elbo"], np.mean(scores.elbo), rtol=1e-5)
    per_step = np.sum(scores.kl_per_step) / batch["lengths"].sum()
    np.testing.assert_allclose(metrics["kl_per_step"], per_step, rtol=1e-5)


def test_evaluation_does_not_depend_on_the_batch_size():
    model, batch = factory.trainable("gaussian"), factory.batch("gaussian", (5, 3, 4, 1, 2))
    rows = tf.data.Dataset.from_tensor_slices({**batch, "index": np.arange(5, dtype=np.int32)})
    results = [model.evaluate(rows.batch(n), verbose=0, return_dict=True) for n in (2, 5)]
    for name, value in results[0].items():
        np.testing.assert_allclose(value, results[1][name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("emission", ["gaussian", "categorical"])
def test_clipping_is_of_the_global_norm(emission):
    """The update's length is `clip_norm` times the rate if the gradient is longer, else its own."""
    batch = factory.batch(emission)
    for clip_norm in (0.01, 1000.0):
        model = with_sgd(factory.build(emission, clip_norm=clip_norm, **AIDED))
        before = factory.weights_of(model)
        norm = one_update(model, batch)["gradient_norm"]
        moved = distance(before, factory.weights_of(model))
        np.testing.assert_allclose(moved, min(norm, clip_norm), rtol=1e-3)


def test_loss_scale_changes_nothing():
    """Neither the norm that is reported and clipped, nor the update."""
    results = []
    for own in ({}, {"loss_scale_factor": 1024.0}):
        model = with_sgd(factory.build("gaussian", clip_norm=0.1), **own)
        norm = one_update(model, factory.batch("gaussian"))["gradient_norm"]
        results.append([norm, *factory.weights_of(model)])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def half_precision(scale: float, **values: float) -> SequenceModel:
    """A model of mixed_float16 with SGD, and the dynamic loss scale that it starts at."""
    config = factory.experiment("gaussian", **AIDED, **values)
    object.__setattr__(config.run, "dtype", "mixed_float16")  # experiments have no such dtype
    model = models.build(config, factory.spec("gaussian"))
    factory.randomise(model)
    sgd = keras.optimizers.SGD(0.01)
    model.compile(keras.optimizers.LossScaleOptimizer(sgd, scale), jit_compile=False)
    return model


@pytest.mark.parametrize("eagerly", [slow_unless(False, True), False])
def test_a_dynamic_loss_scale_that_is_too_large_falls_until_updates_are_finite(eagerly):
    """Those that overflow are counted, and nothing of them is in weights or metrics."""
    tf.config.run_functions_eagerly(eagerly)
    model, batch = half_precision(2.0**24), factory.batch("gaussian")
    reference = with_sgd(factory.build("gaussian", **AIDED), learning_rate=0.0)
    expected = one_update(reference, batch)["gradient_norm"]
    before = factory.weights_of(model)
    rows = tf.data.Dataset.from_tensors(batch).repeat(30)
    metrics = model.fit(rows, verbose=0).history
    skipped = metrics["skipped_updates"][0]
    assert 2 < skipped < 25
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0 ** (24 - skipped)
    assert int(model.optimizer.iterations.numpy()) == 30 - skipped
    assert all(np.isfinite(values[0]) for values in metrics.values())
    assert 0.5 * expected < metrics["gradient_norm"][0] < 2 * expected
    after = factory.weights_of(model)
    assert distance(before, after) > 0 and all(np.isfinite(weight).all() for weight in after)


def test_a_dynamic_loss_scale_is_not_in_the_norm():
    """Neither reported nor clipped: the update's length is `clip_norm` times the rate."""
    batch, clip_norm = factory.batch("gaussian"), 0.1
    reference = with_sgd(factory.build("gaussian", **AIDED), learning_rate=0.0)
    expected = one_update(reference, batch)["gradient_norm"]
    assert expected > clip_norm
    model = half_precision(2.0**10, clip_norm=clip_norm)
    before = factory.weights_of(model)
    metrics = one_update(model, batch)
    assert metrics["skipped_updates"] == 0
    np.testing.assert_allclose(metrics["gradient_norm"], expected, rtol=0.02)
    moved = distance(before, factory.weights_of(model))
    np.testing.assert_allclose(moved, 0.01 * clip_norm, rtol=1e-2)


def test_keras_puts_a_loss_scale_on_half_precision():
    """What `compile` does with an optimizer of one's own."""
    model = half_precision(1.0)
    model.compile(keras.optimizers.Adam(), jit_compile=False)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    updates = [one_update(model, factory.batch("gaussian")) for _ in range(6)]
    done = [update for update in updates if not update["skipped_updates"]]
    assert done and all(0 < update["gradient_norm"] < 1000 for update in done)
    # It starts high, and may fall before anything is finite.
    assert not updates[-1]["skipped_updates"]


def test_weights_follow_their_schedules():
    """KL weight 0, 0.5, 1, 1 over the updates, the auxiliary's 1, 0, 0, 0."""
    schedules = {"kl_weight_start": 0.0, "kl_weight_step": 0.5}
    schedules |= {"auxiliary_weight_start": 1.0, "auxiliary_weight_step": 1.0}
    model = with_sgd(factory.build("gaussian", **schedules), learning_rate=0.0)
    steps_per_sequence = sum(factory.LENGTHS) / 3
    for kl_weight, auxiliary_weight in ((0.0, 1.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.0)):
        metrics = one_update(model, factory.batch("gaussian"))
        kl, auxiliary = (
            metrics[f"{name}_per_step"] * steps_per_sequence for name in ("kl", "auxiliary")
        )
        expected = -(metrics["elbo"] + (1 - kl_weight) * kl + auxiliary_weight * auxiliary)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert int(model.step_counter.numpy()) == 4


def test_each_update_has_noise_of_its_own_and_of_the_seed():
    batch = factory.batch("gaussian")
    losses = []
    for seed in (0, 0, 1):
        model = with_sgd(factory.build("gaussian", seed=seed), learning_rate=0.0)
        losses.append([one_update(model, batch)["loss"] for _ in range(2)])
    assert losses[0] == losses[1]
    assert len({*losses[0], *losses[2]}) == 4


def test_dropout_is_in_training_only():
    batch = factory.batch("gaussian")
    plain, dropping = (
        with_sgd(factory.build("gaussian", dropout=rate, **AIDED), 0.0) for rate in (0.0, 0.5)
    )
    for ours, expected in zip(dropping.score(**batch), plain.score(**batch), strict=True):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(dropping.generate(3, 2), plain.generate(3, 2))
    losses = [one_update(dropping, batch)["loss"] for _ in range(2)]
    assert len({*losses, one_update(plain, batch)["loss"]}) == 3
    for model in (plain, dropping):
        model.reset_metrics()
    evaluated = [model.test_step(tensors(batch))["elbo"] for model in (plain, dropping)]
    np.testing.assert_array_equal(*evaluated)


def test_a_graph_updates_as_eager_code_does():
    """Dropout on, two updates of different shapes; metrics, weights and moments to 1e-5."""
    results = []
    for eagerly in (True, False):
        tf.config.run_functions_eagerly(eagerly)
        model = factory.trainable("gaussian", dropout=0.3, **AIDED)
        metrics = [one_update(model, factory.batch("gaussian", n)) for n in ((5, 3, 1), (2, 4))]
        results.append((metrics, model.trainable_variables + model.optimizer.variables))
    assert_close(results[1], results[0], 1e-5)


@each_part_slowly
def test_one_sequence_of_one_step(variant, emission):
    model = factory.trainable(emission, dropout=0.2, **factory.VARIANTS[variant])
    before = factory.weights_of(model)
    metrics = one_update(model, factory.batch(emission, (1,)))
    assert metrics["skipped_updates"] == 0
    assert all(np.isfinite(value) for value in metrics.values())
    after = factory.weights_of(model)
    assert distance(before, after) > 0 and all(np.isfinite(weight).all() for weight in after)


def test_non_finite_gradients_change_nothing():
    """Neither weights, nor moments; metrics have nothing to tell, the update is counted, and the
    next one works.
    """
    model, batch = factory.trainable("gaussian", **AIDED), factory.batch("gaussian")
    one_update(model, batch)
    state = [np.array(v) for v in model.trainable_variables + model.optimizer.variables]
    overflowing = {**batch, "x": batch["x"].copy()}
    overflowing["x"][0, 1, 2] = 1e30
    metrics = one_update(model, overflowing)
    assert metrics.pop("skipped_updates") == 1
    assert all(np.isnan(value) for value in metrics.values())
    for variable, expected in zip(
        model.trainable_variables + model.optimizer.variables, state, strict=True
    ):
        np.testing.assert_array_equal(variable, expected)
    assert int(model.step_counter.numpy()) == 2
    metrics = one_update(model, batch)
    assert metrics["skipped_updates"] == 0 and np.isfinite(metrics["loss"])
    assert distance(state[: len(model.trainable_variables)], factory.weights_of(model)) > 0


def test_padding_does_not_reach_training():
    """Dropout on: one update from a batch whose padding is NaN is that from clean zeros."""
    batch = factory.batch("gaussian")
    after = []
    for value in (0.0, np.nan):
        model = factory.trainable("gaussian", dropout=0.3, **factory.VARIANTS["full"])
        metrics = model.train_step(tensors(with_padding(batch, value)))
        after.append((factory.weights_of(model), metrics))
        assert metrics["skipped_updates"] == 0
    tf.nest.map_structure(np.testing.assert_array_equal, *after)


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_other_precisions_are_trained_scored_and_sampled(dtype):
    """Keras's own call takes the batch as `score` does."""
    model = factory.trainable("gaussian", dtype=dtype, dropout=0.3, **factory.VARIANTS["full"])
    batch = factory.batch("gaussian")
    metrics = model.train_step(tensors(batch))
    assert metrics["skipped_updates"] == 0 and np.isfinite(metrics["loss"])
    scores = model.score(**batch)
    assert scores.elbo.dtype == model.frame_dtype
    np.testing.assert_array_equal(model(tensors(batch)), scores.elbo)
    generated = model.generate(4, 2)
    assert generated.dtype == model.frame_dtype and np.isfinite(generated).all()


@pytest.mark.parametrize(
    ("emission", "settings"),
    [
        ("gaussian", {**AIDED, "dtype": "float64", "auxiliary_sees_state": True}),
        ("categorical", {"condition": "layer_norm", "dtype": "mixed_bfloat16"}),
        ("gaussian_mixture", {"model": "rnn", "dropout": 0.1, "seed": 3, "clip_norm": 2.0}),
    ],
    ids=["full", "layer_norm", "rnn"],
)
def test_keras_file(emission, settings, tmp_path):
    """Save, load: the same configuration, scores, samples, optimizer state and next update."""
    model, batch = factory.trainable(emission, **settings), factory.batch(emission)
    one_update(model, batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, SequenceModel)
    assert loaded.get_config() == model.get_config()
    assert loaded.schedules == model.schedules and loaded.seed == model.seed
    for ours, expected in zip(loaded.score(**batch), model.score(**batch), strict=True):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(loaded.generate(3, 2), model.generate(3, 2))
    assert int(loaded.step_counter.numpy()) == 1
    assert one_update(loaded, batch) == one_update(model, batch)
    for ours, expected in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert loaded.dtype_policy.name == model.dtype_policy.name


def test_checkpoint(tmp_path):
    """Weights, optimizer and step: training goes on as if nothing had happened."""
    settings = {"dropout": 0.2, "kl_weight_start": 0.1, "kl_weight_step": 0.3, **AIDED}
    model, batch = factory.trainable("gaussian", **settings), factory.batch("gaussian")
    one_update(model, batch)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "c"))
    restored = factory.trainable("gaussian", **settings)
    factory.randomise(restored, seed=9)
    checkpoint = tf.train.Checkpoint(model=restored, optimizer=restored.optimizer)
    checkpoint.read(path).assert_existing_objects_matched().assert_consumed()
    assert int(restored.step_counter.numpy()) == 1
    assert one_update(restored, batch) == one_update(model, batch)
    ours, expected = (m.trainable_variables + m.optimizer.variables for m in (restored, model))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_optimizer_is_as_configured():
    config = factory.experiment(learning_rate=0.02, adam_beta_2=0.98, adam_epsilon=1e-3)
    model = models.build(config, factory.spec())
    optimizer = models.optimizer(config, model)
    assert optimizer.built and len(optimizer.variables) == 2 + 2 * len(model.trainable_variables)
    values = (optimizer.learning_rate, optimizer.beta_2, optimizer.epsilon)
    np.testing.assert_allclose(values, (0.02, 0.98, 1e-3), rtol=1e-6)


def test_a_weight_that_the_loss_does_not_reach_stays():
    model = factory.build("gaussian")
    model.emission._tracker.unlock()
    spare = model.emission.add_weight(name="spare", shape=(2,), initializer="ones")
    with_sgd(model)
    before = factory.weights_of(model)
    assert one_update(model, factory.batch("gaussian"))["gradient_norm"] > 0
    np.testing.assert_array_equal(spare, [1.0, 1.0])
    assert distance(before, factory.weights_of(model)) > 0
