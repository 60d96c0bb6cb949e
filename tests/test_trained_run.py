"""The programs that use a trained run: what they print, write and refuse."""

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from tests import model_factory
from zforcing_tf import evaluate, generate, scoring
from zforcing_tf.config import DataConfig, to_flags_text
from zforcing_tf.data import registry
from zforcing_tf.errors import UserError
from zforcing_tf.training.checkpoint import load_model

ROOT = Path(__file__).resolve().parents[1]


def program(module, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def experiment(run_dir, seed=0):
    settings = {"batch_size": 500, "train_epochs": 1, "run_dir": str(run_dir), "seed": seed}
    return model_factory.experiment("auto", dataset="linear_gaussian", **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one epoch with the seed 5, and what the training printed."""
    folder = tmp_path_factory.mktemp("trained")
    run, flagfile = folder / "run", folder / "flags.txt"
    flagfile.write_text(to_flags_text(experiment(run, seed=5)))
    done = program("zforcing_tf.train", f"--flagfile={flagfile}")
    assert (done.returncode, done.stderr) == (0, "")
    return run, done.stdout


@pytest.fixture
def results(trained):
    """Reads results.json, which is put back after the test."""
    path = trained[0] / "results.json"
    before = path.read_text()
    yield lambda: json.loads(path.read_text())
    path.write_text(before)


@pytest.fixture
def with_flags(monkeypatch, trained):
    """Runs a program's main in this process, which saves the seconds that one takes to start."""

    def call(module, **values):
        common = {
            "checkpoint": "best",
            "data_dir": None,
            "manual_dir": None,
            "seed": None,
            "bounds": ["elbo"],
        }
        common |= {"num_particles": 1, "chunk_length": None}
        common |= {"diagnostics": False, "diagnostics_sequences": 256}
        given = types.SimpleNamespace(**{**common, **values})
        monkeypatch.setattr(flags, "FLAGS", given)
        return module.main()

    return call


def assert_same(numbers, expected):
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        approximate = isinstance(value, float)
        assert numbers[name] == (pytest.approx(value, rel=1e-5) if approximate else value), name


def asked(run, **values):
    given = {"run_dir": [str(run)], "split": "test", "num_samples": 1, "eval_batch_size": 64}
    return given | values


def test_the_log_holds_the_lines_that_were_printed(trained):
    run, printed = trained
    assert (run / "log.txt").read_text() == printed
    assert printed.startswith("epoch 1/1  train elbo")
    assert printed.endswith(f"\n\nall of it is in {run}\n")


def test_evaluate_finds_what_training_found(trained, results):
    """A process of its own; its numbers replace equal ones."""
    run, printed = trained
    before = results()
    done = program("zforcing_tf.evaluate", f"--run_dir={run}")
    assert (done.returncode, done.stderr) == (0, "")
    heading, titles, row = done.stdout.splitlines()
    assert heading == "test data, best epoch:"
    assert titles.split()[:2] == ["nats/sequence", "+-"]
    # The same numbers as in training's own table, behind another label.
    (own,) = [line for line in printed.splitlines() if line.startswith("zforcing, test")]
    assert row.split()[1:] == own.split()[2:]
    assert_same(results()["test"], before["test"])
    assert results()["test"]["step"] == before["step"]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "test"),
        ({"seed": 5, "split": "validation"}, "validation"),
        ({"checkpoint": "last", "num_samples": 3, "seed": 2}, "test, last, 3 samples, seed 2"),
        ({"split": "train", "seed": 0}, "train, seed 0"),
        ({"chunk_length": 0}, "test"),
        ({"chunk_length": 7}, "test, chunks of 7"),
    ],
)
def test_other_evaluations_have_other_names(trained, results, with_flags, capsys, values, name):
    run, _ = trained
    before = results()
    assert with_flags(evaluate, **asked(run, **values)) == 0
    after = results()
    assert after.keys() - before.keys() == {name} - before.keys()
    for split in ("validation", "test"):
        assert_same(after[split], before[split])
    chosen = {"checkpoint": "best", "num_samples": 1, "seed": 5, **values}
    assert {key: after[name][key] for key in ("checkpoint", "num_samples", "seed")} == {
        key: chosen[key] for key in ("checkpoint", "num_samples", "seed")
    }
    assert f"{after[name]['elbo']:.3f}" in capsys.readouterr().out


def test_diagnostics_are_printed_written_and_kept(trained, results, with_flags, capsys):
    run, _ = trained
    assert with_flags(evaluate, **asked(run, diagnostics=True)) == 0
    numbers = results()["test"]
    found = numbers["diagnostics"]
    assert found["num_sequences"] == numbers["num_sequences"] == 200
    for name in ("nats_per_step", "kl_per_step", "active_units"):
        assert found[name] == pytest.approx(numbers[name], rel=1e-5)
    printed = capsys.readouterr().out.splitlines()
    assert f"{found['mutual_information']:.3f}" in printed[-3]
    pictures = [run / "samples" / name for name in ("diagnostics.png", "diagnostics.npz")]
    assert printed[-2:] == list(map(str, pictures))
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    with np.load(pictures[1]) as arrays:
        assert arrays["kl_per_dimension"].sum() == pytest.approx(numbers["kl_per_step"], rel=1e-5)
    assert with_flags(evaluate, **asked(run)) == 0
    assert results()["test"]["diagnostics"] == found
    fewer = asked(run, diagnostics=True, diagnostics_sequences=3, chunk_length=7)
    assert with_flags(evaluate, **fewer) == 0
    assert results()["test, chunks of 7"]["diagnostics"]["num_sequences"] == 3
    others = [path.with_stem("diagnostics_test_chunks_of_7") for path in pictures]
    assert capsys.readouterr().out.splitlines()[-2:] == list(map(str, others))
    assert all(path.exists() for path in [*pictures, *others])
    assert results()["test"]["diagnostics"] == found


def test_a_picture_that_cannot_be_written(trained, results, with_flags, caplog, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run, ignore=shutil.ignore_patterns("samples"))
    (run / "samples").touch()
    assert with_flags(evaluate, **asked(run, diagnostics=True, diagnostics_sequences=3)) == 2
    assert f"the picture is not written: cannot write {run / 'samples'}: File exists" in caplog.text
    assert "diagnostics" in json.loads((run / "results.json").read_text())["test"]


@pytest.mark.parametrize(
    ("own", "asked_for", "expected"),
    [
        ({}, None, (0, False, False)),
        ({}, 0, (0, False, False)),
        ({}, 40, (40, True, False)),
        ({"chunk_length": 40}, None, (0, False, False)),
        ({"chunk_length": 40}, 40, (40, True, False)),
        ({"chunk_length": 40, "chunk_evaluation": True}, None, (40, False, True)),
        ({"chunk_length": 40, "chunk_evaluation": True}, 40, (40, False, True)),
        ({"chunk_length": 40, "chunk_evaluation": True}, 0, (0, True, False)),
        ({"chunk_length": 40, "chunk_evaluation": True}, 20, (20, True, False)),
    ],
)
def test_which_pieces_are_scored(own, asked_for, expected):
    """Steps of one, whether training scored others, and whether the data comes in pieces."""
    data = DataConfig(**own)
    loaded, pieces, others = evaluate._pieces(data, asked_for)
    assert (pieces, others, loaded.chunk_evaluation) == expected
    assert dataclasses.replace(loaded, chunk_evaluation=data.chunk_evaluation) == data


def test_pieces_are_scored_each_by_itself(trained, results, with_flags):
    run, _ = trained
    assert with_flags(evaluate, **asked(run, chunk_length=7)) == 0
    found = results()["test, chunks of 7"]
    model, experiment, spec, _ = load_model(run, "best")
    data = registry.load(experiment.data).test
    assert found["num_sequences"] == sum(-(-int(length) // 7) for length in data.lengths)
    expected = scoring.evaluate(model, spec, data.cut(7), 64, seed=5)
    assert found["elbo"] == pytest.approx(expected["elbo"], rel=1e-5)
    assert found["nats_per_step"] < results()["test"]["nats_per_step"]


def test_pieces_and_whole_sequences_have_a_table_each(with_flags, monkeypatch, capsys):
    protocols = {"a": "", "b": ", chunks of 40", "c": ""}

    def evaluated(path, _):
        return evaluate._Evaluated(path, "test", protocols[path], {}, {"elbo": -2.0}, {}, None)

    monkeypatch.setattr(evaluate, "_evaluated", evaluated)
    monkeypatch.setattr(evaluate, "_written", lambda _: True)
    assert with_flags(evaluate, **asked("a") | {"run_dir": ["a", "b", "c"]}) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("test data, best epoch:", "", "a", "c"),
        *("test data, best epoch, chunks of 40:", "", "b"),
    ]


def test_whole_sequences_of_a_run_that_was_validated_on_pieces():
    numbers = {"checkpoint": "best", "num_samples": 1, "seed": 0}
    assert evaluate.result_name("test", numbers, 0) == "test"
    named = {**numbers, "chunk_length": 0, "seed": 3}
    assert evaluate.result_name("test", named, 0) == "test, whole sequences, seed 3"


def test_several_runs_stand_side_by_side(trained, with_flags, capsys, results):
    run, _ = trained
    asked_for = {**asked(run), "run_dir": [str(run), f"{run}/"]}
    assert with_flags(evaluate, **asked_for) == 0
    _, _, one, other = capsys.readouterr().out.splitlines()
    assert one.split()[1:] == other.split()[1:]


def test_numbers_that_cannot_be_written_down_are_shown_first(trained, results):
    """A real process on a disk that is full."""
    before = results()
    done = program(
        "zforcing_tf.evaluate",
        f"--run_dir={trained[0]}",
        "--num_samples=2",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
    )
    assert done.returncode == 2
    assert "nats/sequence" in done.stdout and len(done.stdout.splitlines()) == 3
    assert done.stderr == (
        f"WARNING: the numbers above are not written down: cannot write "
        f"{trained[0] / 'results.json'}: File too large; mend that, or give another --run_dir\n"
    )
    assert results() == before


def test_a_damaged_results_file_does_not_hide_the_numbers(
    trained, results, with_flags, capsys, caplog
):
    path = trained[0] / "results.json"
    path.write_text("{")
    assert with_flags(evaluate, **asked(trained[0])) == 2
    assert "nats/sequence" in capsys.readouterr().out
    assert "results.json cannot be used" in caplog.text
    assert path.read_text() == "{"


def test_generate_writes_pictures_and_arrays(trained):
    """A process of its own."""
    run, _ = trained
    done = program("zforcing_tf.generate", f"--run_dir={run}", "--num_sequences=3", "--num_steps=7")
    assert (done.returncode, done.stderr) == (0, "")
    names = ["samples.npz", "samples.png", "learning_curves.png"]
    assert done.stdout.splitlines() == [str(run / "samples" / name) for name in names]
    with np.load(run / "samples" / "samples.npz") as arrays:
        assert arrays["samples"].shape == (3, 7, 3)
        assert not np.array_equal(arrays["samples"], arrays["samples_cool"])
        assert arrays["completions_lengths"].shape == (3,)


def test_generate_into_a_file_says_so(trained, with_flags, monkeypatch, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run, ignore=shutil.ignore_patterns("samples"))
    (run / "samples").touch()
    values = {"num_sequences": 2, "num_steps": 0, "seconds": 0.0, "temperature": 0.5, "seed": 0}
    with pytest.raises(UserError, match=rf"^cannot write {run / 'samples'}: File exists; mend"):
        with_flags(generate, run_dir=str(run), **values)
