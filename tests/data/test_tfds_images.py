"""Preparing a dataset: killed half-way, twice at once, unwritable, damaged, and quietly."""

from __future__ import annotations

import logging as std_logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from absl import logging

from zforcing_tf.config import DataConfig
from zforcing_tf.data import digits, registry
from zforcing_tf.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
Examples = Callable[[digits.Digits, str], Iterator[Any]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared digits; copied by those who damage it."""
    root = tmp_path_factory.mktemp("prepared")
    registry.load(DataConfig(data_dir=str(root)))
    return root


def assert_whole(root: Path) -> None:
    dataset = registry.load(DataConfig(data_dir=str(root)))
    assert [split.num_sequences for split in dataset.splits] == [1437, 180, 180]
    assert [path.name for path in (root / "digits").iterdir()] == ["1.0.0"]


def after_some_examples(act: Callable[[], None]) -> Examples:
    """A `_generate_examples` that does something in the middle of a split."""
    generate = digits.Digits._generate_examples

    def interrupted(self: digits.Digits, split: str) -> Iterator[Any]:
        for key, example in generate(self, split):
            if key == 100:
                act()
            yield key, example

    return interrupted


PREPARE_AND_KILL = """
import os, signal, sys
from zforcing_tf.config import DataConfig
from zforcing_tf.data import digits
generate = digits.Digits._generate_examples
def killed(self, split):
    for key, example in generate(self, split):
        if split == "validation" and key == 100:
            os.kill(os.getpid(), signal.SIGKILL)
        yield key, example
digits.Digits._generate_examples = killed
digits.load(DataConfig(data_dir=sys.argv[1]))
"""


def test_killed_while_preparing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PREPARE_AND_KILL, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (remains,) = (tmp_path / "digits").iterdir()
    assert remains.name.startswith("incomplete.")
    assert list(remains.iterdir())
    assert_whole(tmp_path)


TRAIN_AND_SIGNAL = """
import signal, sys
from zforcing_tf import train
from zforcing_tf.data import digits
generate = digits.Digits._generate_examples
def signalled(self, split):
    for key, example in generate(self, split):
        if split == "validation" and key == 100:
            signal.raise_signal(number)  # os.kill may tell another thread, and this one later
        yield key, example
digits.Digits._generate_examples = signalled
number = int(sys.argv.pop(1))
train.run()
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "stopped\n"), (signal.SIGINT, 130, "interrupted\n")],
)
def test_a_signal_while_preparing(
    tmp_path: Path, number: signal.Signals, code: int, said: str
) -> None:
    arguments = [f"--data_dir={tmp_path}/data", f"--run_dir={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_SIGNAL, str(int(number)), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, said)
    assert not list((tmp_path / "data" / "digits").iterdir())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_stopped_while_preparing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def stop() -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(digits.Digits, "_generate_examples", after_some_examples(stop))
        with pytest.raises(type(error)):
            registry.load(DataConfig(data_dir=str(tmp_path)))
    assert not list((tmp_path / "digits").iterdir())
    assert_whole(tmp_path)


def test_failure_while_preparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(digits.Digits, "_generate_examples", after_some_examples(fail))
        with pytest.raises(UserError) as error:
            registry.load(DataConfig(data_dir=str(tmp_path)))
    assert f"'digits' could not be prepared in {tmp_path}/digits/1.0.0 (" in str(error.value)
    assert "No space left on device): see that the folder" in str(error.value)
    assert_whole(tmp_path)


def test_prepared_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is at work, another begins and finishes first."""
    with monkeypatch.context() as patch:

        def overtake() -> None:
            patch.undo()
            assert_whole(tmp_path)

        patch.setattr(digits.Digits, "_generate_examples", after_some_examples(overtake))
        assert_whole(tmp_path)


def test_data_dir_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match=f"{file} is a file: choose a folder .* with --data_dir"):
        registry.load(DataConfig(data_dir=str(file)))
    with pytest.raises(UserError, match=f"cannot be written to {file}/below .*with --data_dir"):
        registry.load(DataConfig(data_dir=str(file / "below")))
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_dir_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot be written to .* \(Permission denied\): choose"):
        registry.load(DataConfig(data_dir=str(tmp_path)))


def test_data_dir_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, whom no permission stops."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match=rf"'digits' cannot be written to {tmp_path} \(Permission"):
        registry.load(DataConfig(data_dir=str(tmp_path)))


def cut_records(folder: Path) -> None:
    record = folder / "digits-train.tfrecord-00000-of-00001"
    os.truncate(record, record.stat().st_size // 2)


def cut_at_a_record(folder: Path) -> None:
    """A record file that ends too early, but between two records."""
    record = folder / "digits-test.tfrecord-00000-of-00001"
    data = record.read_bytes()
    length = int.from_bytes(data[:8], "little") + 16  # length, two checksums, the record
    record.write_bytes(data[:length])


def drop_records(folder: Path) -> None:
    (folder / "digits-test.tfrecord-00000-of-00001").unlink()


def cut_info(folder: Path) -> None:
    os.truncate(folder / "dataset_info.json", 100)


def drop_info(folder: Path) -> None:
    (folder / "dataset_info.json").unlink()


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage", [cut_records, cut_at_a_record, drop_records, cut_info, drop_info, empty]
)
def test_damaged(tmp_path: Path, prepared: Path, damage: Callable[[Path], None]) -> None:
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    damage(root / "digits" / "1.0.0")
    with pytest.raises(UserError) as error:
        registry.load(DataConfig(data_dir=str(root)))
    # Without the description nobody knows which of the versions it is.
    folder = root / "digits" / ("1.0.0" if damage in (cut_records, cut_at_a_record) else "")
    assert str(error.value).startswith(f"dataset 'digits' in {folder}")
    assert " is damaged (" in str(error.value)
    assert str(error.value).endswith(
        "): delete that folder and run again, and it will be prepared anew"
    )
    assert "\n" not in str(error.value)
    shutil.rmtree(root / "digits")
    assert_whole(root)


def test_home_and_default_folder(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    before = os.stat(prepared / "digits" / "1.0.0").st_ino
    registry.load(DataConfig())
    assert os.stat(prepared / "digits" / "1.0.0").st_ino == before
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(prepared, tmp_path / "tensorflow_datasets")
    registry.load(DataConfig())
    registry.load(DataConfig(data_dir="~/elsewhere"))
    assert_whole(tmp_path / "elsewhere")


def test_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing on the terminal but one line, and that only at verbosity info."""
    lines: list[str] = []

    class Recorder(std_logging.Handler):
        def emit(self, record: std_logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Recorder()
    logging.get_absl_logger().addHandler(handler)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    try:
        registry.load(DataConfig(data_dir=str(tmp_path)))
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(verbosity)
        logging.get_absl_logger().removeHandler(handler)
    assert lines == [f"preparing the dataset digits in {tmp_path}/digits/1.0.0 (once)"]
    out, err = capfd.readouterr()
    assert out == ""
    assert "%|" not in err  # no progress bar
    assert "tensorflow_datasets" not in err
