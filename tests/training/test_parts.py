"""A batch in parts is the batch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import tensors
from tests.layers.harness import assert_close
from tests.slowly import slow_unless

CASES = {
    "elbo": {},
    "dropout": {"dropout": 0.3},
    "iwae": {"bound": "iwae", "num_samples": 3},
    "fivo": {"bound": "fivo", "num_samples": 4, "model": "vrnn"},
}


def update(lengths: tuple[int, ...], **own) -> tuple[dict[str, float], list[np.ndarray]]:
    """Metrics, and weights after two updates."""
    model = factory.trainable("gaussian", **own)
    step = tf.function(model.train_step, autograph=False)
    for seed in range(2):
        metrics = step(tensors(factory.batch("gaussian", lengths, seed)))
    return {name: float(v) for name, v in metrics.items()}, factory.weights_of(model)


@pytest.mark.parametrize("case", [slow_unless(case in ("dropout", "fivo"), case) for case in CASES])
def test_same_noise_and_same_sum(case):
    """Three rows in two parts; each row has the noise that it has in the whole batch."""
    whole = update((5, 3, 1), **CASES[case])
    parts = update((5, 3, 1), concurrent_parts=2, **CASES[case])
    assert whole[0].keys() == parts[0].keys()
    for name, value in whole[0].items():
        np.testing.assert_allclose(parts[0][name], value, rtol=1e-5, err_msg=name)
    assert_close(parts[1], whole[1], 1e-5)


@pytest.mark.parametrize("enable_xla", [slow_unless(how == "off", how) for how in ("off", "on")])
def test_more_parts_than_rows(enable_xla):
    """Some parts are empty, and add nothing."""
    whole = update((4,))
    parts = update((4,), concurrent_parts=3, enable_xla=enable_xla)
    assert_close(parts[1], whole[1], 1e-5)
    np.testing.assert_allclose(parts[0]["loss"], whole[0]["loss"], rtol=1e-5)
