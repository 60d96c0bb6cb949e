"""Runs that differ only in seed, and how they are called."""

import csv
import statistics
from pathlib import Path

import pytest

from tests.comparison.reading import MakeRun, sections, table
from zforcing_tf import comparison_report


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
