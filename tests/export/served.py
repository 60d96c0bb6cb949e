"""SavedModels of small models, loaded into the process of the tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from export.bare_process import listing
from export.cases import Arrays, Case
from export.endpoint import NOTHING_MORE, Wanted
from export.saved_model import write_model
from export.signatures import listing as exported_listing
from export.signatures import serving_module
from tests import model_factory
from zforcing_tf.sequence_model import SequenceModel

LENGTHS = np.array([5, 2, 3, 1], np.int32)
SEED = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int32)


class Served(NamedTuple):
    """A model, its SavedModel as it was loaded again, where that is, and what both sides list."""

    model: SequenceModel
    signatures: dict[str, Any]
    path: Path
    listing: dict[str, Any]
    exported: dict[str, Any]

    def ask(self, signature: str, **inputs: Any) -> Arrays:
        """Answers of a signature."""
        answers = self.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    def refusal(self, signature: str, **inputs: Any) -> str:
        """What a signature says to a request that it must not answer."""
        try:
            answers = self.ask(signature, **inputs)
        except tf.errors.InvalidArgumentError as error:
            return error.message
        raise AssertionError(f"{signature} answered {answers}")


def save(model: SequenceModel, path: Path, wanted: Wanted = NOTHING_MORE) -> dict[str, Any]:
    """Writes the SavedModel of a model; returns the listing of its signatures."""
    module, signatures = serving_module(model, wanted)
    write_model(module, signatures, path)
    return exported_listing(signatures)


def served(
    emission: str = "bernoulli",
    variant: str = "full",
    dtype: str = "float32",
    compiled: bool = False,
) -> Served:
    """The same object for the same arguments; tests must not change it.

    Few are kept, as each holds some 200 MiB of graphs.
    """
    return _served(emission, variant, dtype, compiled)


@functools.lru_cache(maxsize=3)
def _served(emission: str, variant: str, dtype: str, compiled: bool) -> Served:
    values = model_factory.VARIANTS[variant]
    model = model_factory.build(emission, dtype=dtype, **values)
    path = Path(tempfile.mkdtemp(prefix="served-"))
    exported = save(model, path, Wanted(compiled=compiled))
    signatures = tf.saved_model.load(str(path)).signatures
    return Served(model, signatures, path, listing(signatures), exported)


def request(one: Served, seed: int = 0) -> dict[str, np.ndarray]:
    """x, lengths and seed; the padding of x is not empty."""
    x = model_factory.frames(one.model.emission.family_name, 4, 5, seed=seed)
    return {
        "x": x.astype(one.model.frame_dtype.as_numpy_dtype),
        "lengths": LENGTHS,
        "seed": SEED,
    }


def distance(case: Case, answers: Arrays) -> float:
    """Largest difference between answers and what a case expects."""
    assert set(answers) == set(case.expected), case.name
    differences = [0.0]
    for name, expected in case.expected.items():
        found = answers[name]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), (case.name, name)
        if found.size:
            differences.append(np.max(np.abs(found.astype(float) - expected.astype(float))))
    return float(np.max(differences))
