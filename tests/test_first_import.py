"""What programs import, and when: nobody waits for what is not needed yet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    *("keras", "matplotlib", "scipy", "sklearn", "tensorboard", "tensorflow"),
    *("tensorflow_datasets", "tensorflow_probability", "tf_keras"),
}
REPORT = """
import atexit, json, sys
def report():
    print(json.dumps({"imported": sorted(m for m in sys.modules if "." not in m)}), flush=True)
atexit.register(report)
"""
STOP_BEFORE_TRAINING = """
from zforcing_tf import train
from zforcing_tf import programs
check = programs._guarded
def guarded(main, arguments):
    from zforcing_tf.training import fit
    def run(self):
        raise SystemExit(0)
    fit._Training.run = run
    return check(main, arguments)
programs._guarded = guarded
train.run()
"""


def process(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TF_CPP", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def imported(code: str, *arguments: str, **variables: str) -> set[str]:
    """Those of `HEAVY` that a process has imported at its end."""
    last = process(REPORT + code, *arguments, **variables).stdout.splitlines()[-1]
    return HEAVY & set(json.loads(last)["imported"])


def test_the_library_alone_imports_nothing_heavy() -> None:
    assert imported("import zforcing_tf; zforcing_tf.ExperimentConfig()") == set()


@pytest.mark.parametrize(
    "program",
    ["zforcing_tf.train", "zforcing_tf.evaluate", "zforcing_tf.generate", "zforcing_tf.compare",
     "zforcing_tf.interpolate", "export.saved_model"],
)  # fmt: skip
def test_help_imports_nothing_heavy(program: str) -> None:
    assert imported(f"from {program} import run; run()", "--help") == set()


def test_training_imports_what_it_trains_with(tmp_path: Path) -> None:
    """Neither plots nor datasets that are not asked for; Keras would take sklearn along."""
    arguments = ("--dataset=linear_gaussian", f"--run_dir={tmp_path / 'run'}")
    needed = {"keras", "scipy", "tensorflow", "tensorflow_probability", "tf_keras"}
    assert imported(STOP_BEFORE_TRAINING, *arguments) <= needed


def test_a_dataset_imports_what_it_is_read_with(tmp_path: Path) -> None:
    data = {"TFDS_DATA_DIR": str(tmp_path)}
    found = imported(STOP_BEFORE_TRAINING, "--dataset=digits", f"--run_dir={tmp_path}/run", **data)
    assert {"tensorflow_datasets", "sklearn"} <= found  # sklearn: to prepare the digits, once
    found = imported(STOP_BEFORE_TRAINING, "--dataset=digits", f"--run_dir={tmp_path}/run", **data)
    assert "tensorflow_datasets" in found
    assert not found & {"matplotlib", "sklearn", "tensorboard"}


LEFT_OUT = """
import gc, sys
from zforcing_tf import first_import
first_import.prepare()
import {first}
from tensorflow import keras
left = lambda: [f for f in sys.meta_path if type(f).__module__ == first_import.__name__]
assert left() == []
assert "keras" in sys.modules
assert not set(first_import.LEFT_OUT) & set(sys.modules)
assert gc.isenabled() and gc.get_freeze_count() > 100_000
first_import.prepare()
assert left() == []
import matplotlib.pyplot, sklearn.datasets
"""


@pytest.mark.parametrize("first", ["keras", "tensorflow"])
def test_what_was_left_out_can_be_imported_later(first: str) -> None:
    process(LEFT_OUT.replace("{first}", first))


def test_an_import_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("import sklearn")
    code = f"""
import gc, sys
sys.path.insert(0, {str(tmp_path)!r})
from zforcing_tf import first_import
before = list(sys.meta_path)
first_import.prepare()
try:
    import tensorflow
except ModuleNotFoundError as error:
    assert error.name == "sklearn"
else:
    raise AssertionError
del sys.meta_path[0]  # what waits for Keras
assert sys.meta_path == before and gc.isenabled()
"""
    process(code)


def test_who_asks_whether_tensorflow_is_there_brings_no_noise() -> None:
    code = """
import importlib.util
from zforcing_tf import programs
def main():
    importlib.util.find_spec("tensorflow")
    import tensorflow
programs.run(main, ["program"])
"""
    assert process(code).stderr == ""
