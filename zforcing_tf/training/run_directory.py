"""The folder of a run: what it holds, who may write there, and what may be resumed in it.

config.json       the configuration        flags.txt     the same, for --flagfile
environment.json  versions and machine     results.json  what evaluations found
data.json         what the data is         history.csv   learning curves, one row an epoch
xla.json          what --enable_xla=auto chose
checkpoints/  summaries/  samples/         log.txt       what was printed
"""

import contextlib
import errno
import fcntl
import logging
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from zforcing_tf import config as configuration
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.errors import UserError
from zforcing_tf.training.environment import environment
from zforcing_tf.training.json_files import read_json, write_atomically, write_json
from zforcing_tf.training.writing import GO_ON, writing


class RunDirectory:
    """The folder `--run_dir`. Making the object touches no file.

    Args:
        path: of the folder.
        writes: whether this process writes there, and prints; of several workers one does, and for
            the others all methods that write do nothing.

    Raises:
        UserError: an empty path.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        if not str(path):
            raise UserError("--run_dir is empty; give the folder of the run, such as runs/first")
        self.path = Path(path).expanduser()
        self.writes = writes
        self.config = self.path / "config.json"
        self.flags = self.path / "flags.txt"
        self.environment = self.path / "environment.json"
        self.results = self.path / "results.json"
        self.log = self.path / "log.txt"
        self.data = self.path / "data.json"
        self.history = self.path / "history.csv"
        self.xla = self.path / "xla.json"
        self.checkpoints = self.path / "checkpoints"
        self.summaries = self.path / "summaries"
        self.samples = self.path / "samples"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Makes the folder where it is missing, and keeps every other process from training in it.

        The lock goes with the process, however that ends.

        Raises:
            UserError: another process holds the lock, or the folder cannot be made or written.
        """
        if not self.writes:
            yield
            return
        self._make()
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner, _, host = (file.read().strip() or "unknown").partition(" ")
                if host not in ("", platform.node()):
                    owner += f" on {host}"
                raise UserError(
                    f"process {owner} is training in {self.path}; "
                    "wait until it ends, or give another --run_dir"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
                logging.warning(
                    "%s: this file system has no locks; train there only once", file.name
                )
            file.truncate(0)
            file.write(f"{os.getpid()} {platform.node()}")
            file.flush()
            yield
            file.truncate(0)

    def open_for_training(self, config: ExperimentConfig) -> bool:
        """Begins the run, or finds that it is to be resumed; to be called while holding the lock.

        The folder afterwards holds `config`. On resuming, settings that do not change the
        experiment may differ from the earlier ones.

        Returns:
            Whether there is a run to resume.

        Raises:
            UserError: the folder holds another experiment, cannot be written, or has lost its
                configuration.
        """
        if not self.writes:
            return self.config.exists()
        self._make()
        resumed = self.config.exists()
        if resumed:
            self.check_experiment(config)
        elif self.checkpoints.is_dir() and any(self.checkpoints.iterdir()):
            raise UserError(
                f"{self.checkpoints} holds checkpoints, but {self.config} is missing; "
                "put that file back, or give another --run_dir"
            )
        else:
            self._write(self.environment, environment())
        for folder in (self.checkpoints, self.summaries, self.samples):
            _make_folder(folder, f"{folder} is a file; move it away, or give another --run_dir")
        with writing(self.log), open(self.log, "a"):
            pass  # better to fail here than after the first epoch
        self._write(self.flags, configuration.to_flags_text(config))
        # Last: where it exists, the run exists.
        self._write(self.config, config.to_json())
        return resumed

    def check_experiment(self, config: ExperimentConfig) -> None:
        """UserError if the run that is there is another experiment than this configuration."""
        earlier = self.open_for_reading()
        changes = earlier.differences(config, ignore=configuration.resumable())
        if changes:
            raise UserError(
                f"{self.path} holds another experiment ({'; '.join(changes)}); give another "
                f"--run_dir, or its own flags with --flagfile={self.flags}"
            )

    def open_for_reading(self) -> ExperimentConfig:
        """The configuration of the run.

        Raises:
            UserError: there is no run here, or its configuration is damaged.
        """
        values = self._read_config()
        try:
            return ExperimentConfig.from_json(values)
        except UserError as error:
            raise UserError(f"{self.config} cannot be used: {error}") from error

    def read_settings(self) -> dict[str, dict[str, Any]]:
        """The settings of the run by section, for who only shows them: none is checked.

        What is missing takes its default, and those of a newer version of this library stay.

        Raises:
            UserError: there is no run here, or its configuration is damaged.
        """
        values, defaults = self._read_config(), ExperimentConfig().to_json()
        if not all(isinstance(entries, dict) for entries in values.values()):
            raise UserError(f"{self.config} cannot be used: it does not hold settings by section")
        return {
            section: {**defaults.get(section, {}), **values.get(section, {})}
            for section in {**defaults, **values}
        }

    def write_data(self, spec: Mapping[str, Any]) -> None:
        """Writes `data.json`, what `identity.described` gives.

        Raises:
            UserError: it cannot be written.
        """
        self._write(self.data, spec)

    def read_xla(self) -> dict[str, Any] | None:
        """What `write_xla` wrote, if it did.

        Raises:
            UserError: the file is damaged.
        """
        if not self.xla.exists():
            return None
        try:
            found = read_json(self.xla)
            if not isinstance(found.get("enable_xla"), bool):
                raise UserError("enable_xla is neither true nor false")
            parts = found.setdefault("parts", 1)
            if type(parts) is not int or parts < 1:
                raise UserError("parts is no number of parts")
            return found
        except UserError as error:
            raise UserError(
                f"{self.xla} cannot be used: {error}; put it back, or give --enable_xla and "
                f"--concurrent_parts as the run was trained until now, which {self.log.name} says"
            ) from error

    def write_xla(self, choice: Mapping[str, Any]) -> None:
        """Writes `xla.json`: `enable_xla`, and what it was chosen by.

        Raises:
            UserError: it cannot be written.
        """
        self._write(self.xla, choice)

    def say(self, lines: str) -> None:
        """Prints lines and adds them to `log.txt`.

        Raises:
            UserError: the file cannot be written.
        """
        if not self.writes:
            return
        print(lines, flush=True)
        with writing(self.log, GO_ON), open(self.log, "a", encoding="utf-8") as log:
            log.write(lines + "\n")

    def read_results(self) -> dict[str, Any]:
        """All results written so far, by key; empty before the first.

        Raises:
            UserError: the file is damaged.
        """
        if not self.results.exists():
            return {}
        try:
            return read_json(self.results)
        except UserError as error:
            raise UserError(f"{self.results} cannot be used: {error}; move it away") from error

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Adds results to `results.json`; a key that is there already gets the new value.

        Readers see the old file or the new one, and two writers at once lose nothing. JSON knows no
        NaN and no infinity: such a number becomes null.

        Raises:
            UserError: the file there is damaged, or cannot be written.
        """
        if not self.writes:
            return
        self._make()
        folder = os.open(self.path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(folder, fcntl.LOCK_EX)
            self._write(self.results, {**self.read_results(), **results})
        finally:
            os.close(folder)

    def _read_config(self) -> dict[str, Any]:
        if not self.config.is_file():
            raise UserError(
                f"no run at {self.path}; train one with "
                f"python -m zforcing_tf.train --run_dir={self.path}"
            )
        try:
            return read_json(self.config)
        except UserError as error:
            raise UserError(f"{self.config} cannot be used: {error}") from error

    def _lock_file(self) -> TextIO:
        path = self.path / ".lock"
        with writing(path):
            return open(path, "a+", encoding="utf-8")

    def _write(self, path: Path, content: str | Mapping[str, Any]) -> None:
        if not self.writes:
            return
        with writing(path):
            if isinstance(content, str):
                write_atomically(path, content)
            else:
                write_json(path, content)

    def _make(self) -> None:
        sentence = "is a file; give a folder, which is made if it is missing"
        _make_folder(self.path, f"--run_dir={self.path} {sentence}")


def _make_folder(path: Path, if_file: str) -> None:
    """Makes a folder, and finds out whether one can write there by doing so."""
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
    except UserError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise UserError(if_file) from error
        raise
