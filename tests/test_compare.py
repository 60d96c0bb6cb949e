"""Runs side by side, from directories made by hand."""

import csv
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zforcing_tf import comparison, comparison_report, learning_curves
from zforcing_tf.comparison import Run, Section
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.errors import UserError
from zforcing_tf.training.history import History

ROOT = Path(__file__).resolve().parents[1]
MakeRun = Callable[..., str]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run directory; returns its path."""

    def make(
        name: str,
        elbo: float | None = -20.0,
        settings: dict[str, Any] | None = None,
        **scores: Any,
    ) -> str:
        run = tmp_path / name
        run.mkdir(parents=True)
        config: dict[str, dict[str, Any]] = json.loads(json.dumps(ExperimentConfig().to_json()))
        for setting, value in (settings or {}).items():
            section = next((s for s, entries in config.items() if setting in entries), "objective")
            config[section][setting] = value
        config["run"]["run_dir"] = str(run)
        (run / "config.json").write_text(json.dumps(config))
        test = {
            "num_sequences": 180,
            "num_samples": 1,
            "elbo": elbo,
            "elbo_standard_error": 0.25,
            "nats_per_step": None if elbo is None else elbo / 4,
            "bits_per_dim": 0.5,
            "kl_per_step": 0.75,
            "active_units": 28,
            **scores,
        }
        results = {
            "model": config["model"]["model"],
            "dataset": "digits",
            "seed": config["run"]["seed"],
            "parameters": 101_968,
            "epochs": 4,
            "best_epoch": 3,
            "step": 135,
            "seconds": 10.0,
            "validation": {**test, "elbo": -19.0},
            "test": {key: value for key, value in test.items() if value != "absent"},
        }
        (run / "results.json").write_text(json.dumps(results))
        history = History(run / "history.csv")
        for epoch, bound in enumerate((-90.0, -25.0, -20.0, -21.0), 1):
            history.append(epoch, 45 * epoch, {"elbo": bound + 1}, {"elbo": bound})
        return str(run)

    return make


def sections(*paths: str, split: str = "test") -> list[Section]:
    return comparison.arrange([comparison.read(path, split) for path in paths], split)


def table(text: str, *, after: str = "run ") -> list[dict[str, str]]:
    """Rows by title of the text table whose first title is given; a title's second has a `'`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(after))
    titles: list[str] = []
    for title in re.split(r" {2,}", lines[start].strip()):
        titles.append(title + "'" * titles.count(title))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        cells = re.split(r" {2,}", line.strip())
        assert len(cells) == len(titles), line
        rows.append(dict(zip(titles, cells, strict=True)))
    return rows


def compare(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zforcing_tf.compare", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_row_says_what_the_run_reached(make_run: MakeRun) -> None:
    one = make_run("one", -20.5, {"seed": 1234, "model": "rnn"}, active_units="absent")
    other = make_run("other", -19.25)
    rows = table(comparison_report.text(sections(one, other)))
    assert rows == [
        {
            "run": one,
            "model": "rnn",
            "trained on": "elbo",
            "elbo": "-20.500",
            "+-": "0.250",
            "nats/step": "-5.125",
            "bits/dim": "0.500",
            "KL/step": "0.750",
            "active units": "-",
            "parameters": "101,968",
            "s/epoch": "2.500",
            "epochs": "4",
            "best epoch": "3",
            "seed": "1234",
        },
        {
            "run": other,
            "model": "zforcing",
            "trained on": "elbo",
            "elbo": "-19.250*",
            "+-": "0.250",
            "nats/step": "-4.812",
            "bits/dim": "0.500",
            "KL/step": "0.750",
            "active units": "28",
            "parameters": "101,968",
            "s/epoch": "2.500",
            "epochs": "4",
            "best epoch": "3",
            "seed": "0",
        },
    ]


def test_each_split_has_its_own_results(make_run: MakeRun) -> None:
    path = make_run("one", -20.5)
    text = comparison_report.text(sections(path, split="validation"))
    assert "digits: validation data, 180 sequences" in text
    assert table(text)[0]["elbo"] == "-19.000"
    with pytest.raises(UserError) as caught:
        sections(path, split="train")
    assert str(caught.value) == (
        f"{path} has no results on train data; get them with "
        f"python -m zforcing_tf.evaluate --run_dir={path} --split=train"
    )


def test_symbols_have_a_perplexity(make_run: MakeRun) -> None:
    path = make_run("text", bits_per_dim="absent", perplexity=2.5)
    row = table(comparison_report.text(sections(path)))[0]
    assert row["perplexity"] == "2.500"
    assert "bits/dim" not in row


def test_bounds_of_different_numbers_of_samples_have_different_columns(make_run: MakeRun) -> None:
    def iwae(value: float, samples: int) -> dict[str, Any]:
        return {"iwae": value, "iwae_standard_error": 0.125, "iwae_num_samples": samples}

    trained = {"bound": "iwae", "num_samples": 5}
    a = make_run("a", -20.0, **iwae(-18.0, 64))
    b = make_run("b", -21.0, trained, **iwae(-17.0, 64), fivo=-16.0, fivo_num_samples=4)
    c = make_run("c", -22.0, {"bound": "fivo", "num_samples": 4}, **iwae(-19.0, 5))
    report = sections(a, b, c)
    rows = table(comparison_report.text(report))
    assert [title for title in rows[0] if title[:4] in comparison._BOUNDS] == [
        "elbo",
        "iwae-5",
        "iwae-64",
        "fivo-4",
    ]
    assert [row["trained on"] for row in rows] == ["elbo", "iwae-5", "fivo-4"]
    assert [row["elbo"] for row in rows] == ["-20.000*", "-21.000", "-22.000"]
    assert [row["iwae-64"] for row in rows] == ["-18.000", "-17.000*", "-"]
    # The only one of its kind is not the best of anything.
    assert [row["iwae-5"] for row in rows] == ["-", "-", "-19.000"]
    assert [row["fivo-4"] for row in rows] == ["-", "-16.000", "-"]
    assert "| **-17.000** | 0.125 |" in comparison_report.markdown(report)
    read = list(csv.DictReader(comparison_report.runs_csv(report).splitlines()))
    assert [row["iwae-64"] for row in read] == ["-18.0", "-17.0", ""]
    assert [row["iwae-64_standard_error"] for row in read] == ["0.125", "0.125", ""]


def test_a_bound_that_was_not_finite_is_not_the_best(make_run: MakeRun) -> None:
    rows = table(
        comparison_report.text(sections(make_run("a"), make_run("b", None), make_run("c", -30.0)))
    )
    assert [row["elbo"] for row in rows] == ["-20.000*", "-", "-30.000"]


def test_runs_that_differ_only_in_seed_are_averaged(make_run: MakeRun) -> None:
    elbos = [-20.0, -21.5, -20.75]
    paths = [make_run(f"rnn_s{s}", e, {"seed": s}) for s, e in zip((0, 1, 10), elbos, strict=True)]
    alone = make_run("wide", -20.5, {"recurrent_size": 256})
    report = sections(paths[0], alone, *paths[1:])
    rows = table(comparison_report.text(report), after="runs ")
    assert [row["runs"] for row in rows] == [paths[0].removesuffix("_s0"), alone]
    assert [row["seeds"] for row in rows] == ["0, 1, 10", "0"]
    assert [row["n"] for row in rows] == ["3", "1"]
    assert [row["elbo"] for row in rows] == ["-20.750", "-20.500*"]
    assert [row["+-"] for row in rows] == [f"{statistics.stdev(elbos):.3f}", "-"] == ["0.750", "-"]
    read = list(csv.DictReader(comparison_report.seeds_csv(report).splitlines()))
    assert float(read[0]["elbo_mean"]) == statistics.fmean(elbos)
    assert float(read[0]["elbo_standard_deviation"]) == statistics.stdev(elbos)
    assert read[1]["elbo_standard_deviation"] == ""
    assert [run.name for run in report[0].runs] == [*paths, alone]


def test_no_means_without_seeds(make_run: MakeRun) -> None:
    report = sections(make_run("a"), make_run("b", settings={"latent_size": 8}))
    assert "Mean" not in comparison_report.text(report)
    assert "Mean" not in comparison_report.markdown(report)


def test_a_mean_is_over_all_runs_of_its_row_or_left_out(make_run: MakeRun) -> None:
    a = make_run("a_0", iwae=-18.0, iwae_num_samples=64)
    b = make_run("a_1", settings={"seed": 1})
    c = make_run("c", settings={"latent_size": 8}, iwae=-17.0, iwae_num_samples=64)
    rows = table(comparison_report.text(sections(a, b, c)), after="runs ")
    assert [row["iwae-64"] for row in rows] == ["-", "-17.000"]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["rnn_s0", "rnn_s1"], "rnn"),
        (["rnn_seed_0", "rnn_seed_12"], "rnn"),
        (["h128-0", "h128-1"], "h128"),
        (["0/rnn", "1/rnn"], "rnn"),
        (["seed1", "seed2"], "seed1 and 1 more"),
        (["only_7"], "only_7"),
    ],
)
def test_a_group_is_called_what_its_names_share(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: list[str], label: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(names):
        make_run(name, settings={"seed": seed})
    assert [group.label for group in sections(*names)[0].groups] == [label]


def test_groups_of_one_name_are_told_apart(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [{"seed": seed, "latent_size": 8} for seed in (0, 1)]
    large = [{"seed": seed, "latent_size": 9} for seed in (0, 1)]
    names = [f"run_{i}" for i in range(4)]
    for name, settings in zip(names, small + large, strict=True):
        make_run(name, settings=settings)
    labels = [group.label for group in sections(*names)[0].groups]
    assert labels == ["run_0 and 1 more", "run_2 and 1 more"]


def test_what_is_not_a_mean_over_seeds_alone_is_said(make_run: MakeRun) -> None:
    a = make_run("a_0", settings={"train_epochs": 4})
    b = make_run("a_1", settings={"train_epochs": 8})
    label = a.removesuffix("_0")
    assert sections(a, b)[0].warnings == [
        f"{a} and {b} have the same seed: they are one experiment, not several",
        f"the runs of {label} had different --train_epochs: 4, 8",
    ]
    assert f"note: {a} and {b} have" in comparison_report.text(sections(a, b))
    assert f"- {a} and {b} have" in comparison_report.markdown(sections(a, b))


def test_different_data_never_share_a_table(make_run: MakeRun) -> None:
    paths = [
        make_run("a", -20.0),
        make_run("b", -22.0, {"rows_per_step": 1}),
        make_run("c", -21.0, {"data_dir": "/elsewhere"}),
        make_run("d", -19.0, num_sequences=100),
    ]
    report = sections(*paths)
    assert [section.heading for section in report] == [
        "digits, rows_per_step=2: test data, 180 sequences",
        "digits, rows_per_step=1: test data, 180 sequences",
        "digits, rows_per_step=2: test data, 100 sequences",
    ]
    assert [[run.name for run in section.runs] for section in report] == [
        [paths[0], paths[2]],
        [paths[1]],
        [paths[3]],
    ]
    text, document = comparison_report.text(report), comparison_report.markdown(report)
    said = "Bounds of different data cannot be compared: one table each."
    assert said in text and said in document
    assert said not in comparison_report.text(report[:1])
    assert document.count("| run | model |") == 3
    read = list(csv.DictReader(comparison_report.runs_csv(report).splitlines()))
    assert [row["num_sequences"] for row in read] == ["180", "180", "180", "100"]
    assert read[2]["data"] == "digits, rows_per_step=1"


def test_pieces_are_not_compared_with_whole_sequences(make_run: MakeRun) -> None:
    whole = make_run("whole")
    trained = {"chunk_length": 40, "carry_state": True}
    in_pieces = make_run("in_pieces", settings=trained)
    scored = make_run("scored", settings={**trained, "chunk_evaluation": True})
    others = make_run("others", settings={**trained, "chunk_length": 20, "chunk_evaluation": True})
    found = sections(whole, in_pieces, scored, others)
    # How training takes sequences apart does not change what its test bound is of.
    assert [[run.name for run in one.runs] for one in found] == [
        [whole, in_pieces],
        [scored],
        [others],
    ]
    assert len(found[0].groups) == 2
    assert found[1].heading.startswith("digits, ")
    assert "chunk_length=40, chunk_evaluation=true: test data" in found[1].heading


def test_other_evaluations_of_a_run_are_not_read(make_run: MakeRun) -> None:
    run = make_run("one", -20.0)
    path = Path(run) / "results.json"
    results = json.loads(path.read_text())
    names = ["test, chunks of 40", "test, last", "train, chunks of 40"]
    results |= {name: {**results["test"], "elbo": -1.0, "iwae": -1.0} for name in names}
    results["test"]["diagnostics"] = {"nats_per_step": -1.0}
    path.write_text(json.dumps(results))
    (row,) = table(comparison_report.text(sections(run)))
    assert row["elbo"] == "-20.000" and "iwae-?" not in row
    with pytest.raises(UserError, match="has no results on train data"):
        sections(run, split="train")


def test_a_csv_file_holds_what_the_results_hold(make_run: MakeRun) -> None:
    report = sections(make_run("a", -61 / 3), make_run("b", settings={"seed": 1}))
    read = list(csv.DictReader(comparison_report.runs_csv(report).splitlines()))
    assert float(read[0]["elbo"]) == -61 / 3
    assert read[0]["parameters"] == "101968"
    assert [row["seed"] for row in read] == ["0", "1"]
    assert len({row["group"] for row in read}) == 1


def test_settings_of_other_versions_are_kept_apart_or_take_their_default(
    make_run: MakeRun,
) -> None:
    a, b, c = make_run("a"), make_run("b"), make_run("c", settings={"of_the_future": 3})
    path = Path(b) / "config.json"
    config = json.loads(path.read_text())
    del config["optimizer"], config["model"]["dropout"]
    path.write_text(json.dumps(config))
    assert [len(group.runs) for group in sections(a, b, c)[0].groups] == [2, 1]


def warnings_of(path: str) -> list[str]:
    return comparison.read(path, "test").warnings


def test_numbers_of_another_epoch_are_noted(make_run: MakeRun) -> None:
    assert warnings_of(make_run("best", step=135)) == []
    last = make_run("last", step=180)
    assert warnings_of(last) == [
        f"{last} was scored at update 180, not at its best epoch (update 135)"
    ]
    more = make_run("more")
    History(Path(more) / "history.csv").append(5, 225, {"elbo": -19.0}, {"elbo": -19.0})
    assert warnings_of(more) == [
        f"{more} was trained until epoch 5 after its results of epoch 4 were written"
    ]


def test_a_run_without_a_learning_curve_is_compared_without(make_run: MakeRun) -> None:
    path = make_run("a")
    (Path(path) / "history.csv").unlink()
    assert warnings_of(path) == [f"{path} has no learning curve"]
    figure = learning_curves.draw_comparison(comparison_report.panels(sections(path)))
    assert all(len(line.get_xdata()) == 0 for line in figure.axes[0].get_lines())


def test_the_picture_has_two_lines_and_a_star_for_each_run(make_run: MakeRun) -> None:
    paths = [make_run(f"a_{seed}", settings={"seed": seed}) for seed in (0, 1)]
    paths.append(make_run("b", settings={"latent_size": 8}))
    figure = learning_curves.draw_comparison(comparison_report.panels(sections(*paths)))
    [axis] = figure.axes
    lines = axis.get_lines()
    assert len(lines) == 3 * 3
    train, validation, best = lines[:3]
    assert list(validation.get_xdata()) == [45, 90, 135, 180]
    assert list(validation.get_ydata()) == [-90, -25, -20, -21]
    assert list(train.get_ydata()) == [-89, -24, -19, -20]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([135], [-20])
    assert train.is_dashed() and not validation.is_dashed()
    colours = [line.get_color() for line in lines]
    assert len(set(colours[:6])) == 1  # seeds of a group
    assert len(set(colours[6:])) == 1 and colours[6] != colours[0]
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["a (2 runs)", "b", "validation", "training", "best epoch"]
    low, high = axis.get_ylim()
    assert -30 < low < -25 and -19 < high < -18  # without the first epoch
    assert axis.get_xlabel() == "updates"


def test_other_batch_sizes_are_compared_over_epochs_too(make_run: MakeRun) -> None:
    a, b = make_run("a"), make_run("b", settings={"batch_size": 64})
    c = make_run("c", settings={"rows_per_step": 1})
    figure = learning_curves.draw_comparison(comparison_report.panels(sections(a, b, c)))
    labels = [axis.get_xlabel() for axis in figure.axes if axis.axison]
    assert labels == ["updates", "epochs", "updates"]
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.axison]
    assert titles == ["digits, rows_per_step=2"] * 2 + ["digits, rows_per_step=1"]


def test_fifteen_groups_look_different() -> None:
    rows = [{"epoch": 1.0, "step": 1.0, "train_elbo": -3.0, "validation_elbo": -4.0}]
    curves = [learning_curves.Curves(str(i), [rows]) for i in range(15)]
    figure = learning_curves.draw_comparison([learning_curves.Panel("", curves, ["step"])])
    handles = figure.axes[0].get_legend().legend_handles
    assert len({(line.get_color(), line.get_marker()) for line in handles[:15]}) == 15


def test_bounds_that_are_not_finite_are_not_drawn(tmp_path: Path) -> None:
    bounds = [-9.0, float("nan"), -8.0, float("-inf")]
    rows = [
        {"epoch": i, "step": 10 * i, "train_elbo": bound, "validation_elbo": bound}
        for i, bound in enumerate(bounds)
    ]
    panel = learning_curves.Panel("", [learning_curves.Curves("a", [rows])], ["step"])
    figure = learning_curves.draw_comparison([panel])
    assert list(figure.axes[0].get_lines()[1].get_ydata()) == [-9.0, -8.0]
    picture = learning_curves.save_curves(tmp_path / "new" / "curves.png", rows)
    assert picture.read_bytes().startswith(b"\x89PNG")


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
