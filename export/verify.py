"""Whether a SavedModel, in a process with TensorFlow alone, answers as the Python model does."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel

from . import bare_process

Arrays = dict[str, npt.NDArray[Any]]

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference, relative to an output's largest entry (or to 1), by the dtype computed in."""

_REMEDY = "nothing was exported: use the versions in requirements.txt, or report this"

ROWS, LONGEST, GENERATED = 8, 256, 8
"""Rows of a request, the steps that it takes of each sequence, and the steps that it generates."""

FLIPS = 2
"""Rows of `generate`, of the `ROWS` asked for alone, that may differ from those of the batch.

A product of another shape is summed in another order. Once in a long while the last bit of a
probability decides what is drawn, and all that follows in that row is other, for a model that is
sound; and it would be so at each attempt, as the seeds are fixed. A row whose noise were not a
function of its seed alone would differ for all seeds but a few.
"""


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


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What a SavedModel must show.

    Attributes:
        listing: of its signatures, as `signatures.listing` gives it.
        cases: requests and their answers.
        tolerance: largest difference, relative to the largest entry of an output, or to 1.
    """

    listing: Mapping[str, Any]
    cases: tuple[Case, ...]
    tolerance: float


def generated(model: SequenceModel, num_steps: int) -> Split:
    """Sequences that the model makes, to verify on where its data cannot be had."""
    steps = min(num_steps, LONGEST)
    x = model.generate(steps, ROWS, seed=0).numpy()
    return Split("generated", x.reshape(-1, *x.shape[2:]), np.full(ROWS, steps, np.int32))


def expectations(model: SequenceModel, listing: Mapping[str, Any], split: Split) -> Expectations:
    """What the Python model says to sequences of a split: short ones, long ones, some cut short.

    Raises:
        UserError: an answer of the model is not finite.
    """
    by_length = np.argsort(split.lengths, kind="stable")
    places = np.linspace(0, len(by_length) - 1, min(ROWS, len(by_length))).astype(np.int64)
    x, lengths = split.padded(by_length[places])
    x, lengths = x[:, :LONGEST], np.minimum(lengths, LONGEST)
    # Each second row ends early, and real frames stand in its padding.
    lengths[::2] = (lengths[::2] + 1) // 2
    # Where there is a GPU, it rounds otherwise than the CPU on which the SavedModel is tried.
    with tf.device("CPU:0"):
        found = tuple(cases(model, x.astype(model.frame_dtype.as_numpy_dtype), lengths))
    for case in found:
        for output, values in case.expected.items():
            if not np.all(np.isfinite(values)):
                raise UserError(
                    f"the model's own answer to {case.signature} ({output}) is not finite: its "
                    "weights or its data are unsound; export another checkpoint, or train again"
                )
    return Expectations(listing, found, TOLERANCES[model.cell.compute_dtype])


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
    seed = _seeds(rows)
    latents = model.encode(x, lengths, seed)
    answers = {
        "score": _arrays(**model.score(x, lengths, seed)._asdict()),
        "encode": _arrays(
            latent_loc=latents.loc, latent_scale=latents.scale, latent=latents.latent
        ),
        "reconstruct": _arrays(x_mean=model.reconstruct(x, lengths, seed)),
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
    yield from _generate_cases(model)


def _generate_cases(model: SequenceModel) -> Iterator[Case]:
    num_steps = np.array([1 + (7 + 5 * row) % GENERATED for row in range(ROWS)], np.int32)
    temperature = np.resize(np.array([1.0, 0.5, 0.0], np.float32), ROWS)
    seed = _seeds(ROWS)
    x = model.generate(int(num_steps.max()), seed=seed, temperature=temperature).numpy()
    x[np.arange(x.shape[1]) >= num_steps[:, None]] = 0
    inputs = {"num_steps": num_steps, "seed": seed, "temperature": temperature}
    answer = {"x": x, "lengths": num_steps}
    yield Case("a batch", "generate", inputs, answer)
    yield Case("the same batch again", "generate", inputs, answer)
    if model.cell.compute_dtype == "bfloat16":
        # Rounding depends on the size of the batch, here enough to tip what is drawn.
        return
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = {name: value[one] for name, value in inputs.items()}
        expected = _fitted({name: value[one] for name, value in answer.items()}, num_steps[row])
        yield Case(f"row {row} alone", "generate", alone, expected, may_flip=True)


def _seeds(rows: int) -> npt.NDArray[np.int32]:
    row = np.arange(rows, dtype=np.int32)
    return np.stack([row, 7 * row + 3], axis=1)


def _arrays(**tensors: tf.Tensor) -> Arrays:
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


def verify(saved_model_dir: str | os.PathLike[str], expectations: Expectations) -> None:
    """Asks a SavedModel, in a process that cannot import `bare_process.HIDDEN`, and compares.

    Raises:
        UserError: it cannot be loaded, lists other signatures, or gives an answer that differs.
    """
    with tempfile.TemporaryDirectory(prefix="zforcing-verify-") as folder:
        requests = {
            f"{number}.{case.signature}.{name}": value
            for number, case in enumerate(expectations.cases)
            for name, value in case.inputs.items()
        }
        np.savez(Path(folder, "requests.npz"), **requests)  # type: ignore[arg-type]
        _ask(os.fspath(saved_model_dir), folder)
        listing = json.loads(Path(folder, "listing.json").read_text(encoding="utf-8"))
        with np.load(Path(folder, "answers.npz")) as arrays:
            answers = dict(arrays)
    if listing != expectations.listing:
        raise UserError(
            "the SavedModel lists other signatures than were exported: "
            f"{json.dumps(listing)} instead of {json.dumps(expectations.listing)}; {_REMEDY}"
        )
    found = [
        {output: answers[f"{number}.{output}"] for output in case.expected}
        for number, case in enumerate(expectations.cases)
    ]
    compare(expectations.cases, found, expectations.tolerance)


def compare(cases: Sequence[Case], answers: Sequence[Arrays], tolerance: float) -> None:
    """Compares answers with what cases expect.

    Raises:
        UserError: an answer differs, or more than `FLIPS` do of those where one may.
    """
    flipped = []
    for case, answer in zip(cases, answers, strict=True):
        for output, expected in case.expected.items():
            try:
                _compare(case, output, answer[output], expected, tolerance)
            except UserError as error:
                flipped.append(str(error))
                if not (case.may_flip and output == "x") or len(flipped) > FLIPS:
                    raise
    for difference in flipped:
        logging.warning("taken for a matter of rounding: %s", difference)


def _ask(saved_model: str, folder: str) -> None:
    search_path = os.pathsep.join(place for place in sys.path if place)
    script = os.path.abspath(bare_process.__file__)
    done = subprocess.run(
        [sys.executable, "-I", script, os.path.abspath(saved_model), folder, search_path],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        logging.error("%s", done.stderr)
        lines = [line for line in done.stderr.splitlines() if line and not line[0].isspace()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UserError(
            f"the SavedModel fails in a process with TensorFlow alone ({reason}); {_REMEDY}"
        )


def _compare(
    case: Case, output: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float
) -> None:
    failure = (
        "the SavedModel does not answer as the Python model does "
        f"(signature {case.signature}, output {output}, {case.name})"
    )
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise UserError(
            f"{failure}: {found.dtype} {list(found.shape)} instead of {expected.dtype} "
            f"{list(expected.shape)}; {_REMEDY}"
        )
    largest = 0.0
    if found.size:
        largest = float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64))))
    allowed = 0.0
    if expected.dtype.kind == "f":
        allowed = tolerance * max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    if not largest <= allowed:
        raise UserError(
            f"{failure}: the largest difference is {largest:.3g}, and only {allowed:.3g} is "
            f"rounding; {_REMEDY}"
        )
