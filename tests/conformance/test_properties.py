"""What holds for every model: ways of running, padding, batches, the three steps of the loop."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import (
    SEEDS,
    each_case,
    each_part_slowly,
    loss_and_gradients,
    model_of,
    noise_for,
    paddings,
    tensors,
    with_padding,
)
from tests.layers.harness import assert_close
from zforcing_tf import unroll

# Ways of running.


@each_part_slowly
def test_graph_and_xla_are_eager(variant, emission):
    """Losses, terms and gradients; the XLA's within 1e-5."""
    model, batch = model_of(variant, emission), tensors(factory.batch(emission))
    noise = noise_for(model, 5, 3)
    run = functools.partial(loss_and_gradients, model)
    eager = run(batch["x"], batch["lengths"], noise)
    for jit in (False, True):
        compiled = tf.function(run, autograph=False, jit_compile=jit)
        assert_close(compiled(batch["x"], batch["lengths"], noise), eager, 1e-5)


@each_part_slowly
def test_gradient_by_hand_is_the_automatic_one(variant, emission):
    model, batch = model_of(variant, emission), tensors(factory.batch(emission))
    noise = noise_for(model, 5, 3)
    ours, automatic = (
        loss_and_gradients(model, **batch, noise=noise, training=training)
        for training in (True, False)
    )
    assert_close(ours, automatic, 1e-5)
    used = [np.abs(gradient).max(initial=0) for gradient in ours[-1]]
    assert all(used), "a weight without any effect"


@each_part_slowly
def test_float64_and_low_precision_agree(variant, emission):
    """float64 with float32 to 1e-5; bfloat16 within 5% of the bound and of the gradient's norm."""
    batch = factory.batch(emission)
    bounds, norms = {}, {}
    for dtype in ("float32", "float64", "mixed_bfloat16"):
        model = factory.build(emission, dtype=dtype, **factory.VARIANTS[variant])
        wide = "float64" if dtype == "float64" else "float32"
        assert {v.dtype for v in model.trainable_variables} == {wide}
        noise = tf.cast(noise_for(model, 5, 3), model.cell.compute_dtype)
        loss, terms, gradients = loss_and_gradients(model, **tensors(batch), noise=noise)
        assert {term.dtype for term in terms} == {tf.as_dtype(wide)}
        bounds[dtype], norms[dtype] = loss.numpy(), float(tf.linalg.global_norm(gradients))
    np.testing.assert_allclose(bounds["float32"], bounds["float64"], rtol=1e-5)
    np.testing.assert_allclose(bounds["mixed_bfloat16"], bounds["float64"], rtol=0.05)
    np.testing.assert_allclose(norms["float32"], norms["float64"], rtol=1e-4)
    np.testing.assert_allclose(norms["mixed_bfloat16"], norms["float64"], rtol=0.05)


# Padding and batches.


@each_case
def test_padding_changes_no_score(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    expected = model.score(**batch, seed=SEEDS)
    latents = model.encode(**batch, seed=SEEDS)
    for value in paddings(emission):
        padded = with_padding(batch, value)
        scores = model.score(**padded, seed=SEEDS)
        np.testing.assert_allclose(scores.elbo, expected.elbo, rtol=1e-6)
        for ours, theirs in zip(scores[1:], expected[1:], strict=True):
            np.testing.assert_allclose(ours[:, :5], theirs, rtol=1e-5, atol=1e-6)
            valid = np.arange(7) < padded["lengths"][:, None]
            np.testing.assert_array_equal(np.asarray(ours)[~valid], 0)
        for ours, theirs in zip(model.encode(**padded, seed=SEEDS), latents, strict=True):
            np.testing.assert_allclose(ours[:, :5], theirs, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(ours[:, 5:], tf.zeros_like(ours[:, 5:]))


@each_part_slowly
def test_padding_changes_no_gradient(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    noise = noise_for(model, 7, 3)
    dtype = model.frame_dtype
    results = []
    for value in paddings(emission):
        x, lengths = with_padding(batch, value).values()
        results.append(loss_and_gradients(model, tf.cast(x, dtype), tf.constant(lengths), noise))
        assert all(np.isfinite(gradient).all() for gradient in results[-1][-1])
    for other in results[1:]:
        tf.nest.map_structure(np.testing.assert_array_equal, other, results[0])


@each_case
def test_a_row_does_not_depend_on_its_batch(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    together = model.score(**batch, seed=SEEDS)
    for row, length in enumerate(batch["lengths"]):
        x = batch["x"][row : row + 1, :length]
        alone = model.score(x, seed=SEEDS[row : row + 1])
        np.testing.assert_allclose(alone.elbo[0], together.elbo[row], rtol=1e-5)
    order = [2, 0, 1]
    turned = {name: value[order] for name, value in batch.items()}
    scores = model.score(**turned, seed=tf.gather(SEEDS, order))
    np.testing.assert_allclose(scores.elbo, tf.gather(together.elbo, order), rtol=1e-5)


@each_case
def test_the_same_seed_gives_the_same_answer(variant, emission):
    model, batch = model_of(variant, emission), factory.batch(emission)
    first, second, other = (model.score(**batch, seed=seed).elbo for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (variant == "rnn") == np.array_equal(first, other)


# The three steps of the loop.


@each_case
def test_steps_one_by_one_are_observe(variant, emission):
    model, batch = model_of(variant, emission), tensors(factory.batch(emission))
    cell, noise = model.cell, noise_for(model, 5, 3)
    inputs = model.sequences(**batch).inputs
    last, seen = unroll.observe(cell, cell.initial_state(3), cell.drive(inputs), noise)
    state, weights = cell.initial_state(3), cell.loop_weights("prior")
    for t in range(5):
        made_before = weights if t % 2 else None
        state, now = unroll.prior_step(cell, state, cell.drive(inputs[t]), noise[t], made_before)
        np.testing.assert_allclose(now.features, seen.features[t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(now.latent, seen.latent[t], rtol=1e-5, atol=1e-6)
    assert_close(state, last, 1e-6)


@each_case
def test_observing_what_was_generated_reproduces_the_emission(variant, emission):
    model, rows, num_steps = model_of(variant, emission), 4, 6
    cell, own = model.cell, model.emission
    noise = noise_for(model, num_steps, rows, own.noise_size)
    first, temperature = model.emission.first_input(rows), tf.ones((rows, 1))
    state = cell.initial_state(rows)
    (last, x), generated = unroll.generate(cell, own, state, first, noise, temperature)
    np.testing.assert_array_equal(x, generated.x[-1])
    inputs = tf.concat([first[tf.newaxis], generated.x[:-1]], axis=0)
    latent_noise = noise[..., : cell.latent_size]
    after, seen = unroll.observe(cell, state, cell.drive(inputs), latent_noise)
    parameters = own(seen.features, own.skip(cell, inputs))
    assert_close(
        (parameters, seen.latent, after), (generated.parameters, generated.latent, last), 1e-5
    )


@each_case
def test_rows_are_generated_independently(variant, emission):
    model = model_of(variant, emission)
    together = model.generate(6, seed=SEEDS, temperature=[1.0, 0.5, 0.0])
    for row, temperature in enumerate((1.0, 0.5, 0.0)):
        alone = model.generate(6, seed=SEEDS[row : row + 1], temperature=temperature)
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)
    shorter = model.generate(4, seed=SEEDS, temperature=[1.0, 0.5, 0.0])
    np.testing.assert_allclose(together[:, :4], shorter, rtol=1e-4, atol=1e-5)


@each_case
def test_temperature_zero_needs_no_seed(variant, emission):
    model = model_of(variant, emission)
    one, other = (model.generate(5, 2, seed=seed, temperature=0.0) for seed in (1, 2))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one[0], one[1], rtol=1e-5, atol=1e-6)
    hot = model.generate(5, 2, seed=1)
    assert not np.array_equal(hot[0], hot[1])


@each_case
def test_a_continuation_depends_on_the_prefix_and_follows_its_state(variant, emission):
    """With temperature 0, against the loop: infer over the prefix, then generate from its end."""
    model, x = model_of(variant, emission), factory.frames(emission, 3, 4)
    ours = model.generate(3, seed=SEEDS, prefix=x, temperature=0.0)
    assert ours.shape == (3, 3, *x.shape[2:]) and ours.dtype == model.frame_dtype
    again = model.generate(5, seed=SEEDS, prefix=x, temperature=0.0)
    np.testing.assert_allclose(again[:, :3], ours, rtol=1e-5, atol=1e-6)
    alone = model.generate(3, seed=SEEDS[1:2], prefix=x[1:2], temperature=0.0)
    np.testing.assert_allclose(alone[0], ours[1], rtol=1e-5, atol=1e-6)
    if variant == "rnn":
        cell, own = model.cell, model.emission
        empty = tf.zeros((4, 3, 0))
        inputs = model.sequences(tf.constant(x), tf.constant([4, 4, 4])).inputs
        state, _ = unroll.observe(cell, cell.initial_state(3), cell.drive(inputs), empty)
        noise = tf.zeros((3, 3, own.noise_size))
        _, generated = unroll.generate(
            cell, own, state, tf.constant(x[:, -1]), noise, tf.zeros((3, 1))
        )
        np.testing.assert_array_equal(ours, tf.transpose(generated.x, (1, 0, 2)))
