"""Several workers of one training on this machine, to try them out.

  python benchmarks/launch_local_workers.py --workers=2 -- --flagfile=... --run_dir=runs/two

starts the training program once for each worker, with a TF_CONFIG and
`--distribution_strategy=multi_worker_mirrored`. What the chief prints is printed, of the others
what goes to stderr, with their number in front. SIGINT and SIGTERM go to all. If a worker fails the
others are ended, as they cannot go on without it; `--restarts=3` starts all again then, from the
last checkpoint, unless they were told to stop, or the user has to mend something (exit code 2).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
GRACE = 30.0
"""Seconds that the others have to find out for themselves that a worker is gone."""
_STOPPED = (130, 143)
"""What a worker ends with that was told to: the others are told as well, and take their time."""


def main() -> int:
    """Runs the workers; the exit code of the first that failed, or 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="of each worker; 0: all cores")
    parser.add_argument("--restarts", type=int, default=0, help="of all, when one has failed")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="-- and flags of the training")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers must be 1 or more")
    flags = [flag for flag in arguments.flags if flag != "--"]
    workers: list[subprocess.Popen[str]] = []
    told: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    for attempt in range(arguments.restarts + 1):
        code = run(workers, arguments.workers, flags, arguments.threads, told)
        if code in (0, 2) or told or attempt == arguments.restarts:
            return code
        print(f"a worker ended with {code}: starting all again", file=sys.stderr, flush=True)
    return 0


def run(
    workers: list[subprocess.Popen[str]],
    count: int,
    flags: list[str],
    threads: int,
    told: list[int],
) -> int:
    """Starts all workers into a list, and waits until all have ended."""
    workers.clear()  # a signal that comes while they start is told to none, and to all below
    addresses = free_addresses(count)
    workers.extend([start(index, addresses, flags, threads) for index in range(count)])
    if told:
        for worker in workers:
            worker.send_signal(told[0])
    failed, since = 0, 0.0
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.1)
        codes = [worker.poll() for worker in workers]
        failures = [code for code in codes if code and code not in _STOPPED]
        if failures and not failed:
            failed, since = failures[0], time.monotonic()
        if failed and time.monotonic() - since > GRACE:
            for worker in workers:
                worker.kill()
    failed = failed or next((w.returncode for w in workers if w.returncode), 0)
    for worker in workers:
        for thread in getattr(worker, "printers", ()):
            thread.join()
    return failed if failed >= 0 else 128 - failed


def start(
    index: int, addresses: list[str], flags: list[str], threads: int = 0
) -> subprocess.Popen[str]:
    """One worker."""
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if threads:
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        environment |= dict.fromkeys(names, str(threads))
    worker = subprocess.Popen(
        [sys.executable, "-m", "zforcing_tf.train",
         "--distribution_strategy=multi_worker_mirrored", *flags],
        env=environment,
        stdout=None if index == 0 else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a ^C comes to it from here, once
    )  # fmt: skip
    assert worker.stderr is not None
    printer = threading.Thread(target=_print, args=(index, worker.stderr), daemon=True)
    printer.start()
    worker.printers = [printer]  # type: ignore[attr-defined]
    return worker


def _print(index: int, lines: IO[str]) -> None:
    for line in lines:
        print(
            f"worker {index}: {line}" if line.strip() else "", end="", file=sys.stderr, flush=True
        )


def free_addresses(count: int) -> list[str]:
    """Addresses on this machine that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [f"localhost:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    sys.exit(main())
