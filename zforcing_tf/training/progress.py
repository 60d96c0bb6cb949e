"""What a user sees while a model trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.training.interruption import Interruption


class StepCallback(keras.callbacks.Callback):
    """Counts the batches of an epoch, stops at a signal, and profiles the steps asked for.

    Args:
        interruption: tells of signals.
        profile_steps: `first,last` training steps, or empty.
        profile_dir: where the profile goes.
    """

    def __init__(self, interruption: Interruption, profile_steps: str, profile_dir: str) -> None:
        super().__init__()
        self.batches = 0
        self._interruption = interruption
        first, _, last = profile_steps.partition(",")
        self._first, self._last = (int(first), int(last)) if profile_steps else (-1, -1)
        self._profile_dir = profile_dir
        self._step = 0
        self._profiling = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts to count."""
        self.batches = 0
        self._step = int(self.model.step_counter.numpy())

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the profiler at its first step."""
        if self._step + 1 == self._first:
            tf.profiler.experimental.start(self._profile_dir)
            self._profiling = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts; stops the profiler after its last step, and training after a signal."""
        self.batches += 1
        self._step += 1
        if self._profiling and self._step >= self._last:
            tf.profiler.experimental.stop()
            self._profiling = False
        if self._interruption.received is not None:
            self.model.stop_training = True


def verbosity() -> int:
    """Keras's: a progress bar on a terminal, nothing elsewhere, where `epoch_line` is printed."""
    return 1 if sys.stdout.isatty() else 0


def epoch_line(
    epoch: int, epochs: int, train: Mapping[str, float], validation: Mapping[str, float], best: bool
) -> str:
    """One line for an epoch: bounds in nats per sequence, the rest in nats per step."""
    width = len(str(epochs))
    parts = [f"epoch {epoch:{width}d}/{epochs}", f"train elbo {train['elbo']:9.3f}"]
    parts += [f"kl {train['kl_per_step']:7.3f}"]
    if "auxiliary_per_step" in train:
        parts += [f"auxiliary {train['auxiliary_per_step']:8.2f}"]
    if train.get("skipped_updates"):
        parts += [f"skipped updates {train['skipped_updates']:.0f}"]
    parts += [f"validation elbo {validation['elbo']:9.3f}", f"kl {validation['kl_per_step']:7.3f}"]
    return "  ".join(parts) + ("  best" if best else "")
