"""Answers requests to a SavedModel in a process that has TensorFlow and nothing of ours.

A script, run by `verify.py`; it imports no module of this package:

    python -I bare_process.py <saved_model> <folder> <sys.path of the caller>

It reads `<folder>/requests.npz`, whose arrays are called `<number>.<signature>.<input>`, and writes
`<folder>/answers.npz` (`<number>.<output>`) and `<folder>/listing.json` (names, dtypes and shapes).
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from typing import Any

HIDDEN = ("zforcing_tf", "export", "keras", "tf_keras", "tensorflow_probability")
"""Packages that a process which serves a model need not have."""


class _Hiding:
    """A finder of modules that finds none of `HIDDEN`, as if these were not installed."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in HIDDEN:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide() -> None:
    """Makes every later import of a package of `HIDDEN` raise ModuleNotFoundError."""
    sys.meta_path[:] = [_Hiding(finder) for finder in sys.meta_path]


def listing(signatures: Any) -> dict[str, Any]:
    """Inputs and outputs of the signatures of a loaded SavedModel, as `json` writes them.

    Args:
        signatures: `tf.saved_model.load(...).signatures`.

    Returns:
        `{signature: {"inputs": {name: {"dtype": ..., "shape": [...]}}, "outputs": ...}}`; a
        dimension that each request chooses is null.
    """
    found = {}
    for name, function in sorted(signatures.items()):
        sides = {
            "inputs": function.structured_input_signature[1],
            "outputs": function.structured_outputs,
        }
        found[name] = {
            side: {
                key: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
                for key, spec in sorted(specs.items())
            }
            for side, specs in sides.items()
        }
    return found


def _plain(value: Any) -> Any:
    """An array that needs no pickling: strings have one width."""
    return value.astype("S") if value.dtype == object else value


def main(saved_model: str, folder: str, search_path: str) -> None:
    """Does what the module says."""
    # Isolated mode hides where a user has installed TensorFlow for themselves.
    sys.path += [place for place in search_path.split(os.pathsep) if place not in sys.path]
    hide()
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(saved_model).signatures
    with open(os.path.join(folder, "listing.json"), "w", encoding="utf-8") as file:
        json.dump(listing(signatures), file)
    requests: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    with np.load(os.path.join(folder, "requests.npz")) as arrays:
        for key in arrays:
            number, signature, name = key.split(".")
            requests[number, signature][name] = tf.constant(arrays[key])
    answers = {
        f"{number}.{name}": _plain(value.numpy())
        for (number, signature), inputs in requests.items()
        for name, value in signatures[signature](**inputs).items()
    }
    imported = {name.partition(".")[0] for name in sys.modules}.intersection(HIDDEN)
    if imported:
        raise ImportError(f"the SavedModel imported {', '.join(sorted(imported))}")
    np.savez(os.path.join(folder, "answers.npz"), **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
