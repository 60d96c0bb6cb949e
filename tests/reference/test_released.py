"""Every file of the released implementation's numbers: terms, gradients, intermediates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.reference.released import FILES, Released
from tests.slowly import slow_unless
from zforcing_tf import objectives, unroll
from zforcing_tf.distributions import normal
from zforcing_tf.objectives import Weights

TERMS = {"log_prob": "fwd_nll", "kl": "kld", "auxiliary": "aux_nll", "backward": "bwd_nll"}
LOSS_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def cases() -> list[Any]:
    return [
        pytest.param(path, dtype, id=f"{path.parent.name}-{path.stem}-{dtype}")
        for path in FILES
        for dtype in ("float32", "float64")
        # With large weights the clips are active, and float32 falls on either side of them.
        if not (dtype == "float32" and "saturated" in path.stem)
    ]


def test_reference_files_are_there():
    assert len(FILES) >= 10


WAYS = [("eager", True), ("graph", False), ("graph", True)]
# XLA compiles for a dozen seconds: these here, all with `make slow`.
COMPILED = ("gaussian_condln_zforce-float64", "softmax_condln_zforce-float32")
EACH = [
    # All files as training goes, eagerly those of float64, the automatic gradient of two.
    slow_unless(
        way == ("graph", True)
        or (way == ("eager", True) and "float64" in case.id)
        or case.id.endswith(COMPILED),
        *case.values,
        *way,
        id=f"{case.id}-{way[0]}-{way[1]}",
    )
    for case in cases()
    for way in WAYS
] + [
    slow_unless(case.id.endswith(COMPILED), *case.values, "xla", True, id=f"{case.id}-xla")
    for case in cases()
]


@pytest.mark.parametrize(("path", "dtype", "way", "training"), EACH)
def test_terms_and_gradients(path, dtype, way, training):
    """`training` takes the gradient of the loop that is written by hand, else it is automatic."""
    released = Released(path, dtype)
    model, arrays = released.model, released.arrays
    names = ("weight_kl", "weight_aux", "weight_bwd")
    weights = Weights(*(tf.constant(float(arrays[f"cfg/{name}"]), dtype) for name in names))

    def run(lengths):
        with tf.GradientTape() as tape:
            inference = model.infer(
                released.sequences(lengths),
                released.tensor("in/eps"),
                state=released.state(),
                backward_state=released.state(),
                start_is_data=True,
                training=training,
            )
            loss = tf.reduce_mean(objectives.loss(inference.terms, weights))
        inferred = inference.inferred
        p = normal(*model.cell.prior(inferred.past))
        q = normal(inferred.posterior_loc, inferred.posterior_scale)
        latents = {"log_pz": p.log_prob(inferred.latent), "log_qz": q.log_prob(inferred.latent)}
        gradients = tape.gradient(loss, model.trainable_variables)
        return loss, inference.terms._asdict(), latents, gradients

    run = released.compiled(way, run)
    assert len(released.mapping) == len(model.trainable_variables)
    for mode in ("full", "trim"):
        lengths = released.lengths(mode)
        loss, terms, latents, gradients = run(lengths)
        close = LOSS_TOLERANCE[dtype]
        np.testing.assert_allclose(loss, arrays[f"out/{mode}/loss"], rtol=close)
        mask = tf.transpose(tf.sequence_mask(lengths, released.setting("T")))
        for name, theirs in TERMS.items():
            sign = 1.0 if name == "kl" else -1.0
            ours = sign * tf.reduce_sum(terms[name], axis=0)
            np.testing.assert_allclose(ours, arrays[f"out/{mode}/{theirs}"], rtol=close)
        for name, term in latents.items():
            ours = tf.reduce_sum(tf.where(mask, term, 0.0), axis=0)
            np.testing.assert_allclose(ours, arrays[f"out/{mode}/{name}"], rtol=close)
        by_variable = {
            v.path: np.asarray(tf.convert_to_tensor(g))
            for v, g in zip(model.trainable_variables, gradients, strict=True)
        }
        for variable, theirs, rows in released.mapping:
            for name in theirs:
                expected = arrays[f"grad/{mode}/{name}"]
                error = np.abs(by_variable[variable.path] - expected[rows]).max()
                limit = GRADIENT_TOLERANCE[dtype] * np.abs(expected).max()
                assert error <= limit, f"{mode} {name}: {error} > {limit}"


@pytest.mark.parametrize(("path", "dtype"), cases())
def test_intermediates(path, dtype):
    released = Released(path, dtype)
    model, arrays = released.model, released.arrays
    inference = model.infer(
        released.sequences(released.lengths("full")),
        released.tensor("in/eps"),
        state=released.state(),
        backward_state=released.state(),
        start_is_data=True,
    )
    ours = {
        "b": inference.backward_states,
        "h": inference.inferred.features,
        "z": inference.inferred.latent,
        "kld_t": inference.terms.kl,
        "aux_t": -inference.terms.auxiliary,
        "fwd_params": inference.parameters,
        "bwd_params": model.backward_emission(inference.backward_states),
    }
    for name, value in ours.items():
        expected = arrays[f"step/{name}"]
        limit = 10 * LOSS_TOLERANCE[dtype] * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, atol=limit, rtol=0, err_msg=name)
    assert_last_cell(inference.state.c, arrays["step/c"][-1], dtype)


@pytest.mark.parametrize(("path", "dtype"), cases())
def test_prior_steps(path, dtype):
    """One step of generation a time, repeated over T: the step `observe`."""
    released = Released(path, dtype)
    model, arrays = released.model, released.arrays
    drive = model.cell.drive(released.tensor("in/x"))
    state, seen = unroll.observe(model.cell, released.state(), drive, released.tensor("in/eps"))
    parameters = model.emission(seen.features)
    ours = {"z": seen.latent, "h": seen.features, "fwd_params": parameters}
    for name, value in ours.items():
        expected = arrays[f"prior/{name}"]
        limit = 10 * LOSS_TOLERANCE[dtype] * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, atol=limit, rtol=0, err_msg=name)
    assert_last_cell(state.c, arrays["prior/c"][-1], dtype)


def assert_last_cell(ours, expected, dtype):
    limit = 10 * LOSS_TOLERANCE[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, atol=limit, rtol=0)
