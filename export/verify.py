"""Whether a SavedModel, in a process with TensorFlow alone, answers as the Python model does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf import leftovers
from zforcing_tf.data.spec import Split
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel

from . import bare_process, c_api
from .cases import LONGEST, ROWS, Arrays, Case, cases
from .endpoint import NOTHING_MORE, Wanted
from .wanted_cases import wanted_cases

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference, relative to an output's largest entry (or to 1), by the dtype computed in."""

_REMEDY = "nothing was exported: use the versions in requirements.txt, or report this"

FLIPS = 2
"""Rows of what is drawn, of those asked for alone, that may differ from those of the batch.

A product of another shape is summed in another order. Once in a long while the last bit of a
probability decides what is drawn, and all that follows in that row is other, for a model that is
sound; and it would be so at each attempt, as the seeds are fixed. A row whose noise were not a
function of its seed alone would differ for all seeds but a few.
"""


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


def expectations(
    model: SequenceModel,
    listing: Mapping[str, Any],
    split: Split,
    wanted: Wanted = NOTHING_MORE,
) -> Expectations:
    """What the Python model says to sequences of a split: short ones, long ones, some cut short.

    Args:
        model: trained.
        listing: of the signatures that are exported.
        split: of its data.
        wanted: as of `serving_module`.

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
    with tf.device("CPU:0"), wanted.answers(model):
        frames = x.astype(model.frame_dtype.as_numpy_dtype)
        found = tuple(cases(model, frames, lengths))
        found += tuple(wanted_cases(model, wanted, frames, lengths))
    for case in found:
        for output, values in case.expected.items():
            if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
                raise UserError(
                    f"the model's own answer to {case.signature} ({output}) is not finite: its "
                    "weights or its data are unsound; export another checkpoint, or train again"
                )
    return Expectations(listing, found, TOLERANCES[model.cell.compute_dtype])


def verify(saved_model_dir: str | os.PathLike[str], expectations: Expectations) -> None:
    """Asks a SavedModel in two processes, and compares.

    One has TensorFlow and cannot import `bare_process.HIDDEN`. The other loads it as a server does,
    by the library in C++ that comes with TensorFlow; without that library there is a warning.

    Raises:
        UserError: it cannot be loaded, lists other signatures, or gives an answer that differs.
    """
    path = os.path.abspath(saved_model_dir)
    with contextlib.suppress(OSError):  # a folder that may be written and not listed
        leftovers.remove_abandoned(Path(tempfile.gettempdir()), sparing_own=True)
    suffix = leftovers.temporary_suffix()
    with tempfile.TemporaryDirectory(suffix, ".staging-zforcing-verify-") as folder:
        requests = {
            f"{number}.{case.signature}.{name}": value
            for number, case in enumerate(expectations.cases)
            for name, value in case.inputs.items()
        }
        np.savez(Path(folder, "requests.npz"), **requests)  # type: ignore[arg-type]
        _ask(bare_process, "a process with TensorFlow alone", [path, folder])
        listing = json.loads(Path(folder, "listing.json").read_text(encoding="utf-8"))
        if listing != expectations.listing:
            raise UserError(
                "the SavedModel lists other signatures than were exported: "
                f"{json.dumps(listing)} instead of {json.dumps(expectations.listing)}; {_REMEDY}"
            )
        _compare_answers(Path(folder), expectations)
        library = Path(tf.__file__).with_name(c_api.LIBRARY)
        if not library.exists():
            logging.warning("%s is not there: not verified by the C++ loader of a server", library)
            return
        tensors = json.dumps(graph_tensors(path))
        Path(folder, "tensors.json").write_text(tensors, encoding="utf-8")
        _ask(c_api, "the C++ loader of a server", [path, folder, str(library)])
        errors = json.loads(Path(folder, "errors.json").read_text(encoding="utf-8"))
        for number, (_, message) in errors.items():
            case, reason = expectations.cases[int(number)], message.splitlines()[0]
            raise UserError(
                f"the SavedModel, loaded as a server does, refuses {case.name} to "
                f"{case.signature} ({reason}); {_REMEDY}"
            )
        _compare_answers(Path(folder), expectations)


def graph_tensors(saved_model_dir: str) -> dict[str, Any]:
    """The tensors behind each signature of a SavedModel, as `c_api.Session` takes them."""
    from tensorflow.core.protobuf import saved_model_pb2

    read = saved_model_pb2.SavedModel.FromString(
        Path(saved_model_dir, "saved_model.pb").read_bytes()
    )
    return {
        name: {
            "inputs": {key: info.name for key, info in signature.inputs.items()},
            "outputs": {key: info.name for key, info in signature.outputs.items()},
        }
        for name, signature in read.meta_graphs[0].signature_def.items()
    }


def _compare_answers(folder: Path, expectations: Expectations) -> None:
    with np.load(folder / "answers.npz") as arrays:
        answers = dict(arrays)
    found = [
        {output: answers[f"{number}.{output}"] for output in case.expected}
        for number, case in enumerate(expectations.cases)
    ]
    compare(expectations.cases, found, expectations.tolerance)


def compare(cases: Sequence[Case], answers: Sequence[Arrays], tolerance: float) -> None:
    """Compares answers with what cases expect.

    Raises:
        UserError: an answer differs, or more than `FLIPS` of a signature do of those that may.
    """
    flipped: dict[str, list[str]] = defaultdict(list)
    for case, answer in zip(cases, answers, strict=True):
        for output, expected in case.expected.items():
            try:
                _compare(case, output, answer[output], expected, tolerance)
            except UserError as error:
                flipped[case.signature].append(str(error))
                if not (case.may_flip and output == "x") or len(flipped[case.signature]) > FLIPS:
                    raise
    for difference in (text for texts in flipped.values() for text in texts):
        logging.warning("taken for a matter of rounding: %s", difference)


def _ask(script: Any, where: str, arguments: list[str]) -> None:
    """Runs a module of this package as a script in a process of its own."""
    search_path = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(
        [sys.executable, "-I", os.path.abspath(script.__file__), *arguments, search_path],
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
        raise UserError(f"the SavedModel fails in {where} ({reason}); {_REMEDY}")


def _compare(
    case: Case, output: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float
) -> None:
    failure = (
        "the SavedModel does not answer as the Python model does "
        f"(signature {case.signature}, output {output}, {case.name})"
    )
    if expected.dtype.kind == "S":
        if found.tolist() != expected.tolist():
            raise UserError(
                f"{failure}: {found.tolist()} instead of {expected.tolist()}; {_REMEDY}"
            )
        return
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
