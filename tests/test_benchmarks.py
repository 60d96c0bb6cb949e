"""The benchmarks refuse wrong arguments and unequal results, and run at a tiny size."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import checks, floors, forms, problem, run, workers
from benchmarks.problem import CONFIGS, Problem


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only=train,speed"], "unknown 'speed'"),
        (["--configs=large"], "unknown 'large'"),
        (["--repeats=0"], "give 1 or more"),
        (["--peers_python=python3"], "no effect without --peers"),
        (["--peers", "--peers_python=missing/python"], "no program"),
        (["--json=missing/folder/file.json"], "no such folder"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.parsed(arguments)
    assert message in capsys.readouterr().err


def _results():
    rng = np.random.default_rng(0)
    return {"loss": np.float32(123.0), "core.input": rng.normal(size=(5, 7)).astype(np.float32)}


def test_equal_results_are_admitted_up_to_rounding():
    found = _results()
    found["loss"] = found["loss"] * np.float32(1 + 1e-6)
    found["core.input"] = found["core.input"] + np.float32(1e-5)
    assert checks.differences(_results(), found) == []


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: r | {"loss": r["loss"] * 1.0001}, "loss differs"),
        (lambda r: r | {"loss": np.nan}, "loss differs"),
        (lambda r: r | {"core.input": r["core.input"] + 0.01}, "core.input differs"),
        (lambda r: r | {"core.input": r["core.input"].T}, "core.input has the shape"),
        (lambda r: {"loss": r["loss"]}, "core.input is missing"),
        (lambda r: r | {"more": r["loss"]}, "more is not expected"),
    ],
)
def test_a_perturbed_result_is_refused(change, message):
    said = checks.differences(_results(), change(_results()))
    assert len(said) == 1 and said[0].startswith(message)


def test_a_problem_is_read_as_it_was_written(tmp_path):
    s = CONFIGS["tiny"]
    noise = np.random.default_rng(2).normal(size=(s.T, s.B, s.Z)).astype(np.float32)
    Problem(problem.weights(s), problem.batch(s), noise).save(tmp_path / "problem.npz")
    found = Problem.load(tmp_path / "problem.npz")
    assert found.sizes == s
    assert {k: v.shape for k, v in found.weights.items()} == problem.weight_shapes(s)
    np.testing.assert_array_equal(found.noise, noise)


def test_a_worker_that_ends_says_why(tmp_path):
    with pytest.raises(workers.WorkerFailed, match="exit code 2: .*unrecognized arguments"):
        workers.Worker("benchmarks.ours", "train", "--wrong")


def test_the_ratio_is_to_the_reference_wherever_it_stands():
    rows = [
        {"form": "ours", "ms_median": 2.0},
        {"form": forms.REFERENCE, "ms_median": 8.0},
    ]
    forms.set_ratios(rows)
    assert [row["speed_ratio"] for row in rows] == [4.0, 1.0]


@pytest.mark.slow
def test_a_training_step_is_checked_and_timed_at_a_tiny_size(tmp_path):
    file = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/run.py", "--only=train", "--configs=tiny"]
    command += ["--repeats=1", f"--json={file}", "--without=ours, XLA on"]
    done = subprocess.run(command, cwd=workers.ROOT, capture_output=True, text=True, check=True)
    results = json.loads(file.read_text())
    assert results["train"][0]["form"] == "ours, XLA off"
    assert all(row["form"] != "ours, XLA on" for row in results["train"])
    assert results["train"][0]["ms_median"] > 0 and "ours, XLA off" in done.stdout


@pytest.mark.slow
def test_memory_of_the_pipeline_is_measured_for_each_size(tmp_path):
    command = [sys.executable, "benchmarks/corpora.py", "--gib=0.01,0.02", "--batches=3"]
    done = subprocess.run(command, cwd=workers.ROOT, capture_output=True, text=True, check=True)
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[:2] == ["dataset", "GiB"] and heading.endswith("own MiB")
    found = [row.split() for row in rows]
    assert [row[:2] for row in found] == [
        [kind, gib] for kind in ("pieces", "carried") for gib in ("0.01", "0.02")
    ]
    assert all(50 < float(row[-1]) < 5_000 for row in found)


def test_the_gradient_of_our_worker_is_that_of_its_loss(tmp_path):
    """By differences, along one bias: what peers are held to is right itself."""
    from benchmarks import ours

    s, path, name = CONFIGS["tiny"], tmp_path / "problem.npz", "posterior.bias_2"
    noise = np.random.default_rng(2).normal(size=(s.T, s.B, s.Z)).astype(np.float32)
    given = Problem(problem.weights(s), problem.batch(s), noise)
    check = ours.training(given, ours.PLAIN)["check"]
    first = given.weights[name]

    def result(by):
        given.weights[name] = first + np.float32(by)
        check(str(path))
        with np.load(path) as found:
            return {key: np.float64(found[key]) for key in ("loss", name)}

    step = 0.02
    slope = (result(step)["loss"] - result(-step)["loss"]) / (2 * step)
    assert slope == pytest.approx(result(0.0)[name].sum(), rel=0.02)


def test_floors_of_frames_that_are_given_or_scored(tmp_path):
    """One key that sounds in each other step: independent, 1/2; given the last, almost certain."""
    roll = np.zeros((1, 41, 88), np.uint8)
    roll[0, ::2, 0] = 1
    arrays = {name: np.concatenate([roll] * count) for name, count in (("train", 3), ("valid", 1))}
    np.savez(tmp_path / "rolls.npz", **arrays, test=roll)
    common = [sys.executable, "benchmarks/floors.py", "--dataset=array"]
    common += [f"--manual_dir={tmp_path / 'rolls.npz'}", f"--data_dir={tmp_path / 'tfds'}"]

    def found(*more):
        done = subprocess.run(
            [*common, *more], cwd=workers.ROOT, capture_output=True, text=True, check=True
        )
        heading, _, _, last = done.stdout.splitlines()[-4:]
        return heading, float(last.split()[-3])

    scored = found()
    only_given = found("--noscore_first_frame")
    assert scored[0] == "array/rolls, test, 1 sequences:"
    assert only_given[0] == "array/rolls, test, 1 sequences, first frames not scored:"
    # Half a count is added to each: 63 of 123 frames have the key, and none any of the other 87.
    first = np.log(63.5 / 124) + 87 * np.log(123.5 / 124)
    assert scored[1] - only_given[1] == pytest.approx(first, abs=2e-3)


def test_floors_of_linear_sound_are_densities_of_companded_samples():
    """Whatever has an integral of one over linear samples has it over companded ones."""
    y = np.linspace(-1, 1, 200_001)
    for scale in (0.5, 0.01):
        mass = -np.expm1(-1 / scale)

        def log_density(x, scale=scale, mass=mass):
            return -(np.abs(x) / scale + np.log(2 * scale * mass)).sum(axis=1)

        (score,) = floors.expanded({"Laplace": log_density}, bits=16).values()
        assert np.trapezoid(np.exp(score(y[:, None])), y) == pytest.approx(1, abs=1e-6)
