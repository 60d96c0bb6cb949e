"""Trains the model of a configuration: epochs, validation, checkpoints, resumption."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from zforcing_tf import models, signals
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data import identity, pipeline, registry
from zforcing_tf.data.feed import Feed
from zforcing_tf.data.spec import Dataset, DataSpec
from zforcing_tf.data.validation import check_limits
from zforcing_tf.errors import LostWorkerError, UserError
from zforcing_tf.scoring import (
    evaluate,
    frames_at_once,
    protocol,
    skipped_records,
    tighter_bounds,
    with_other_bounds,
)
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training import distribution, progress, xla
from zforcing_tf.training.averaging import averaged_weights
from zforcing_tf.training.checkpoint import Checkpoints, Kind, Progress
from zforcing_tf.training.distribution import ALONE, Team
from zforcing_tf.training.history import History
from zforcing_tf.training.interruption import Interruption
from zforcing_tf.training.run_data import check_data
from zforcing_tf.training.run_directory import RunDirectory
from zforcing_tf.training.summaries import Summaries
from zforcing_tf.training.writing import GO_ON, writing

Logs = dict[str, float]
_SECONDS_TO_APPEAR = 60.0
"""In which what one machine has written is seen by the others, caches of folders included."""


class Stopped(Exception):
    """A signal ended the training, after a checkpoint.

    Attributes:
        exit_code: what the process is to end with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("stopped by a signal")
        self.exit_code = exit_code


def compiled_model(config: ExperimentConfig, spec: DataSpec) -> SequenceModel:
    """The model of a configuration with its optimizer, ready to train or to be restored."""
    keras.utils.set_random_seed(config.run.seed)
    with distribution.strategy(config.run).scope():
        model = models.build(config, spec)
        model.compile(
            optimizer=models.optimizer(config, model),
            run_eagerly=config.run.run_eagerly,
            jit_compile=False,  # the model compiles the parts that gain by it
            steps_per_execution=config.run.steps_per_execution,
        )
        # That of a scaled loss is not, and has to be there before a checkpoint is restored.
        model.optimizer.build(model.trainable_variables)
    return model


def fit(config: ExperimentConfig) -> dict[str, Any]:
    """Trains until `--train_epochs`, or goes on with a run; evaluates the best epoch.

    Returns:
        The run's results, as in its `results.json`.

    Raises:
        UserError: data, run directory or checkpoints that cannot be used; another worker is gone;
            update after update was not finite.
        Stopped: a signal came; what was trained is in a checkpoint.
    """
    worker = distribution.worker_of(config.run)
    run = RunDirectory(config.run.run_dir, writes=worker.is_chief)
    team = Team(distribution.strategy(config.run), worker)
    if config.run.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        return _fit(config, run, team)
    except tf.errors.OpError as error:
        if worker.count == 1 or not distribution.is_lost_worker(error):
            raise
        raise LostWorkerError(
            f"another worker has ended or cannot be reached ({distribution.first_line(error)}); "
            "start all of them again with the same commands: they go on from the last checkpoint"
        ) from error


def _fit(config: ExperimentConfig, run: RunDirectory, team: Team) -> dict[str, Any]:
    # What can be wrong with data and model shows before the run directory takes the configuration.
    dataset = _loaded(config, team)
    model = compiled_model(config, dataset.spec)
    check_limits(dataset, model.emission.family.limits, model.emission.family_name)
    signals.raise_what_was_lost()
    with run.lock():
        team.together(lambda: _open(config, run, dataset))
        if team.worker.count > 1:
            team.together(lambda: _check_same(config, run, dataset))
        training = _Training(config, dataset, model, run, team)
        training.run()
        return training.results()


def _open(config: ExperimentConfig, run: RunDirectory, dataset: Dataset) -> None:
    """Begins the run or finds it there; of several workers one does."""
    if not run.writes:
        return
    if run.config.exists():
        run.check_experiment(config)
        check_data(run, dataset)
    if not run.open_for_training(config):
        for line in progress.data_lines(dataset):
            run.say(line)
    run.write_data(identity.described(dataset))


def _check_same(config: ExperimentConfig, run: RunDirectory, dataset: Dataset) -> None:
    """UserError unless this worker sees the run of the first one, and was given the same."""
    until = time.monotonic() + _SECONDS_TO_APPEAR
    while not run.config.exists():
        if time.monotonic() > until:
            raise UserError(
                f"this worker does not see {run.config}, which the first one has written: "
                "--run_dir must be a folder that all of them see"
            )
        time.sleep(0.5)
    own = {"data_dir", "manual_dir", "run_dir"}  # where a machine has them
    if changes := run.open_for_reading().differences(config, ignore=own):
        raise UserError(
            f"this worker was given other flags than the first one ({'; '.join(changes)}): start "
            "all with the same command"
        )
    check_data(run, dataset)


def _loaded(config: ExperimentConfig, team: Team) -> Dataset:
    """The data; where there are several workers the chief prepares it, before the others look."""
    if team.worker.count == 1:
        return registry.load(config.data)
    prepared = team.together(lambda: registry.load(config.data) if team.worker.is_chief else None)
    dataset = team.together(lambda: prepared or registry.load(config.data))
    for split in dataset.splits:
        team.agree(split.num_sequences, f"the number of sequences in the split {split.name}")
        team.agree(split.num_frames, f"the number of frames in the split {split.name}")
    return dataset


class _Training:
    """One call of `fit`: what its epochs share."""

    def __init__(
        self,
        config: ExperimentConfig,
        dataset: Dataset,
        model: SequenceModel,
        run: RunDirectory,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.model = model
        self.run_directory = run
        self.team = team
        self.checkpoints = Checkpoints(
            run.checkpoints, model, config.run.keep_checkpoints, run.writes
        )
        self.summaries = Summaries(run.summaries) if run.writes else None
        self.history = History(run.history) if run.writes else None
        self.progress = Progress()
        self.feed = Feed(dataset.train, config.data, config.run, team.shares)
        xla.choose(config.run, self.feed, model, run)
        with tf.device("CPU:0"):
            self.epoch_number = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.whole_epoch = None
        if self.feed.repeats:
            self.whole_epoch = team.distributed(self.feed.batches(self.epoch_number))
        self.first_frames = None
        if model.first_frame_given:
            some = range(min(config.run.summary_samples, dataset.validation.num_sequences))
            self.first_frames = dataset.validation.padded(some, 1)[0]
        split, size = dataset.validation, config.run.eval_batch_size
        most_frames = frames_at_once(model)
        parts = [
            pipeline.evaluation_batches(split, size, share, most_frames) for share in team.shares
        ]
        self.validation_steps = int(parts[0].cardinality())
        self.validation = team.distributed(pipeline.alternating(parts))

    def run(self) -> None:
        restored = self.checkpoints.restore("last")
        if restored is not None:
            self.progress = restored
            place = f"epoch {restored.epoch}" + (f", batch {restored.batch}" * bool(restored.batch))
            self.run_directory.say(f"resuming {self.run_directory.path} after {place}")
        self.team.agree(int(self.model.step_counter.numpy()), "the step of their checkpoint")
        if not self._done():
            self.team.together(self.checkpoints.check_room)
        if self.history is not None:
            self.history.keep(self.progress.epoch)
        with (
            Interruption() as interruption,
            progress.StepCallback(
                interruption,
                self.config.run,
                self.run_directory.summaries,
                self.run_directory.say,
                self._save_within,
                self.team,
            ) as callback,
        ):
            while not self._done():
                self._epoch(interruption, callback)

    def _done(self) -> bool:
        now, run = self.progress, self.config.run
        waited = now.epoch - now.best_epoch
        return now.epoch >= run.train_epochs or bool(run.patience and waited >= run.patience)

    def _epoch(self, interruption: Interruption, callback: progress.StepCallback) -> None:
        now = self.progress
        self._epoch_began = time.monotonic()
        num_batches = self.feed.num_batches(now.epoch)
        if now.batch < num_batches:
            last = self._train(callback, num_batches)
        else:  # all that is left of the epoch is to validate
            last = progress.restored_metrics(self.model, now.sums, self.team)
        if callback.diverged:
            raise UserError(self._diagnosis(callback.batches))
        trained = self._within(callback.batches)
        if trained.batch < num_batches or callback.stopping:
            self._save("last", trained)
            raise Stopped(interruption.exit_code)
        with averaged_weights(self.model):
            validation = self._validation(callback)
            if validation is not None:
                self._take(last, validation)
        if validation is None:
            self._save("last", self._timed(trained))
            raise Stopped(interruption.exit_code)
        self._save("last", self.progress)
        if callback.stopping:
            raise Stopped(interruption.exit_code)

    def _train(self, callback: progress.StepCallback, num_batches: int) -> Logs:
        """What is left of an epoch, or what of it comes before a signal; its metrics."""
        now = self.progress
        self.epoch_number.assign(now.epoch)
        batches = None if now.batch else self.whole_epoch
        if batches is None:
            batches = self.team.distributed(self.feed.batches(now.epoch, now.batch))
        callback.sums = now.sums
        logs = self.model.fit(
            batches,
            epochs=now.epoch + 1,
            initial_epoch=now.epoch,
            shuffle=False,
            # Of what is distributed already Keras does not know how much there is.
            steps_per_epoch=num_batches - now.batch if self.team.worker.count > 1 else None,
            verbose=progress.verbosity() if self.run_directory.writes else 0,
            callbacks=[callback],
        ).history
        return progress.numbers({name: values[-1] for name, values in logs.items()})

    def _validation(self, callback: progress.StepCallback) -> Logs | None:
        """Metrics on validation data; None if a signal came before they were complete."""
        found = self.model.evaluate(
            self.validation,
            steps=self.validation_steps if self.team.worker.count > 1 else None,
            verbose=0,
            callbacks=[callback],
            return_dict=True,
        )
        return None if callback.cut_short else progress.numbers(found)

    def _take(self, last: Logs, validation: Logs) -> None:
        """Ends an epoch whose training gave `last`."""
        now = self.progress
        bound = validation.get("bound", validation["elbo"])
        best = _better(bound, now.best_bound)
        if not math.isfinite(bound):
            logging.error("the validation bound of epoch %d is %s", now.epoch + 1, bound)
        self.progress = Progress(
            epoch=now.epoch + 1,
            best_bound=bound if best else now.best_bound,
            best_epoch=now.epoch + 1 if best else now.best_epoch,
            seconds=self._timed(now).seconds,
        )
        self._halve_learning_rate()
        self._report(last, validation, best)
        if best:
            self._save("best", self.progress)

    def _save_within(self, batches: int) -> None:
        """A checkpoint within an epoch, of which this process has done so many batches."""
        self._save("last", self._within(batches))

    def _within(self, batches: int) -> Progress:
        """Progress within an epoch, of which this process has done so many batches."""
        now = self._timed(self.progress)
        sums = progress.metric_sums(self.model, self.team)
        return dataclasses.replace(now, batch=now.batch + batches, sums=sums)

    def _timed(self, before: Progress) -> Progress:
        """With the time since this epoch began in this process."""
        seconds = self.progress.seconds + time.monotonic() - self._epoch_began
        return dataclasses.replace(before, seconds=seconds)

    def _diagnosis(self, batches: int) -> str:
        """Why update after update was skipped, after so many batches of this process's epoch."""
        self._save_within(batches)
        now, skipped = self.progress, self.model.guard.skipped()
        batch = now.batch + batches
        found = next(iter(self.feed.batches(now.epoch, batch - 1)))
        lengths = found["lengths"].numpy()
        rows = np.flatnonzero(lengths)
        x, lengths = found["x"].numpy()[rows], lengths[rows]
        where = f"batch {batch} of epoch {now.epoch + 1}"
        told = f"{where} has nothing that this process can score"
        if len(rows):
            elbo = self.model.score(x, lengths, self.config.run.seed).elbo.numpy()
            bad = rows[~np.isfinite(elbo)]
            told = f"all sequences of {where} have a finite bound, so its gradient overflows"
            if len(bad):
                told = (
                    f"of {where} {len(bad)} of {len(rows)} sequences have none (the first is in "
                    f"row {bad[0]})"
                )
            if self.dataset.spec.kind != "symbol":
                told += f"; its largest number is {np.abs(x).max():.3g}"
        return (
            f"the last {skipped.in_a_row} updates were skipped, as {' and '.join(skipped.terms)} "
            f"was not finite; {told}. The weights are as they were before, and in the newest "
            f"checkpoint of {self.checkpoints.directory}. Try a smaller --learning_rate or "
            "--clip_norm in another --run_dir, or see whether the data has outliers"
        )

    def _halve_learning_rate(self) -> None:
        """After epochs without a better bound; it is kept with the optimizer's state."""
        settings, now = self.config.optimizer, self.progress
        waited = now.epoch - now.best_epoch
        if not settings.learning_rate_patience or not waited:
            return
        if waited % settings.learning_rate_patience == 0:
            rate = self.model.optimizer.learning_rate
            half = 0.5 * float(rate.numpy())
            if half >= settings.learning_rate_floor:
                rate.assign(half)
                self.run_directory.say(f"learning rate {half:.3g} from here on")

    def _save(self, kind: Kind, progress: Progress) -> None:
        with writing(self.checkpoints.directory, GO_ON):
            self.checkpoints.save(kind, progress)

    def _report(self, train: Logs, validation: Logs, best: bool) -> None:
        if self.history is None or self.summaries is None:
            return
        now, step = self.progress, int(self.model.step_counter.numpy())
        self.history.append(now.epoch, step, train, validation)
        self.summaries.scalars("train", step, train)
        self.summaries.scalars("validation", step, validation)
        count = self.config.run.summary_samples
        self.summaries.samples(step, self.model, self.dataset.spec, count, self.first_frames)
        self.summaries.flush()
        epochs = self.config.run.train_epochs
        cut = self.config.data
        # A bound of pieces and one of whole sequences can be compared for each step alone.
        per_step = bool(cut.chunk_length) and not cut.chunk_evaluation
        line = progress.epoch_line(now.epoch, epochs, train, validation, best, per_step)
        self.run_directory.say(line)

    def results(self) -> dict[str, Any]:
        """Evaluates the best epoch on validation and test data, and writes it down."""
        now = self.progress
        self.team.agree(now.epoch, "the number of epochs")  # and the chief has written the last one
        best = self.checkpoints.restore_weights("best")
        if best is None:
            raise UserError(
                f"no epoch of {self.run_directory.path} had a finite validation bound, so there is "
                "nothing to evaluate; try a smaller --learning_rate in another --run_dir"
            )
        config, spec = self.config, self.dataset.spec
        step = int(self.model.step_counter.numpy())
        results: dict[str, Any] = {
            "model": config.model.model,
            "dataset": spec.name,
            "seed": config.run.seed,
            "parameters": int(
                sum(v.value.shape.num_elements() for v in self.model.trainable_variables)
            ),
            "epochs": now.epoch,
            "best_epoch": best.best_epoch,
            "step": step,
            "seconds": round(now.seconds, 1),
            "protocol": protocol(
                config.data.chunk_length * config.data.chunk_evaluation,
                config.data.score_first_frame,
            ),
            **skipped_records(self.dataset),
        }
        known = self.run_directory.read_results()
        for name in ("validation", "test"):
            split, batch_size = self.dataset.split(name), config.run.eval_batch_size
            # With the seed of the run, validation gives the number that chose the epoch.
            numbers = evaluate(
                self.model, spec, split, batch_size, seed=config.run.seed, team=self.team
            )
            if (bound := self.model.bound).name != "elbo":
                numbers |= tighter_bounds(
                    self.model,
                    split,
                    batch_size,
                    [bound.name],
                    bound.num_samples,
                    config.run.seed,
                    bound.resampling,
                    self.team,
                )
            numbers = {"checkpoint": "best", "step": step, **numbers}
            results[name] = with_other_bounds(known, name, numbers)
        self.run_directory.write_results(results)
        return results


def _better(bound: float, best: float | None) -> bool:
    """Whether a bound is finite and above the best one so far, if there is any."""
    # Negated, as every comparison with NaN is false: nothing would ever be above it.
    return math.isfinite(bound) and (best is None or not bound <= best)
