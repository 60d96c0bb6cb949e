"""Which runs share a table, and what its rows say."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.comparison.reading import MakeRun, sections, table
from zforcing_tf import comparison, comparison_report, learning_curves
from zforcing_tf.errors import UserError
from zforcing_tf.training.history import History


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


def test_symbols_have_a_perplexity_by_each_bound(make_run: MakeRun) -> None:
    words = {"bits_per_dim": "absent", "perplexity": 64.0}
    tighter = {"iwae": -18.0, "iwae_num_samples": 25, "iwae_nats_per_step": -math.log(48.0)}
    report = sections(
        make_run("a_s0", **words, **tighter), make_run("a_s1", settings={"seed": 1}, **words)
    )
    rows = table(comparison_report.text(report))
    assert [row["perplexity"] for row in rows] == ["64.000", "64.000"]
    assert [row["perplexity iwae-25"] for row in rows] == ["48.000", "-"]
    read = list(csv.DictReader(comparison_report.runs_csv(report).splitlines()))
    assert float(read[0]["iwae-25_perplexity"]) == pytest.approx(48.0)


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


def test_bounds_a_step_where_sequences_have_other_lengths(make_run: MakeRun) -> None:
    def run(name: str, seed: int, macro: float) -> str:
        steps = {"iwae_nats_per_step": -4.5 - seed, "iwae_nats_per_step_macro": macro}
        own = {"nats_per_step_macro": -5.25} | steps
        return make_run(name, settings={"seed": seed}, iwae=-18.0, iwae_num_samples=64, **own)

    report = sections(
        run("a_s0", 0, -4.25), run("a_s1", 1, -5.0), make_run("b", settings={"latent_size": 8})
    )
    text = comparison_report.text(report)
    _, _, after = text.partition("Nats a step")
    rows = table(after)
    assert [row["elbo"] for row in rows] == ["-5.000*"] * 3
    assert [row["iwae-64"] for row in rows] == ["-4.500*", "-5.500", "-"]
    assert [row["elbo macro"] for row in rows] == ["-5.250*", "-5.250*", "-"]
    assert [row["iwae-64 macro"] for row in rows] == ["-4.250*", "-5.000", "-"]
    assert "| **-4.500** |" in comparison_report.markdown(report)
    read = list(csv.DictReader(comparison_report.runs_csv(report).splitlines()))
    assert [row["iwae-64_nats_per_step"] for row in read] == ["-4.5", "-5.5", ""]
    assert [row["iwae-64_nats_per_step_macro"] for row in read] == ["-4.25", "-5.0", ""]
    seeds = list(csv.DictReader(comparison_report.seeds_csv(report).splitlines()))
    assert [row["iwae-64_nats_per_step_mean"] for row in seeds] == ["-5.0", ""]
    assert [row["nats_per_step_macro_mean"] for row in seeds] == ["-5.25", ""]


def test_no_bounds_a_step_where_lengths_are_equal_or_there_is_but_one(make_run: MakeRun) -> None:
    equal = {"iwae_nats_per_step": -4.5, "iwae_nats_per_step_macro": -4.5}
    one = make_run("one", iwae=-18.0, iwae_num_samples=64, **equal)
    other = make_run("other", nats_per_step_macro=-5.25)
    assert "Nats a step" not in comparison_report.text(sections(one))
    assert "Nats a step" not in comparison_report.text(sections(other))


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


def test_other_frames_under_the_same_name_never_share_a_table(make_run: MakeRun) -> None:
    """As of two files of one name, or of one that was changed between runs."""
    own = {"train": 0.5, "validation": 0.25, "test": 0.125}
    a = make_run("a_s0", content=own)
    b = make_run("b", content={**own, "test": 0.75}, settings={"seed": 1})
    c = make_run("a_s1", content={**own, "test": 0.125001}, settings={"seed": 1})
    d = make_run("d", content={**own, "train": 3.0}, settings={"seed": 2})
    report = sections(a, b, c, d)
    assert [section.heading for section in report] == [
        f"digits, as of {a}: test data, 180 sequences",
        f"digits, as of {b}: test data, 180 sequences",
    ]
    # The last digits differ from machine to machine; trained on other frames is no further seed.
    assert [[r.name for r in group.runs] for group in report[0].groups] == [[a, c], [d]]
    assert [run.name for run in report[1].runs] == [b]
    # Without data.json, as in results that were sent: the same, if there is but one.
    unknown = make_run("unknown")
    assert len(sections(unknown, a, c)) == 1
    assert [[run.name for run in s.runs] for s in sections(unknown, a, b)] == [[a], [b], [unknown]]


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


def test_two_folders_of_recordings_are_two_sets_of_data(make_run: MakeRun) -> None:
    """--manual_dir may change between runs, as data moves; the name of the data does not."""
    settings = {"dataset": "audio_folder"}
    names = ("audio_folder/ours", "audio_folder/yours", "audio_folder/ours")
    paths = [make_run(name, settings=settings) for name in "abc"]
    for path, data in zip(paths, names, strict=True):
        results = json.loads(Path(path, "results.json").read_text())
        Path(path, "results.json").write_text(json.dumps({**results, "dataset": data}))
    report = sections(*paths)
    assert [[run.name for run in one.runs] for one in report] == [[paths[0], paths[2]], [paths[1]]]
    assert report[1].heading == "audio_folder/yours: test data, 180 sequences"


def test_the_mean_over_sequences_is_shown_where_it_is_another(make_run: MakeRun) -> None:
    one = make_run("one", -20.0, nats_per_step_macro=-5.0)
    assert "nats/step macro" not in table(comparison_report.text(sections(one)))[0]
    other = make_run("other", -20.0, nats_per_step_macro=-5.5)
    rows = table(comparison_report.text(sections(one, other)))
    assert [row["nats/step macro"] for row in rows] == ["-", "-5.500"]
