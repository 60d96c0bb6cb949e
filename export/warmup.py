"""Requests that a model server sends to a new version before it takes over.

TensorFlow makes graphs ready, and allocates, with the first request of each kind, which is then
slow. The server reads `assets.extra/tf_serving_warmup_requests`, at most 1,000 records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zforcing_tf.errors import UserError
from zforcing_tf.training.writing import reason

from .cases import Arrays, Case

FILE = "tf_serving_warmup_requests"
ROWS = (1, 4, 16, 64)
"""Rows of a request: those of `serving/batching.config`."""
STEPS = 16
"""Most steps of a request: one graph serves all lengths, and a server reads all of the file."""


def write_warmup(folder: Path, model_name: str, cases: Iterable[Case], frame_size: int) -> bool:
    """Writes the file, if the messages of TensorFlow Serving are installed; else says so.

    Args:
        folder: `assets.extra` of a SavedModel.
        model_name: under which a server has it.
        cases: requests to each signature, of which the first one serves as a pattern.
        frame_size: of the model's data.

    Returns:
        Whether it was written.

    Raises:
        UserError: TensorFlow cannot write there.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        logging.warning(
            "no warm-up requests are written, as tensorflow-serving-api is not installed: "
            "run pip install 'zforcing-tf[serving]' and export again to have them"
        )
        return False
    try:
        with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
            for signature, inputs in requests(cases, frame_size):
                log = prediction_log_pb2.PredictionLog()
                fill(log.predict_log.request, model_name, signature, inputs)
                writer.write(log.SerializeToString())
    except tf.errors.OpError as error:
        raise UserError(
            f"warm-up requests cannot be written to {folder.parent.parent} "
            f"({reason(error)}); make room there, or give another --export_dir"
        ) from error
    return True


def requests(cases: Iterable[Case], frame_size: int) -> Iterator[tuple[str, Arrays]]:
    """Signatures and inputs: of each signature a request of each number of `ROWS`."""
    patterns: dict[str, Arrays] = {}
    for case in cases:
        patterns.setdefault(case.signature, _short(case.inputs, frame_size))
    for signature, inputs in patterns.items():
        given = len(next(iter(inputs.values())))
        for rows in ROWS:
            index = np.arange(rows) % given
            yield signature, {name: value[index] for name, value in inputs.items()}


def _short(inputs: Arrays, frame_size: int) -> Arrays:
    """A request whose sequences have `STEPS` steps at most."""
    most = {("x", "lengths"): STEPS, ("samples", "num_samples"): STEPS * frame_size}
    for (values, counts), longest in most.items():
        if values in inputs and counts in inputs:
            cut = {
                values: inputs[values][:, :longest],
                counts: np.minimum(inputs[counts], longest),
            }
            return {**inputs, **cut}
    return inputs


def fill(request: Any, model_name: str, signature: str, inputs: Arrays) -> None:
    """Fills in a `tensorflow.serving.PredictRequest`."""
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
