"""`--enable_xla`: whether XLA compiles the training step, measured where that is left to us.

XLA wins where products are small and loses, or takes minutes to compile, elsewhere; so do parts of
a batch side by side (`gradients.py`). Results of these forms differ by rounding, so a choice that
depends on the clock is made once for a run, before its first step, and kept in its folder: a run
that is resumed equals one that was not, to the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.data.feed import Feed
from zforcing_tf.data.pipeline import Batch
from zforcing_tf.errors import UserError
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.gradients import gradient_function, gradient_inputs
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
        compile_s: seconds to compile the step once.
        compilations: how often that happens, at most: for each shape of a batch.
        parts: of the batch, side by side, with which `xla_ms` was.
    """

    steps: int
    graph_ms: float
    xla_ms: float | None = None
    compile_s: float = 0.0
    compilations: int = 0
    parts: int = 1

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


def choose(run: RunConfig, feed: Feed, model: SequenceModel, directory: RunDirectory) -> None:
    """Gives the model the form of its step that `--enable_xla` asks for, and batches theirs.

    Args:
        run: settings.
        feed: what training reads; batches get as few lengths as XLA needs.
        model: compiled, not yet trained unless `directory` holds the choice.
        directory: keeps what `auto` chose, and prints it.

    Raises:
        UserError: the kept choice cannot be read or written.
    """
    if run.enable_xla != "auto":
        feed.num_lengths = XLA_LENGTHS if run.enable_xla == "on" else None
        return
    parts, gradients = run.concurrent_parts or 1, None
    if run.run_eagerly or model.distribute_strategy.num_replicas_in_sync > 1:
        enable_xla = False
        directory.say("XLA: off (auto measures graphs on one device only)")
    elif (kept := directory.read_xla()) is not None:
        enable_xla, parts = kept["enable_xla"], kept["parts"]
        if run.concurrent_parts not in (0, parts):
            raise UserError(
                f"{directory.xla} has {parts} parts of a batch for this run, not "
                f"--concurrent_parts={run.concurrent_parts}: leave that flag out, or give "
                "--enable_xla=on with it"
            )
    else:
        times, forms = _measured(run, feed, model, directory)
        enable_xla = times.enable_xla
        parts = times.parts if enable_xla else parts
        gradients = forms.get((enable_xla, parts))
        directory.write_xla({**dataclasses.asdict(times), "enable_xla": enable_xla, "parts": parts})
        directory.say(times.in_words())
    if (enable_xla, parts) != (model.enable_xla, model.concurrent_parts):
        model.set_form(enable_xla, parts, gradients)
    feed.num_lengths = XLA_LENGTHS if enable_xla else None


def _measured(
    run: RunConfig, feed: Feed, model: SequenceModel, directory: RunDirectory
) -> tuple[Times, dict[tuple[bool, int], Any]]:
    """Times all forms, alternately; no weight, no metric and no counter changes.

    Returns:
        The times, and the functions that were timed by (enable_xla, parts).
    """
    steps = run.train_epochs * feed.num_batches(0)
    own = (False, model.concurrent_parts)
    functions = {own: model.gradients}
    graph = _form(feed, model, *own, functions)
    graph()
    graph_s = min(_seconds(graph) for _ in range(REPEATS))
    if steps * graph_s < SHORT_RUN:
        return Times(steps, 1000 * graph_s), functions
    tried = [run.concurrent_parts] if run.concurrent_parts else _numbers_of_parts(run)
    forms = [_form(feed, model, True, parts, functions) for parts in tried]
    try:
        compiling = [_seconds(form) - _seconds(form) for form in forms]
    except tf.errors.OpError as error:
        directory.say(f"XLA: it cannot compile this step ({str(error).splitlines()[0]})")
        return Times(steps, 1000 * graph_s), functions
    rounds = [[_seconds(form) for form in (graph, *forms)] for _ in range(REPEATS)]
    graph_s, *with_xla = (statistics.median(times) for times in zip(*rounds, strict=True))
    xla_s, compile_s, parts = min(zip(with_xla, compiling, tried, strict=True))
    shapes = _shapes(run, feed, parts) * (1 if feed.fixed_length else XLA_LENGTHS)
    times = Times(steps, 1000 * graph_s, 1000 * xla_s, max(compile_s, 0.0), shapes, parts)
    return times, functions


def _shapes(run: RunConfig, feed: Feed, parts: int) -> int:
    """Numbers of rows for which XLA compiles: of parts of a batch, and of the last, smaller one."""
    count = feed.split.num_sequences
    sizes = {min(run.batch_size, count), count % run.batch_size} - {0}
    if not feed.repeats:
        sizes = {run.batch_size}
    ends = [[size * i // parts for i in range(parts + 1)] for size in sizes]
    return len({b - a for row in ends for a, b in itertools.pairwise(row)})


def _numbers_of_parts(run: RunConfig) -> list[int]:
    """1, and one for each core if a batch has rows for all of them."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    gpus = tf.config.list_logical_devices("GPU")
    return [1] if cores == 1 or gpus or run.batch_size < cores else [1, cores]


def _first_batches(feed: Feed, enable_xla: bool) -> tf.data.Dataset:
    feed.num_lengths = XLA_LENGTHS if enable_xla else None
    return feed.batches(0)


def _form(
    feed: Feed,
    model: SequenceModel,
    enable_xla: bool,
    parts: int,
    functions: dict[tuple[bool, int], Any],
) -> Callable[[], Any]:
    """Forward and backward pass on the first batch of the run, which waits for the result."""
    batches = _first_batches(feed, enable_xla)
    batch, key = next(iter(batches)), (enable_xla, parts)
    if key not in functions:
        functions[key] = gradient_function(model, enable_xla, parts)
    gradients_of = functions[key]

    # Of the batches' specification, so that the training step finds what is traced here.
    @functools.partial(tf.function, autograph=False, input_signature=[batches.element_spec])
    def step(batch: Batch) -> tf.Tensor:
        gradients, _, _ = gradients_of(*gradient_inputs(model, batch))
        return tf.linalg.global_norm(gradients)

    return lambda: step(batch).numpy()


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
