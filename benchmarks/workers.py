"""Processes that wait for their turn: one JSON line out for each line in.

Each form has a process of its own, for its memory and for its libraries, and so that rounds can go
through all forms one after the other: what else the machine does then meets all of them alike.
"""

from __future__ import annotations

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class WorkerFailed(Exception):
    """A process ended without an answer; the text is the last that it said."""


class Worker:
    """A module of this folder that runs `serve`, in a process of its own.

    Args:
        module: such as `benchmarks.ours`.
        arguments: of its command line.
        python: the interpreter.
    """

    def __init__(self, module: str, *arguments: str, python: str = sys.executable) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.ready = self._read()
        except WorkerFailed:
            self.close()
            raise

    def ask(self, request: str = "time", argument: str = "") -> dict[str, Any]:
        """Lets the worker do something once; `time` is what it is there for."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the reason is in what it said
            self._process.stdin.write(f"{request} {argument}\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["nothing"]
            raise WorkerFailed(f"exit code {self._process.returncode}: {said[-1]}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the worker."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def serve(ready: Mapping[str, Any], answers: Mapping[str, Callable[[str], Any]]) -> None:
    """The worker's side: says that it is ready, then answers until its input ends.

    Args:
        ready: the first line.
        answers: what to do for each request, with its argument; results are dicts.
    """
    # Libraries print too: what is meant for the other side has the real output for itself.
    out, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        request, _, argument = line.strip().partition(" ")
        print(json.dumps(answers[request](argument)), file=out, flush=True)


def peak_mib() -> float:
    """The largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def started(answers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Runs a form twice, the first time with all that it compiles; the first line of a worker."""
    began = time.perf_counter()
    answers["time"]("")
    first = time.perf_counter() - began
    answers["time"]("")
    return {"first_step_s": first, "mib": peak_mib()}


def interleaved(
    workers: Mapping[str, Worker], rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Asks each worker once a round, in turn.

    Returns:
        The answers of those that answered to the end, and what became of the others.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            if name in failed:
                continue
            try:
                answers[name].append(worker.ask())
            except WorkerFailed as failure:
                failed[name] = f"failed with {failure}"
                del answers[name]
    return answers, failed


def median_and_best(answers: Sequence[Mapping[str, Any]], key: str = "ms") -> tuple[float, float]:
    """Of a key of the answers."""
    values = [answer[key] for answer in answers]
    return statistics.median(values), min(values)
