"""What the program prints, writes and refuses."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comparison.reading import ROOT, MakeRun, compare, sections, table
from zforcing_tf import comparison, comparison_report
from zforcing_tf.comparison import Run
from zforcing_tf.errors import UserError


def test_the_program_prints_and_writes(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("runs/a_0", -20.0)
    make_run("runs/a_1", -21.0, {"seed": 1})
    make_run("runs/b", -22.0, {"model": "rnn"})
    done = compare("--run_dir=runs/a_0,runs/a_1,runs/b/", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = ["comparison.md", "comparison.csv", "comparison_seeds.csv", "comparison.png"]
    assert done.stdout.endswith("\n\n" + "".join(f"comparison/{name}\n" for name in names))
    assert [row["elbo"] for row in table(done.stdout)] == ["-20.000*", "-21.000", "-22.000"]
    folder = tmp_path / "comparison"
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    document = (folder / "comparison.md").read_text()
    assert "| runs/a_0 | zforcing | elbo | **-20.000** | 0.250 |" in document
    assert document.endswith("![Learning curves](comparison.png)\n")
    with open(folder / "comparison.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [(row["run"], row["elbo"]) for row in read] == [
        ("runs/a_0", "-20.0"),
        ("runs/a_1", "-21.0"),
        ("runs/b/", "-22.0"),
    ]
    assert [row["group"] for row in read] == ["runs/a", "runs/a", "runs/b/"]
    # Means of an earlier comparison do not stay beside a later one without any.
    done = compare("--run_dir=runs/b", folder=tmp_path)
    assert "comparison_seeds.csv" not in done.stdout
    assert not (folder / "comparison_seeds.csv").exists()


def test_the_program_does_not_wait_for_tensorflow(make_run: MakeRun, tmp_path: Path) -> None:
    code = """
import sys
from zforcing_tf import compare
sys.argv = ["compare", "--run_dir=a"]
try:
    compare.run()
finally:
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    make_run("a")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--run_dir is empty; give folders of runs, such as runs/first,runs/second"),
        (["--run_dir=good", "--output_dir="], "--output_dir is empty; give a folder, "
         "which is made if it is missing"),
        (["--run_dir=good,none"], "no run at none; train one with "
         "python -m zforcing_tf.train --run_dir=none"),
        (["--run_dir=good,good/"], "--run_dir has good more than once; name each run once"),
        (["--run_dir=good", "--output_dir=good/config.json"],
         "cannot write into --output_dir=good/config.json: File exists; "
         "mend that, or give another"),
        (["--run_dir=good", "--output_dir=good/config.json/new"],
         "cannot write into --output_dir=good/config.json/new: Not a directory; "
         "mend that, or give another"),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_one_sentence(
    make_run: MakeRun, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    make_run("good")
    done = compare(*arguments, folder=tmp_path)
    assert done.stderr == f"error: {sentence}\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", "{", r".*config.json cannot be used: it cannot be read \(.*\)"),
        ("config.json", '{"model": 3}',
         ".*config.json cannot be used: it does not hold settings by section"),
        ("results.json", "[]", ".*results.json cannot be used: it does not hold a JSON object; "
         "move it away"),
        ("results.json", "{}", ".*bad has no results on test data; get them with "
         "python -m zforcing_tf.evaluate --run_dir=.*bad --split=test"),
        ("results.json", '{"test": {"elbo": "-20"}}',
         ".*results.json cannot be used: elbo is '-20', which is not a number; move it away"),
        ("history.csv", "epoch\n1\n", r".*history.csv cannot be used \(a row has no epoch or no "
         r"step\); move it away"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_named(make_run: MakeRun, file: str, content: str, sentence: str) -> None:
    path = make_run("bad")
    (Path(path) / file).write_text(content)
    with pytest.raises(UserError) as caught:
        comparison.read(path, "test")
    assert re.fullmatch(sentence, str(caught.value))


def test_a_run_that_was_not_evaluated(make_run: MakeRun) -> None:
    path = make_run("a")
    (Path(path) / "results.json").unlink()
    with pytest.raises(UserError, match="has no results on test data"):
        comparison.read(path, "test")


def test_a_run_that_was_evaluated_before_it_ended(make_run: MakeRun) -> None:
    path = make_run("a")
    results = {"test": {"elbo": -20.0, "step": 45}}
    (Path(path) / "results.json").write_text(json.dumps(results))
    run: Run = comparison.read(path, "test")
    assert run.warnings == []
    row = table(comparison_report.text(sections(path)))[0]
    assert row == {
        "run": path, "model": "zforcing", "trained on": "elbo", "elbo": "-20.000", "seed": "0",
    }  # fmt: skip
