"""Requests changed at random: each is answered, or refused with a sentence, as it deserves.

What a request deserves is found out here a second time, in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests import model_factory
from tests.export.served import Served, served
from tests.slowly import slow_unless

Array = npt.NDArray[Any]
Request = dict[str, Array]
MODELS = [
    ("bernoulli", "full"),
    ("gaussian", "vrnn"),
    ("categorical", "zforcing"),
    ("gaussian_mixture", "srnn_gru"),
]
SIGNATURES = ("score", "encode", "reconstruct", "generate", "continue", "initial_state", "step")
FLOATS = (np.nan, np.inf, -np.inf, -1.0, 0.0, 0.5, 1.0, 3.0, 1e30, -1e-30)
WHOLE = (-(2**31), -7, -1, 0, 1, 2, 5, 6, 2**31 - 1)
SHAPE = "is not compatible with expected shape"


def frames_fit(one: Served, x: Array, valid: Array) -> bool:
    family = one.model.emission.family
    if family.symbols:
        return bool(((x >= 0) & (x < family.frame_size))[valid].all())
    low, high = family.limits
    values = x[valid]
    return bool(np.isfinite(values).all() and (values >= low).all() and (values <= high).all())


def shapes_fit(one: Served, signature: str, request: Request) -> bool:
    specs = one.listing[signature]["inputs"]
    rows = set()
    for name, value in request.items():
        shape = specs[name]["shape"]
        if value.ndim != len(shape):
            return False
        if any(want not in (None, size) for want, size in zip(shape, value.shape, strict=True)):
            return False
        rows.add(len(value))
    return len(rows) == 1 and rows != {0}


def deserves_an_answer(one: Served, signature: str, request: Request) -> bool:
    if not shapes_fit(one, signature, request):
        return False
    if "lengths" in request:
        steps, lengths = request["x"].shape[1], request["lengths"]
        if not steps or (lengths < 1).any() or (lengths > steps).any():
            return False
        if not frames_fit(one, request["x"], np.arange(steps) < lengths[:, None]):
            return False
    if "temperature" in request:
        warm = request["temperature"]
        if not (np.isfinite(warm) & (warm >= 0)).all():
            return False
    if "num_steps" in request:
        wanted = request["num_steps"].astype(np.int64)
        if (wanted < 1).any() or len(wanted) * wanted.max() > 100_000:
            return False
    if signature == "step":
        state = one.ask("initial_state", session=np.zeros(1, np.int64))
        if (request["state_model"] != state["state_model"][0]).any():
            return False
        if ((request["state_step"] < 0) | (request["state_step"] >= 2**31 - 2)).any():
            return False
        floats = [v for k, v in request.items() if k[:6] == "state_" and v.dtype.kind == "f"]
        if not all(np.isfinite(value).all() for value in floats):
            return False
        return frames_fit(one, request["x"], np.ones(len(request["x"]), bool))
    return True


def right(one: Served, signature: str, rng: np.random.Generator) -> Request:
    rows, steps = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    emission = one.model.emission.family_name
    request: Request = {
        "x": model_factory.frames(emission, rows, steps, seed=int(rng.integers(99))),
        "lengths": rng.integers(1, steps + 1, rows).astype(np.int32),
        "seed": rng.integers(-(2**31), 2**31 - 1, (rows, 2)).astype(np.int32),
        "num_steps": rng.integers(1, 5, rows).astype(np.int32),
        "temperature": rng.random(rows).astype(np.float32),
        "session": rng.integers(-9, 9, rows),
    }
    if signature == "step":
        request["x"] = request["x"][:, 0]
        request |= one.ask("initial_state", session=request["session"])
        request["state_step"] = rng.integers(0, 9, rows).astype(np.int32)
    return {name: request[name] for name in one.listing[signature]["inputs"]}


def changed(value: Array, rng: np.random.Generator) -> Array:
    """A value with a number, its rows, its axes or its sizes changed."""
    value, how = np.asarray(value), rng.integers(6 if np.ndim(value) else 3)
    if how < 3 and value.size:
        value = value.copy()
        pool = FLOATS if value.dtype.kind == "f" else WHOLE
        value.reshape(-1)[rng.integers(value.size)] = pool[rng.integers(len(pool))]
        return value
    if how == 3:
        rows = int(rng.integers(0, 4))
        return value[:rows] if rng.random() < 0.5 else np.concatenate([value, value[:rows]])
    if how == 4:
        return value[0] if value.ndim and len(value) and rng.random() < 0.5 else value[np.newaxis]
    if value.ndim > 1:
        axis = int(rng.integers(1, value.ndim))
        return np.take(value, np.arange(int(rng.integers(0, value.shape[axis] + 1))), axis=axis)
    return value


def attack(one: Served, count: int, seed: int) -> dict[str, int]:
    """Asks so many changed requests; how many were answered, and how many refused."""
    rng, outcome = np.random.default_rng(seed), {"answered": 0, "refused": 0}
    for _ in range(count):
        signature = SIGNATURES[rng.integers(len(SIGNATURES))]
        request = right(one, signature, rng)
        for _ in range(rng.integers(0, 3)):
            name = list(request)[rng.integers(len(request))]
            request[name] = changed(request[name], rng)
        deserved = deserves_an_answer(one, signature, request)
        try:
            answer = one.ask(signature, **request)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            assert not deserved, (signature, request, error)
            message = getattr(error, "message", str(error))
            assert "assertion failed: [" in message or SHAPE in message, (signature, message)
            outcome["refused"] += 1
            continue
        assert deserved, (signature, request)
        rows = len(next(iter(request.values())))
        huge = any(np.abs(v[np.isfinite(v)]).max(initial=0) > 1e20 for v in request.values())
        for name, value in answer.items():
            assert len(value) == rows, (signature, name)
            # Numbers of 1e30 have densities beyond float32.
            assert huge or np.isfinite(value).all(), (signature, request, name)
        if signature == "score" and not huge:
            expected = one.model.score(**request)
            np.testing.assert_allclose(answer["elbo"], expected.elbo, rtol=1e-4, atol=1e-3)
        outcome["answered"] += 1
    return outcome


@pytest.mark.parametrize(
    "model", [slow_unless(model in MODELS[::2], model, id=":".join(model)) for model in MODELS]
)
def test_requests_changed_at_random(model: tuple[str, str]) -> None:
    outcome = attack(served(*model), 100, seed=1)
    assert min(outcome.values()) > 15, outcome


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=":".join)
def test_ten_thousand_requests_changed_at_random(model: tuple[str, str]) -> None:
    outcome = attack(served(*model), 10_000 // len(MODELS), seed=2)
    assert min(outcome.values()) > 500, outcome
