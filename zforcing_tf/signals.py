"""The second SIGINT or SIGTERM ends a process at once, whatever it is doing.

Python runs handlers of its own between two of its instructions only, not within a call of
TensorFlow, which may take minutes (a compilation) or hang (another machine that is gone). The
interpreter writes each signal into a pipe though, at once, and a thread can read that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Watch:
    """Of one `second_ends_at_once`: the first signal that came within it."""

    first: signal.Signals | None = None


_watches: list[_Watch] = []


def raise_what_was_lost() -> None:
    """Calls the handler of a signal that came earlier within `second_ends_at_once`, if one did.

    A handler that raises does so between any two instructions, and where these are of a destructor
    or of a callback, Python drops the exception. For places that go on only if nobody has asked to
    stop, in the main thread.
    """
    for watch in _watches:
        if watch.first is not None:
            handler = signal.getsignal(watch.first)
            if callable(handler):
                handler(watch.first, None)


@contextlib.contextmanager
def second_ends_at_once() -> Iterator[None]:
    """Within it the second signal ends the process with 128 and its number.

    For the main thread. Handlers are left as they are: they see the first.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = _Watch()
    watcher = threading.Thread(target=_watch, args=(reading, watch), daemon=True)
    watcher.start()
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)
        signal.set_wakeup_fd(before)
        os.close(writing)  # which ends the thread
        watcher.join()
        os.close(reading)


def _watch(reading: int, watch: _Watch) -> None:
    while received := os.read(reading, 1):
        if received[0] not in SIGNALS:
            continue
        if watch.first is not None:
            os._exit(128 + received[0])
        watch.first = signal.Signals(received[0])
