"""The picture of learning curves."""

from pathlib import Path

from tests.comparison.reading import MakeRun, sections
from zforcing_tf import comparison_report, learning_curves


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


def test_a_model_has_one_colour_for_all_data(make_run: MakeRun) -> None:
    def run(name: str, model: str, rows_per_step: int, **settings: object) -> str:
        return make_run(name, settings={"model": model, "rows_per_step": rows_per_step, **settings})

    paths = [
        run("a_rnn_autoregressive", "rnn", 1, autoregressive_emission=True),
        run("a_rnn", "rnn", 1),
        run("a_vrnn", "vrnn", 1),
        run("b_vrnn", "vrnn", 2),
        run("b_rnn", "rnn", 2),
        run("b_rnn_small", "rnn", 2, recurrent_size=8),
    ]
    figure = learning_curves.draw_comparison(comparison_report.panels(sections(*paths)))
    colours = {
        text.get_text(): handle.get_color()
        for axis in figure.axes
        for text, handle in zip(
            axis.get_legend().get_texts(), axis.get_legend().legend_handles, strict=True
        )
    }
    assert colours["a_rnn"] == colours["b_rnn"] and colours["a_vrnn"] == colours["b_vrnn"]
    others = ("a_rnn", "a_vrnn", "a_rnn_autoregressive", "b_rnn_small")
    assert len({colours[name] for name in others}) == 4


def test_fifteen_groups_look_different() -> None:
    rows = [{"epoch": 1.0, "step": 1.0, "train_elbo": -3.0, "validation_elbo": -4.0}]
    curves = [learning_curves.Curves(str(i), [rows], str(i)) for i in range(15)]
    figure = learning_curves.draw_comparison([learning_curves.Panel("", curves, ["step"])])
    handles = figure.axes[0].get_legend().legend_handles
    assert len({(line.get_color(), line.get_marker()) for line in handles[:15]}) == 15


def test_bounds_that_are_not_finite_are_not_drawn(tmp_path: Path) -> None:
    bounds = [-9.0, float("nan"), -8.0, float("-inf")]
    rows = [
        {"epoch": i, "step": 10 * i, "train_elbo": bound, "validation_elbo": bound}
        for i, bound in enumerate(bounds)
    ]
    panel = learning_curves.Panel("", [learning_curves.Curves("a", [rows], "a")], ["step"])
    figure = learning_curves.draw_comparison([panel])
    assert list(figure.axes[0].get_lines()[1].get_ydata()) == [-9.0, -8.0]
    picture = learning_curves.save_curves(tmp_path / "new" / "curves.png", rows)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bounds_of_a_step_where_they_are_known_as_pieces_are_shorter_than_sequences() -> None:
    row = {"epoch": 1.0, "step": 1.0, "train_elbo": -3.0, "validation_elbo": -40.0}
    per_step = {"train_nats_per_step": -0.3, "validation_nats_per_step": -0.4}

    def drawn(*histories: list[dict[str, float]]) -> tuple[str, list[float]]:
        curves = [learning_curves.Curves(str(i), [one], str(i)) for i, one in enumerate(histories)]
        figure = learning_curves.draw_comparison([learning_curves.Panel("", curves, ["step"])])
        (axis,) = figure.axes
        lines = axis.get_lines()[:2]
        return axis.get_ylabel(), [float(line.get_ydata()[0]) for line in lines]

    assert drawn([row | per_step]) == ("elbo, nats per step", [-0.3, -0.4])
    assert drawn([row | per_step], [row]) == ("elbo, nats per sequence", [-3.0, -40.0])
