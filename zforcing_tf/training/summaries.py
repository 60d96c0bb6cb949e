"""What TensorBoard shows of a run: scalars of each epoch, and samples where they are pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from zforcing_tf.data.spec import DataSpec
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.writing import GO_ON, writing


class Summaries:
    """Writers of a run, one folder for each split.

    Args:
        directory: of the run's summaries.

    Raises:
        UserError: from each method too, if TensorFlow cannot write there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        with writing(self._directory):
            self._writers = {
                split: tf.summary.create_file_writer(str(self._directory / split))
                for split in ("train", "validation")
            }

    def scalars(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Writes values by name at a training step."""
        with self._writing(split, step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def samples(self, step: int, model: SequenceModel, spec: DataSpec, count: int) -> None:
        """Writes samples as images, of data whose sequences are pictures."""
        if spec.image_shape is None or not count:
            return
        x = model.generate(spec.max_length, count, seed=step)
        images = np.reshape(x, (count, *spec.image_shape, 1))
        with self._writing("train", step):
            tf.summary.image("samples", images, max_outputs=count)

    def flush(self) -> None:
        """Puts everything on disk."""
        with writing(self._directory, GO_ON):
            for writer in self._writers.values():
                writer.flush()

    @contextlib.contextmanager
    def _writing(self, split: str, step: int) -> Iterator[None]:
        with writing(self._directory / split, GO_ON), self._writers[split].as_default(step):
            yield
