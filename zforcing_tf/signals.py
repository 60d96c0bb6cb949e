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


@contextlib.contextmanager
def second_ends_at_once() -> Iterator[None]:
    """Within it the second signal ends the process with 128 and its number.

    For the main thread. Handlers are left as they are: they see the first.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reading,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # which ends the thread
        watcher.join()
        os.close(reading)


def _watch(reading: int) -> None:
    count = 0
    while received := os.read(reading, 1):
        count += received[0] in SIGNALS
        if count == 2:
            os._exit(128 + received[0])
