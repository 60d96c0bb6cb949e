"""What a user sees while a model trains."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.data.spec import Dataset
from zforcing_tf.training.distribution import ALONE, Team
from zforcing_tf.training.interruption import Interruption
from zforcing_tf.training.writing import GO_ON, writing

_MOST_SKIPPED = 10
_MOST_SAID = 5
"""Skipped updates of an epoch that get a line each."""
_VOTE_EVERY = 8
"""Batches of validation after which workers ask each other whether to stop."""


class StepCallback(keras.callbacks.Callback):
    """Counts the batches of an epoch, stops at a signal, and profiles the steps asked for.

    It says which updates were skipped, and stops where too many were; and it sees to checkpoints
    within an epoch. One for a whole run, entered as a context while that lasts: a profile may span
    epochs.

    Args:
        interruption: tells of signals.
        run: settings.
        profile_dir: where the profile goes.
        say: prints a line.
        save: makes a checkpoint after so many batches of this process's epoch.
        team: all processes, which have to stop after the same step.

    Attributes:
        batches: done of the epoch by this process.
        diverged: whether it stopped as too many updates were skipped.
        cut_short: whether a signal ended the latest evaluation.
        sums: of the metrics, with which the next epoch begins; empty: zeros. They are what
            `metric_sums` gave when that epoch was interrupted.

    Raises:
        UserError: from where a profile starts or ends, if it cannot be written.
    """

    def __init__(
        self,
        interruption: Interruption,
        run: RunConfig,
        profile_dir: Path,
        say: Callable[[str], None],
        save: Callable[[int], None],
        team: Team = ALONE,
    ) -> None:
        super().__init__()
        self.batches = 0
        self.diverged = self.cut_short = False
        self.sums: Mapping[str, list[float] | float] = {}
        self._interruption = interruption
        self._run = run
        self._say, self._save, self._team = say, save, team
        self._vote = team.worker.count > 1
        self._skipped_before = self._said = 0
        # A GPU works ahead, which asking for a number ends.
        self._look_every = 20 if tf.config.list_logical_devices("GPU") else 1
        first, _, last = run.profile_steps.partition(",")
        self._first, self._last = (int(first), int(last)) if run.profile_steps else (0, -1)
        self._profile_dir = profile_dir
        self._start = self._step = 0
        self._profiling = False

    def __enter__(self) -> StepCallback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_profiler()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts to count; Keras has just set the metrics to zero."""
        self.batches = self._said = 0
        self._start = self._step = int(self.model.step_counter.numpy())
        _restore_sums(self.model, self.sums, self._team)
        self.sums = {}

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the profiler with its first step, or at a later one if training begins there."""
        until = self._start + min(batch + self.model.steps_per_execution, self.params["steps"])
        if not self._profiling and self._first <= until and self._step < self._last:
            with writing(self._profile_dir, GO_ON):
                tf.profiler.experimental.start(str(self._profile_dir))
            self._profiling = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts; stops the profiler after its last step, and training after a signal.

        Args:
            batch: the last one that a whole execution would have, perhaps beyond the epoch's end.
            logs: of Keras.
        """
        before = self.batches
        self.batches = min(batch + 1, self.params["steps"])
        self._step = self._start + self.batches
        if self._step >= self._last:
            self._stop_profiler()
        self._look_for_skipped()
        if self._vote and self._interruption.received is not None:
            self.model.guard.request_stop()
        if self.stopping:
            self.model.stop_training = True
        every = self._run.checkpoint_every_steps
        due = every and (self._start + before) // every != self._step // every
        if due and not self.model.stop_training:
            self._save(self.batches)

    def on_test_begin(self, logs: Any = None) -> None:
        """Of validation."""
        self.cut_short = False

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends validation at a signal; of several workers all at the same batch."""
        stop = self._interruption.received is not None
        if self._vote:
            stop = batch % _VOTE_EVERY == 0 and any(self._team.each(stop))
        if stop:
            self.cut_short = self.model.stop_evaluating = True

    @property
    def stopping(self) -> bool:
        """Whether a signal came, to this process or to one that takes its steps with it."""
        if self._vote:
            # No model yet: nothing was trained, as only validation is left of an epoch.
            return self.model is not None and self.model.guard.stop_agreed
        return self._interruption.received is not None

    def _look_for_skipped(self) -> None:
        last = self.batches == self.params["steps"]
        if self._step % self._look_every and not last:
            return
        skipped = self.model.guard.skipped()
        if skipped.total > self._skipped_before and self._said < _MOST_SAID:
            self._said += 1
            more = "; no more of this epoch are said" * (self._said == _MOST_SAID)
            terms = " and ".join(skipped.terms)
            self._say(f"update {skipped.step} skipped: not finite was {terms}{more}")
        self._skipped_before = skipped.total
        if 0 < self._run.max_skipped_updates <= skipped.in_a_row:
            self.diverged = self.model.stop_training = True

    def _stop_profiler(self) -> None:
        if self._profiling:
            self._profiling = False
            with writing(self._profile_dir, GO_ON):
                tf.profiler.experimental.stop()


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as Keras gives them, of which each replica may have its own, as plain numbers."""
    return {name: float(np.ravel(value)[0]) for name, value in metrics.items()}


def metric_variables(model: keras.Model) -> list[keras.Variable]:
    """All that the metrics of a model have summed up so far."""
    return [variable for metric in model.metrics for variable in metric.variables]


def metric_sums(model: keras.Model, team: Team = ALONE) -> dict[str, list[float]]:
    """The values of `metric_variables` by name, of each replica.

    Not their totals: shared out again, these would not add up to the same to the last bit.
    """
    variables = metric_variables(model)
    values = np.zeros([len(variables), team.num_replicas])
    for row, variable in zip(values, variables, strict=True):
        row[team.replicas] = [float(part.numpy()) for part in team.local_parts(variable.value)]
    names = (variable.path for variable in variables)
    return dict(zip(names, team.sum(values).tolist(), strict=True))


def restored_metrics(
    model: keras.Model, sums: Mapping[str, list[float] | float], team: Team = ALONE
) -> dict[str, float]:
    """Metrics by name as an epoch of training gave them, whose `metric_sums` were these."""
    model.reset_metrics()
    _restore_sums(model, sums, team)
    return numbers(model.trained_metrics())


def _restore_sums(model: keras.Model, sums: Mapping[str, list[float] | float], team: Team) -> None:
    for variable in metric_variables(model):
        if variable.path in sums:
            _restore_sum(variable, sums[variable.path], team)


def _restore_sum(variable: keras.Variable, saved: list[float] | float, team: Team) -> None:
    values = [saved] if isinstance(saved, float) else saved
    agreed = variable.aggregation == "only_first_replica"
    if len(values) != team.num_replicas:  # of another number of replicas: the first takes all
        total = values[0] if agreed else sum(values)
        values = [total, *([total if agreed else 0.0] * (team.num_replicas - 1))]
    parts = team.local_parts(variable.value)
    for part, place in zip(parts, team.replicas, strict=True):
        part.assign(values[place])


def verbosity() -> int:
    """Keras's: a progress bar on a terminal, nothing elsewhere, where `epoch_line` is printed."""
    return 1 if sys.stdout.isatty() else 0


def data_lines(dataset: Dataset) -> Iterator[str]:
    """What to know of the data: notes, and which records were left out."""
    yield from dataset.notes
    for record in dataset.skipped[:_MOST_SKIPPED]:
        yield f"left out: {record}"
    if more := len(dataset.skipped[_MOST_SKIPPED:]):
        yield f"left out: {more} more"


def epoch_line(
    epoch: int,
    epochs: int,
    train: Mapping[str, float],
    validation: Mapping[str, float],
    best: bool,
    per_step: bool = False,
) -> str:
    """One line for an epoch: bounds in nats per sequence, the rest in nats per step.

    With `per_step` the bounds too are in nats per step, and called so.
    """
    width = len(str(epochs))
    name = "bound" if "bound" in validation else "elbo"
    parts = [f"epoch {epoch:{width}d}/{epochs}", f"train {name} {train[name]:9.3f}"]
    if per_step:
        parts[1] = f"train {name}/step {train['nats_per_step']:9.3f}"
    parts += [f"kl {train['kl_per_step']:7.3f}"]
    if "auxiliary_per_step" in train:
        parts += [f"auxiliary cost {-train['auxiliary_per_step']:8.2f}"]
    if train.get("skipped_updates"):
        parts += [f"skipped updates {train['skipped_updates']:.0f}"]
    if per_step:
        parts += [f"validation {name}/step {validation['nats_per_step']:9.3f}"]
    else:
        parts += [f"validation {name} {validation[name]:9.3f}"]
        parts += [f"elbo {validation['elbo']:9.3f}"] if name != "elbo" else []
    parts += [f"kl {validation['kl_per_step']:7.3f}"]
    return "  ".join(parts) + ("  best" if best else "")
