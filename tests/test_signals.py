"""A signal whose exception Python drops is not lost."""

from __future__ import annotations

import signal
import time

import pytest

from zforcing_tf import signals


class Interrupted:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def seen() -> None:
    """The thread that sees signals may take a moment."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        signals.raise_what_was_lost()
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_within_a_destructor_comes_later() -> None:
    with signals.second_ends_at_once():
        signals.raise_what_was_lost()
        interrupted = Interrupted()
        del interrupted  # Python drops what the handler raises
        with pytest.raises(KeyboardInterrupt):
            seen()
    signals.raise_what_was_lost()  # that was of another time


def test_a_handler_that_notes_is_told_again() -> None:
    noted = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    try:
        with signals.second_ends_at_once():
            signal.raise_signal(signal.SIGTERM)
            end = time.monotonic() + 5
            while len(noted) < 2 and time.monotonic() < end:
                signals.raise_what_was_lost()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert noted[0] == signal.SIGTERM and len(noted) > 1
