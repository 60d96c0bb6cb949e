"""`--enable_xla`: whether XLA compiles the training step, measured where that is left to us.

XLA wins where products are small and loses, or takes minutes to compile, elsewhere; so do parts of
a batch side by side (`gradients.py`). Results of these forms differ by rounding, so a choice that
depends on the clock is made once for a run, before its first step, and kept in its folder: a run
that is resumed equals one that was not, to the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.data import pipeline
from zforcing_tf.data.pipeline import Batch, Gather
from zforcing_tf.data.spec import Split
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.gradients import gradient_function
from zforcing_tf.training.run_directory import RunDirectory

XLA_LENGTHS = 8
"""Lengths that batches have at most where XLA compiles the step, for each of them anew."""
SHORT_RUN = 60.0
"""Seconds of steps in which compiling cannot be worth its while, so that it is not even tried."""
REPEATS = 5
_MARGIN = 0.95  # of the time without XLA: what clocks do not tell apart stays as it is


@dataclasses.dataclass(frozen=True)
class Times:
    """What was measured of forward and backward pass on the first batch.

    Attributes:
        steps: of the whole run.
        graph_ms: milliseconds a step without XLA.
        xla_ms: with it; None where the run is too short to try.
        parts: of the batch, side by side, with which that was.
        compile_s: seconds to compile the step once.
        compilations: how often that happens, at most: for each shape of a batch.
    """

    steps: int
    graph_ms: float
    xla_ms: float | None = None
    parts: int = 1
    compile_s: float = 0.0
    compilations: int = 0

    @property
    def enable_xla(self) -> bool:
        """Whether the run is shorter with XLA, compilations included."""
        if self.xla_ms is None:
            return False
        with_xla = self.compile_s * self.compilations + self.steps * self.xla_ms / 1000
        return with_xla < _MARGIN * self.steps * self.graph_ms / 1000

    def in_words(self) -> str:
        """One line for the user."""
        choice = "on" if self.enable_xla else "off"
        graph = f"{self.graph_ms:.1f} ms a step without it"
        in_parts = f" and the batch in {self.parts} parts" if self.parts > 1 else ""
        if self.xla_ms is None:
            return (
                f"XLA: {choice} ({graph}, so that {self.steps} steps end before compiling would "
                "be worth its while)"
            )
        return (
            f"XLA: {choice} ({graph}, {self.xla_ms:.1f} with it{in_parts} after "
            f"{self.compile_s:.1f} s to compile, up to {self.compilations} times in "
            f"{self.steps} steps)"
        )


def choose(run: RunConfig, train: Split, model: SequenceModel, directory: RunDirectory) -> Gather:
    """Gives the model the form of its step that `--enable_xla` asks for.

    Args:
        run: settings.
        train: the training split.
        model: compiled, not yet trained unless `directory` holds the choice.
        directory: keeps what `auto` chose, and prints it.

    Returns:
        The training split, as batches are to be gathered from it.

    Raises:
        UserError: the kept choice cannot be read or written.
    """
    if run.enable_xla != "auto":
        return _gather(train, run.enable_xla == "on")
    kept = directory.read_xla()
    if kept is not None:
        enable_xla, parts = kept["enable_xla"], kept.get("parts", 1)
    elif run.run_eagerly or model.distribute_strategy.num_replicas_in_sync > 1:
        enable_xla, parts = False, run.concurrent_parts or 1
        directory.say("XLA: off (auto measures graphs on one device only)")
    else:
        times = _measured(run, train, model)
        enable_xla = times.enable_xla
        parts = times.parts if enable_xla else run.concurrent_parts or 1
        directory.write_xla({**dataclasses.asdict(times), "enable_xla": enable_xla, "parts": parts})
        directory.say(times.in_words())
    if (enable_xla, parts) != (model.enable_xla, model.parts):
        model.set_form(enable_xla, parts)
    return _gather(train, enable_xla)


def _gather(train: Split, enable_xla: bool) -> Gather:
    return pipeline.gather(train, XLA_LENGTHS if enable_xla else None)


def _measured(run: RunConfig, train: Split, model: SequenceModel) -> Times:
    """Times both forms, alternately; no weight, no metric and no counter changes."""
    count = pipeline.batches_per_epoch(train, run.batch_size)
    steps = run.train_epochs * count
    graph = _form(run, train, model, False, model.parts)
    graph()
    graph_s = min(_seconds(graph) for _ in range(REPEATS))
    if steps * graph_s < SHORT_RUN:
        return Times(steps, 1000 * graph_s)
    tried = [run.concurrent_parts] if run.concurrent_parts else _numbers_of_parts(run)
    forms = [_form(run, train, model, True, parts) for parts in tried]
    compiling = [_seconds(form) - _seconds(form) for form in forms]
    rounds = [[_seconds(form) for form in (graph, *forms)] for _ in range(REPEATS)]
    graph_s, *with_xla = (statistics.median(times) for times in zip(*rounds, strict=True))
    xla_s, compile_s, parts = min(zip(with_xla, compiling, tried, strict=True))
    shapes = (1 + bool(train.num_sequences % run.batch_size)) * _lengths(run, train)
    return Times(steps, 1000 * graph_s, 1000 * xla_s, parts, max(compile_s, 0.0), shapes)


def _numbers_of_parts(run: RunConfig) -> list[int]:
    """1, and one for each core if a batch has rows for all of them."""
    cores = os.cpu_count() or 1
    gpus = tf.config.list_logical_devices("GPU")
    return [1] if cores == 1 or gpus or run.batch_size < cores else [1, cores]


def _first_batches(run: RunConfig, train: Split, enable_xla: bool) -> tf.data.Dataset:
    gathered = _gather(train, enable_xla)
    return pipeline.training_batches(train, run.batch_size, run.seed, 0, 0, gathered)


def _lengths(run: RunConfig, train: Split) -> int:
    """Lengths that batches have, at most."""
    fixed = _first_batches(run, train, True).element_spec["x"].shape[1] is not None
    return 1 if fixed else XLA_LENGTHS


def _form(
    run: RunConfig, train: Split, model: SequenceModel, enable_xla: bool, parts: int
) -> Callable[[], Any]:
    """Forward and backward pass on the first batch of the run, which waits for the result."""
    batches = _first_batches(run, train, enable_xla)
    batch = next(iter(batches))
    form = model.gradients
    if (enable_xla, parts) != (model.enable_xla, model.parts):
        form = gradient_function(model, enable_xla, parts)

    # Of the batches' specification, so that the training step finds what is traced here.
    @functools.partial(tf.function, autograph=False, input_signature=[batches.element_spec])
    def step(batch: Batch) -> tf.Tensor:
        gradients, _ = form(*model.gradient_inputs(batch))
        return tf.linalg.global_norm(gradients)

    return lambda: step(batch).numpy()


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
