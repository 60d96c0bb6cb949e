"""Requests to a SavedModel, and what must be the answers: those of the Python model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.data.spec import Split
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.streaming import Stream

from .streaming import Form

Arrays = dict[str, npt.NDArray[Any]]

ROWS, LONGEST, GENERATED = 8, 256, 8
"""Rows of a request, the steps that it takes of each sequence, and the steps that it generates."""


class Case(NamedTuple):
    """A request, and what must be the answer.

    Attributes:
        name: what the request is.
        signature: that answers it.
        inputs: by name.
        expected: outputs by name.
        may_flip: whether rounding may tip what is drawn, see `FLIPS`.
    """

    name: str
    signature: str
    inputs: Arrays
    expected: Arrays
    may_flip: bool = False


def generated(model: SequenceModel, num_steps: int) -> Split:
    """Sequences that the model makes, to verify on where its data cannot be had."""
    steps = min(num_steps, LONGEST)
    x = model.generate(steps, ROWS, seed=0).numpy()
    return Split("generated", x.reshape(-1, *x.shape[2:]), np.full(ROWS, steps, np.int32))


def cases(
    model: SequenceModel, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]
) -> Iterator[Case]:
    """Requests to each signature: a batch, the same again, padded otherwise, and rows of it alone.

    Args:
        model: gives the answers, once for each signature; they hold for each form of the request.
        x: [B, T, D] or [B, T], of the model's frame dtype.
        lengths: [B] int32.
    """
    rows, steps = x.shape[:2]
    seed = row_seeds(rows)
    latents = model.encode(x, lengths, seed)
    answers = {
        "score": arrays(**model.score(x, lengths, seed)._asdict()),
        "encode": arrays(latent_loc=latents.loc, latent_scale=latents.scale, latent=latents.latent),
        "reconstruct": arrays(x_mean=model.reconstruct(x, lengths, seed)),
    }
    more = steps + 3
    padded = np.full((rows, more, *x.shape[2:]), -1 if x.dtype.kind == "i" else np.nan, x.dtype)
    valid = np.arange(steps) < lengths[:, None]
    padded[:, :steps][valid] = x[valid]
    for signature, answer in answers.items():
        inputs = {"x": x, "lengths": lengths, "seed": seed}
        yield Case("a batch", signature, inputs, answer)
        yield Case("the same batch again", signature, inputs, answer)
        other = {**inputs, "x": padded}
        yield Case("the batch with other padding", signature, other, _fitted(answer, more))
        for row in sorted({0, rows - 1}):
            one, end = slice(row, row + 1), int(lengths[row])
            alone = {"x": x[one, :end], "lengths": lengths[one], "seed": seed[one]}
            expected = _fitted({name: value[one] for name, value in answer.items()}, end)
            yield Case(f"row {row} alone", signature, alone, expected)
    yield from _generate_cases(model, x, lengths)
    yield from _step_cases(model, x)


def _generate_cases(
    model: SequenceModel, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32]
) -> Iterator[Case]:
    """After the beginning of each row of x, and from the start of a sequence."""
    beginning = x[:, :GENERATED]
    prefix = {"x": beginning, "lengths": np.minimum(lengths, beginning.shape[1])}
    yield from _drawn_cases(model, "continue", len(x), prefix)
    yield from _drawn_cases(model, "generate", ROWS, {})


def _drawn_cases(
    model: SequenceModel, signature: str, count: int, prefix: Arrays
) -> Iterator[Case]:
    num_steps = np.array([1 + (7 + 5 * row) % GENERATED for row in range(count)], np.int32)
    temperature = np.resize(np.array([1.0, 0.5, 0.0], np.float32), count)
    inputs = {"num_steps": num_steps, "seed": row_seeds(count), "temperature": temperature}
    how: Any = {"prefix": prefix["x"], "prefix_lengths": prefix["lengths"]} if prefix else {}
    x = model.generate(
        int(num_steps.max()), seed=inputs["seed"], temperature=temperature, **how
    ).numpy()
    x[np.arange(x.shape[1]) >= num_steps[:, None]] = 0
    inputs |= prefix
    answer = {"x": x, "lengths": num_steps}
    yield Case("a batch", signature, inputs, answer)
    yield Case("the same batch again", signature, inputs, answer)
    if model.cell.compute_dtype == "bfloat16":
        # Rounding depends on the size of the batch, here enough to tip what is drawn.
        return
    for row in range(count):
        one = slice(row, row + 1)
        alone = {name: value[one] for name, value in inputs.items()}
        if prefix:
            alone["x"] = alone["x"][:, : int(prefix["lengths"][row])]
        expected = _fitted({name: value[one] for name, value in answer.items()}, num_steps[row])
        yield Case(f"row {row} alone", signature, alone, expected, may_flip=True)


def _step_cases(model: SequenceModel, x: npt.NDArray[Any]) -> Iterator[Case]:
    """Streams that begin, and that go on."""
    rows, stream, form = len(x), Stream(model), Form(model)
    seed, temperature = row_seeds(rows), np.ones(rows, np.float32)
    state = stream.initial_state(rows)
    sessions = {"session": np.arange(rows, dtype=np.int64)}
    yield Case("as many streams", "initial_state", sessions, arrays(**form.named(state)))
    for number in range(min(2, x.shape[1])):
        before, frame = arrays(**form.named(state)), x[:, number]
        state, seen = stream.step(
            state, tf.constant(frame), tf.constant(seed), tf.constant(temperature)
        )
        said = {"log_prob": seen.log_prob, "x_mean": seen.mean, "x_sample": seen.sample}
        inputs = {"x": frame, "seed": seed, "temperature": temperature, **before}
        yield Case(f"frame {number}", "step", inputs, arrays(**said, **form.named(state)))


def row_seeds(rows: int) -> npt.NDArray[np.int32]:
    """[B, 2]: another one for each row."""
    row = np.arange(rows, dtype=np.int32)
    return np.stack([row, 7 * row + 3], axis=1)


def arrays(**tensors: tf.Tensor) -> Arrays:
    """As NumPy knows them: bfloat16 becomes float32, as in the SavedModel."""
    return {
        name: tf.cast(tensor, tf.float32).numpy() if tensor.dtype.size < 4 else tensor.numpy()
        for name, tensor in tensors.items()
    }


def _fitted(answer: Arrays, steps: int) -> Arrays:
    """An answer with every time axis cut, or filled up with zeros, to a number of steps."""
    fitted = {}
    for name, value in answer.items():
        if value.ndim > 1:
            missing = [(0, 0), (0, max(0, steps - value.shape[1])), *[(0, 0)] * (value.ndim - 2)]
            value = np.pad(value[:, :steps], missing)
        fitted[name] = value
    return fitted
