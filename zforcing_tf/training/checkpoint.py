"""Checkpoints that are complete or invisible, and the way back from a damaged one.

A checkpoint is a folder `last-<step>` or `best-<step>`: TensorFlow writes into a folder of another
name, which is renamed when all of it is on the disk. One of the same step is moved aside to
`last-<step>.replaced` until then, so that whenever the process is killed a complete one is there.
`checksums.json` has the SHA-256 of each file, which is compared before one is read. A damaged one
is kept as `last-<step>.damaged` for whoever wants to look at it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import tensorflow as tf
from absl import logging

from zforcing_tf import models
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data.identity import spec_of
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training import durable
from zforcing_tf.training.json_files import read_json
from zforcing_tf.training.run_directory import RunDirectory

Kind = Literal["last", "best"]
_PARTIAL, _REPLACED, _DAMAGED = ".partial-", ".replaced", ".damaged"
_BEST_KEPT = 2  # the second is what a damaged one falls back to
_STATE, _PROGRESS, _CHECKSUMS = "state", "progress.json", "checksums.json"
_SPARE = 1.2
"""Room that a checkpoint may take beyond its tensors, as a factor."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are complete.
        batch: batches done of the next epoch; if all, it is to be validated.
        best_bound: best validation bound so far, nats per sequence; None before the first.
        best_epoch: epochs that were complete then.
        seconds: spent in training, validation included.
        sums: of the metrics over those batches, by the name of their variable: what each replica
            has, or, in checkpoints of earlier versions, all of them together.
    """

    epoch: int = 0
    batch: int = 0
    best_bound: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    sums: Mapping[str, list[float] | float] = dataclasses.field(default_factory=dict)


def load_model(
    run_dir: str | os.PathLike[str], which: str = "best", dtype: str | None = None
) -> tuple[SequenceModel, ExperimentConfig, DataSpec, int]:
    """The trained model of a run, its configuration, what its data is, and its training step.

    Args:
        run_dir: of the run.
        which: `best`, weights of the epoch with the best validation bound, or `last`.
        dtype: in which the model computes, in place of that of the run.

    Raises:
        UserError: no run there, or no sound checkpoint.
    """
    if which not in ("best", "last"):
        raise UserError(f"there is no checkpoint {which!r}; give 'best' or 'last'")
    kind: Kind = "best" if which == "best" else "last"
    run = RunDirectory(os.fspath(run_dir))
    config = run.open_for_reading()
    try:
        spec = spec_of(read_json(run.data))
    except UserError as error:
        raise UserError(
            f"{run.data} cannot be used: {error}; give the training command again to restore it"
        ) from error
    model = models.build(config, spec)
    if Checkpoints(run.checkpoints, model).restore_weights(kind) is None:
        raise UserError(
            f"{run.path} has no {which} checkpoint yet; train at least one epoch with "
            f"python -m zforcing_tf.train --flagfile={run.flags}"
        )
    step = int(model.step_counter.numpy())
    if dtype is not None:
        sections = config.to_json()
        config = ExperimentConfig.from_json(
            {**sections, "run": {**sections["run"], "dtype": dtype}}
        )
        trained, model = model, models.build(config, spec)
        model.set_weights(trained.get_weights())
    return model, config, spec, step


class Checkpoints:
    """The checkpoints of a run.

    Args:
        directory: of the run's checkpoints; made if need be.
        model: compiled, if its optimizer is to be kept too.
        keep: number of `last` checkpoints kept.
        writes: whether this process keeps them. Of several workers each has to take part in making
            one, and only one of them is to keep it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        model: SequenceModel,
        keep: int = 2,
        writes: bool = True,
    ) -> None:
        self.directory = Path(directory)
        self.keep = keep
        self._writes = writes
        self._model = model

    def save(self, kind: Kind, progress: Progress) -> Path:
        """Writes a checkpoint, and removes those of its kind that are no longer wanted."""
        name = f"{kind}-{int(self._model.step_counter.numpy()):08d}"
        partial, final = self.directory / (_PARTIAL + name), self.directory / name
        if not self._writes:
            with tempfile.TemporaryDirectory(prefix="checkpoint-") as scratch:
                self._state().write(str(Path(scratch, _STATE)))
            return final
        replaced = self.directory / (name + _REPLACED)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._state().write(str(partial / _STATE))
            (partial / _PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)))
            (partial / _CHECKSUMS).write_text(json.dumps(_checksums(partial)))
            durable.flush(partial)
            if final.exists():
                self._remove(replaced)
                durable.rename(final, replaced)
            durable.rename(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._remove(replaced)
        for old in self.paths(kind)[: -(self.keep if kind == "last" else _BEST_KEPT)]:
            if old != final:
                self._remove(old)
        return final

    def check_room(self) -> None:
        """Finds out whether the disk holds the checkpoints of a run, before it begins.

        Raises:
            UserError: it does not.
        """
        if not self._writes:
            return
        variables = [*self._model.variables, *self._model.optimizer.variables]
        size = sum(v.value.shape.num_elements() * v.value.dtype.size for v in variables)
        there = len(self.paths("last")) + len(self.paths("best"))
        # One more than are kept: an old one goes when the new one is there.
        needed = int(_SPARE * size * max(1, self.keep + _BEST_KEPT + 1 - there))
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"{self.directory} has room for {free / 2**20:,.0f} MiB, and the checkpoints of "
                f"this run take {needed / 2**20:,.0f} MiB more: make room there, give a smaller "
                "--keep_checkpoints, or another --run_dir"
            )

    def _state(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(model=self._model, optimizer=self._model.optimizer)

    def _remove(self, path: Path) -> None:
        """Removes a checkpoint; to a reader it vanishes at once and as a whole."""
        hidden = self.directory / (_PARTIAL + path.name)
        with contextlib.suppress(OSError):
            os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def paths(self, kind: Kind, after: int = -1) -> list[Path]:
        """Checkpoints of a kind and of later steps than one, oldest first."""
        found = []
        for path in self.directory.glob(f"{kind}-*"):
            if match := re.fullmatch(rf"{kind}-(\d+)({re.escape(_REPLACED)})?", path.name):
                found.append((int(match[1]), match[2] is None, path))
        return [path for step, _, path in sorted(found) if step > after]

    def restore(self, kind: Kind) -> Progress | None:
        """Restores the newest checkpoint of a kind that is sound; None if there is none at all.

        Raises:
            UserError: there are checkpoints, and each is damaged.
        """
        for leftover in self.directory.glob(_PARTIAL + "*") if self._writes else ():
            shutil.rmtree(leftover, ignore_errors=True)
        for replaced in self.directory.glob("*" + _REPLACED) if self._writes else ():
            if replaced.with_name(replaced.name.removesuffix(_REPLACED)).exists():
                self._remove(replaced)

        def read(path: Path) -> None:
            self._state().read(str(path / _STATE)).assert_existing_objects_matched()

        found = self._newest_sound(kind, read)
        if found is not None and self._writes:
            self._set_aside(int(self._model.step_counter.numpy()))
        return found

    def _set_aside(self, step: int) -> None:
        """What is of later steps, as training goes on from an earlier one.

        Else it would be taken for the newest, and what is written from now on for old.
        """
        for path in self.paths("last", after=step):
            damaged = path.with_name(path.name + _DAMAGED)
            shutil.rmtree(damaged, ignore_errors=True)
            durable.rename(path, damaged)
        for path in self.paths("best", after=step):  # that training finds again
            self._remove(path)

    def restore_weights(self, kind: Kind) -> Progress | None:
        """As `restore`, but of the weights alone, for use of a trained model."""

        def read(path: Path) -> None:
            status = tf.train.Checkpoint(model=self._model).read(str(path / _STATE))
            status.assert_existing_objects_matched().expect_partial()

        return self._newest_sound(kind, read)

    def _newest_sound(self, kind: Kind, read: Callable[[Path], None]) -> Progress | None:
        while paths := self.paths(kind):
            for path in reversed(paths):
                try:
                    _verify(path)
                    progress = Progress(**json.loads((path / _PROGRESS).read_text()))
                    read(path)
                    return progress
                except Exception as error:  # TensorFlow has a dozen kinds for damaged files
                    if not path.exists():
                        break  # a training that goes on has newer ones: look again
                    lines = str(error).strip().splitlines()
                    reason = lines[0] if lines else repr(error)
                    logging.error("%s is damaged (%s); trying the one before it", path, reason)
            else:
                others = ", or use the last one with --checkpoint=last" * (kind == "best")
                raise UserError(
                    f"no checkpoint in {self.directory} can be read ({len(paths)} of the kind "
                    f"{kind!r} tried, the reasons stand above); restore one from a copy{others}, "
                    "or train again in another --run_dir"
                )
        return None


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _CHECKSUMS:
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            found[path.name] = digest.hexdigest()
    return found


def _verify(folder: Path) -> None:
    """ValueError unless all files are what was written; of older versions nothing is known."""
    known = folder / _CHECKSUMS
    if not known.exists():
        return
    written, found = json.loads(known.read_text()), _checksums(folder)
    for name, checksum in written.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if found[name] != checksum:
            raise ValueError(f"the checksum of {name} is not that of what was written")
