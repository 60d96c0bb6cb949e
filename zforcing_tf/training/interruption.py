"""SIGINT and SIGTERM end a training after the step that is running, not in it."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

from zforcing_tf.signals import SIGNALS, second_ends_at_once


class Interruption:
    """While it is entered, the first signal is remembered and the second ends the process at once.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._watching = second_ends_at_once()

    def __enter__(self) -> Interruption:
        self._watching.__enter__()
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._watching.__exit__(None, None, None)

    @property
    def exit_code(self) -> int:
        """What the process ends with, as a shell has it: 130 for SIGINT, 143 for SIGTERM.

        Without a signal of its own it ends for that of another worker, as by SIGTERM.
        """
        return 128 + (self.received or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        os.write(2, b"\nstopping after this step; once more to stop at once\n")
