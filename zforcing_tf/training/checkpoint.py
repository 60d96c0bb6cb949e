"""Checkpoints that are complete or invisible, and the way back from a damaged one.

A checkpoint is a folder `last-<step>` or `best-<step>`: TensorFlow writes into a folder of another
name, which is renamed when all of it is there. TensorFlow checks a checksum of each tensor when it
reads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
from absl import logging

from zforcing_tf import models
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.json_files import read_json
from zforcing_tf.training.run_directory import RunDirectory

Kind = Literal["last", "best"]
_PARTIAL = ".partial-"
_STATE, _PROGRESS = "state", "progress.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are complete.
        batch: batches done of the next epoch.
        best_elbo: best validation bound so far, nats per sequence; None before the first.
        best_epoch: epochs that were complete then.
        seconds: spent in training, validation included.
    """

    epoch: int = 0
    batch: int = 0
    best_elbo: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0


def load_model(
    run_dir: str | os.PathLike[str], which: str = "best"
) -> tuple[SequenceModel, ExperimentConfig, DataSpec, int]:
    """The trained model of a run, its configuration, what its data is, and its training step.

    Args:
        run_dir: of the run.
        which: `best`, weights of the epoch with the best validation bound, or `last`.

    Raises:
        UserError: no run there, or no sound checkpoint.
    """
    if which not in ("best", "last"):
        raise UserError(f"there is no checkpoint {which!r}; give 'best' or 'last'")
    kind: Kind = "best" if which == "best" else "last"
    run = RunDirectory(os.fspath(run_dir))
    config = run.open_for_reading()
    try:
        spec = DataSpec.from_json(read_json(run.data))
    except UserError as error:
        raise UserError(
            f"{run.data} cannot be used: {error}; give the training command again to restore it"
        ) from error
    model = models.build(config, spec)
    step = Checkpoints(run.checkpoints, model).restore_weights(kind)
    if step is None:
        raise UserError(
            f"{run.path} has no {which} checkpoint yet; train at least one epoch with "
            f"python -m zforcing_tf.train --flagfile={run.flags}"
        )
    return model, config, spec, step


class Checkpoints:
    """The checkpoints of a run.

    Args:
        directory: of the run's checkpoints; made if need be.
        model: compiled, if its optimizer is to be kept too.
        keep: number of `last` checkpoints kept.
    """

    def __init__(
        self, directory: str | os.PathLike[str], model: SequenceModel, keep: int = 2
    ) -> None:
        self.directory = Path(directory)
        self.keep = keep
        self._model = model

    def save(self, kind: Kind, progress: Progress) -> Path:
        """Writes a checkpoint, and removes those of its kind that are no longer wanted."""
        name = f"{kind}-{int(self._model.step_counter.numpy()):08d}"
        partial, final = self.directory / (_PARTIAL + name), self.directory / name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tf.train.Checkpoint(model=self._model, optimizer=self._model.optimizer).write(
            str(partial / _STATE)
        )
        (partial / _PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        for old in self.paths(kind)[: -(self.keep if kind == "last" else 1)]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def paths(self, kind: Kind) -> list[Path]:
        """Checkpoints of a kind, oldest first."""
        return sorted(self.directory.glob(f"{kind}-*"))

    def restore(self, kind: Kind) -> Progress | None:
        """Restores the newest checkpoint of a kind that is sound; None if there is none at all.

        Raises:
            UserError: there are checkpoints, and each is damaged.
        """
        for leftover in self.directory.glob(_PARTIAL + "*"):
            shutil.rmtree(leftover, ignore_errors=True)

        def read(path: Path) -> Progress:
            progress = Progress(**json.loads((path / _PROGRESS).read_text()))
            checkpoint = tf.train.Checkpoint(model=self._model, optimizer=self._model.optimizer)
            checkpoint.read(str(path / _STATE)).assert_existing_objects_matched()
            return progress

        return _newest_sound(self.paths(kind), read)

    def restore_weights(self, kind: Kind) -> int | None:
        """Restores weights alone, for use of a trained model; returns their step, or None."""

        def read(path: Path) -> int:
            status = tf.train.Checkpoint(model=self._model).read(str(path / _STATE))
            status.assert_existing_objects_matched().expect_partial()
            return int(self._model.step_counter.numpy())

        return _newest_sound(self.paths(kind), read)


def _newest_sound(paths: list[Path], read: Callable[[Path], Any]) -> Any:
    for path in reversed(paths):
        try:
            return read(path)
        except Exception as error:  # TensorFlow has a dozen kinds for damaged files
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            logging.error("checkpoint %s is damaged (%s); trying the one before it", path, reason)
    if not paths:
        return None
    raise UserError(
        f"no checkpoint in {paths[0].parent} can be read ({len(paths)} tried, the reasons stand "
        "above); restore the folder from a copy, or delete it to train from the start"
    )
