"""Diagnostics: on models whose numbers are known another way, and whatever the batches."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests import linear_gaussian_model
from tests import model_factory as factory
from tests.conformance.cases import each_part_slowly
from tests.slowly import slow_unless
from zforcing_tf import diagnostics, diagnostics_picture, free_running
from zforcing_tf.data.linear_gaussian import LinearGaussian
from zforcing_tf.data.spec import Split
from zforcing_tf.diagnostics import diagnose, table
from zforcing_tf.latent_use import latent_use
from zforcing_tf.mutual_information import mutual_information
from zforcing_tf.scoring import evaluate, seeds_by_index

LENGTHS = (5, 1, 3, 4, 2, 5, 3)


def split(emission="gaussian", lengths=LENGTHS, seed=0):
    values = factory.frames(emission, sum(lengths), seed=seed)
    return Split("test", values, np.array(lengths, np.int32))


def use_of(model, data, batch_size=3, seed=0):
    return latent_use(model, data, np.arange(data.num_sequences), batch_size, seed)


@each_part_slowly
def test_parts_of_the_kl_add_up_to_what_evaluate_finds(variant, emission):
    model = factory.build(emission, **factory.VARIANTS[variant])
    data = split(emission)
    found = diagnose(model, factory.spec(emission), data, batch_size=3, seed=4)
    expected = evaluate(model, factory.spec(emission), data, batch_size=7, seed=4)
    numbers, arrays = found
    # Both predict the first frame from the same state, and with the same latents.
    forced, own = arrays["teacher_forced_error"], arrays["free_running_error"]
    assert forced.shape == own.shape == arrays["constant_error"].shape == (2,)
    assert forced[0] == pytest.approx(own[0], rel=1e-5)
    assert numbers["nats_per_step"] == pytest.approx(expected["nats_per_step"], rel=1e-5)
    if variant == "rnn":
        assert not {"kl_per_step", "active_units", "mutual_information"} & numbers.keys()
        assert "kl_per_dimension" not in arrays
        return
    kl = pytest.approx(expected["kl_per_step"], rel=1e-5)
    assert numbers["kl_per_step"] == kl
    assert arrays["kl_per_dimension"].shape == (2,)
    assert arrays["kl_per_dimension"].sum() == kl
    counts = arrays["sequences_at_step"]
    assert counts.tolist() == [7, 6, 5, 3, 2]
    assert (arrays["kl_at_step"] * counts).sum() / counts.sum() == kl
    top = arrays["kl_per_dimension"].max() / numbers["kl_per_step"]
    assert numbers["kl_share_of_top_dimension"] == pytest.approx(top)
    assert numbers["dimensions_of_most_kl"] == (1 if top >= 0.9 else 2)
    assert numbers["active_units"] == expected["active_units"]
    x, lengths = data.padded(np.arange(7))
    latents = model.encode(x, lengths, seeds_by_index(4, 0, np.arange(7)))
    valid = np.arange(5) < lengths[:, None]
    information = mutual_information(*(values.numpy()[valid] for values in latents))
    assert numbers["mutual_information"] == pytest.approx(information, rel=1e-3, abs=1e-5)
    assert numbers["mutual_information_limit"] == math.log(sum(LENGTHS))


@pytest.mark.parametrize(
    "emission", [slow_unless(False, "gaussian"), slow_unless(True, "categorical")]
)
def test_no_number_depends_on_the_batch_size(emission):
    """Which sequences and positions are taken, neither."""
    model = factory.build(emission, **factory.VARIANTS["full"])
    data = split(emission)
    one, *others = (
        diagnose(model, factory.spec(emission), data, size, seed=1, num_sequences=6)
        for size in (1, 20, 100)
    )
    assert one.numbers["num_sequences"] == 6
    for other in others:
        assert other.numbers.keys() == one.numbers.keys()
        for name, value in one.numbers.items():
            number = isinstance(value, float)
            assert other.numbers[name] == (pytest.approx(value, rel=1e-4) if number else value)
        assert other.arrays.keys() == one.arrays.keys()
        for name, values in one.arrays.items():
            np.testing.assert_allclose(other.arrays[name], values, rtol=1e-4, atol=1e-6)


def test_positions_are_drawn_where_there_are_more(monkeypatch):
    """The same ones in any batches."""
    model = factory.build("gaussian", **factory.VARIANTS["vrnn"])
    everything = use_of(model, split(), 7)
    monkeypatch.setattr("zforcing_tf.latent_use.POSITIONS", 10)
    few, many = (use_of(model, split(), size) for size in (2, 7))
    assert (few.num_positions, many.num_positions, everything.num_positions) == (10, 10, 23)
    assert few.mutual_information == pytest.approx(many.mutual_information, rel=1e-4)
    assert few.mutual_information != pytest.approx(everything.mutual_information, rel=1e-2)


def test_latents_of_the_prior_cost_nothing_where_there_are_none():
    model = factory.build("gaussian", **factory.VARIANTS["rnn"])
    data = split()
    use = use_of(model, data)
    likelihood = model.score(*data.padded(np.arange(7))).elbo
    np.testing.assert_allclose(use.bound, likelihood, rtol=1e-6)
    np.testing.assert_allclose(use.prior_bound, likelihood, rtol=1e-6)


TRUTH = LinearGaussian(
    transition=np.array([[0.8, 0.3], [-0.3, 0.8]]),
    transition_scale=0.4,
    emission=np.array([[1.0, 0.2], [0.0, 1.0], [0.5, -0.5]]),
    emission_scale=0.7,
    initial_scale=1.0,
)


def test_latents_of_the_prior_against_the_exact_expectation():
    """E log p(x | z) over the prior's Gaussian z[t]; 2,000 sequences, 5 standard errors.

    One is 0.36 nats, of about 40.
    """
    x, lengths = TRUTH.sample(2000, (4, 6), seed=0)
    data = Split.from_padded("test", x, lengths)
    use = use_of(linear_gaussian_model.model(TRUTH), data, 500)
    covariance = TRUTH.initial_scale**2 * np.eye(2)
    exact = np.zeros(len(x))
    variance = TRUTH.emission_scale**2
    for t in range(x.shape[1]):
        # E |x - C z|^2 = |x|^2 + trace(C S C')
        spread = np.trace(TRUTH.emission @ covariance @ TRUTH.emission.T)
        squares = np.square(x[:, t]).sum(axis=1) + spread
        log_prob = -0.5 * (3 * np.log(2 * np.pi * variance) + squares / variance)
        exact += np.where(t < lengths, log_prob, 0.0)
        covariance = TRUTH.transition @ covariance @ TRUTH.transition.T
        covariance += TRUTH.transition_scale**2 * np.eye(2)
    difference = use.prior_bound - exact
    error = difference.std() / len(x) ** 0.5
    assert error < 0.4
    assert abs(difference.mean()) < 5 * error
    # These latents carry all that there is to know: without them much is lost.
    assert use.prior_bound.mean() < use.bound.mean() - 10


def without_weights(emission, variant):
    model = factory.build(emission, **factory.VARIANTS[variant])
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable.value))
    return model


def test_a_latent_that_says_nothing():
    model = without_weights("bernoulli", "zforcing")
    numbers, arrays = diagnose(model, factory.spec(), split("bernoulli"), 3)
    assert (numbers["kl_per_step"], numbers["active_units"]) == (0, 0)
    assert (numbers["kl_share_of_top_dimension"], numbers["dimensions_of_most_kl"]) == (None, 0)
    assert numbers["mutual_information"] == pytest.approx(0, abs=1e-10)
    bits = -factory.FRAME_SIZE * np.log(2)
    assert numbers["nats_per_step"] == pytest.approx(bits, rel=1e-6)
    assert numbers["nats_per_step_prior_latents"] == pytest.approx(bits, rel=1e-6)
    # It predicts a half for every pixel.
    np.testing.assert_array_equal(arrays["teacher_forced_error"], [0.25, 0.25])
    np.testing.assert_array_equal(arrays["free_running_error"], [0.25, 0.25])


def test_errors_of_symbols_are_shares_of_wrong_ones():
    """A model without weights finds symbol 0 as likely as any; the best constant is 2."""
    x = np.array([[1, 5, 2, 0], [0, 5, 2, 2], [3, 1, 2, 1], [4, 4, 0, 2]], np.int32)
    data = Split("test", x.reshape(-1), np.full(4, 4, np.int32))
    model = without_weights("categorical", "vrnn")
    numbers, arrays = diagnose(model, factory.spec("categorical"), data, 100)
    assert (numbers["given_steps"], numbers["predicted_steps"]) == (2, 2)
    assert numbers["error"] == "wrong_symbols"
    for name in ("teacher_forced_error", "free_running_error"):
        np.testing.assert_array_equal(arrays[name], [0.75, 0.75])
        assert numbers[name] == 0.75
    np.testing.assert_array_equal(arrays["constant_error"], [0.25, 0.5])


def test_sequences_of_half_the_lengths_are_predicted():
    """Of the median length 3 and more: 1 step given, 2 predicted, of 5 sequences."""
    data = split()
    model = factory.build("gaussian", **factory.VARIANTS["vrnn"])
    numbers, arrays = diagnose(model, factory.spec("gaussian"), data, 3)
    assert numbers["error_num_sequences"] == 5
    assert (numbers["given_steps"], numbers["predicted_steps"]) == (1, 2)
    x, lengths = data.padded(np.arange(7))
    frames = x[lengths >= 3, 1:3]
    expected = np.square(frames - frames.mean(axis=(0, 1))).mean(axis=(0, 2))
    np.testing.assert_allclose(arrays["constant_error"], expected, rtol=1e-6)
    for name in ("teacher_forced_error", "free_running_error", "constant_error"):
        assert numbers[name] == pytest.approx(arrays[name].mean())


@pytest.mark.parametrize("lengths", [LENGTHS, (3, 2, 2, 3)])
def test_a_first_frame_that_is_given_is_not_looked_into(lengths):
    """Also where nothing else is given to predictions: the state is then that before any step."""
    model = factory.build("gaussian", score_first_frame=False, **factory.VARIANTS["full"])
    data = split(lengths=lengths)
    numbers, arrays = diagnose(model, factory.spec("gaussian"), data, 3)
    expected = evaluate(model, factory.spec("gaussian"), data, 7)
    for name in ("num_sequences", "nats_per_step", "kl_per_step", "active_units"):
        assert numbers[name] == pytest.approx(expected[name], rel=1e-5), name
    assert len(arrays["kl_at_step"]) == max(lengths) - 1
    forced, own = arrays["teacher_forced_error"], arrays["free_running_error"]
    assert forced[0] == pytest.approx(own[0], rel=1e-5)


def test_single_frames_leave_nothing_to_predict():
    data = split(lengths=(1, 1, 2))
    model = factory.build("gaussian", **factory.VARIANTS["vrnn"])
    numbers, arrays = diagnose(model, factory.spec("gaussian"), data, 3)
    assert not {"given_steps", "free_running_error"} & numbers.keys()
    assert "free_running_error" not in arrays and "kl_at_step" in arrays


def errors_of(model, data, batch_size=100):
    return free_running.free_running(model, data, np.arange(data.num_sequences), batch_size, 0)


def test_errors_of_a_model_without_latents():
    """Its predictions are means that `reconstruct` gives, on true frames and on `generate`d ones.

    Sequences are longer than a window of time.
    """
    model = factory.build("gaussian", **factory.VARIANTS["rnn"])
    data = split(lengths=(100,) * 3)
    errors = errors_of(model, data, batch_size=8)
    x, _ = data.padded(np.arange(3))
    future = x[:, 50:]
    means = model.reconstruct(x).numpy()[:, 50:]
    expected = np.square(means - future).mean(axis=(0, 2))
    np.testing.assert_allclose(errors.teacher_forced, expected, rtol=1e-5)
    means = np.zeros_like(future)
    for path in range(free_running.PATHS):
        seeds = seeds_by_index(0, path, np.arange(3)) + [free_running._FOR_FUTURE, 0]
        drawn = model.generate(50, seed=seeds, prefix=x[:, :50]).numpy()
        whole = np.concatenate([x[:, :50], drawn], axis=1)
        means += model.reconstruct(whole).numpy()[:, 50:] / free_running.PATHS
    expected = np.square(means - future).mean(axis=(0, 2))
    np.testing.assert_allclose(errors.free_running, expected, rtol=1e-4)


def test_no_more_steps_are_predicted_than_asked_for(monkeypatch):
    monkeypatch.setattr(free_running, "LONGEST_HORIZON", 3)
    model = factory.build("gaussian", **factory.VARIANTS["rnn"])
    data = split(lengths=(20, 20))
    errors = errors_of(model, data)
    assert (errors.given_steps, len(errors.free_running)) == (10, 3)
    monkeypatch.undo()
    np.testing.assert_allclose(
        errors.teacher_forced, errors_of(model, data).teacher_forced[:3], rtol=1e-6
    )


def found_for(emission, variant):
    model = factory.build(emission, **factory.VARIANTS[variant])
    return diagnose(model, factory.spec(emission), split(emission), 100)


def test_the_picture_shows_the_numbers():
    found = found_for("gaussian", "full")
    figure = diagnostics_picture.draw("a run", found.numbers, found.arrays)
    dimensions, steps, errors, bounds = figure.axes
    assert figure.get_suptitle() == "a run"
    heights = [bar.get_height() for bar in dimensions.patches]
    assert heights == sorted(found.arrays["kl_per_dimension"], reverse=True)
    np.testing.assert_array_equal(steps.lines[0].get_ydata(), found.arrays["kl_at_step"])
    names = ("free_running_error", "teacher_forced_error", "constant_error")
    for line, name in zip(errors.lines, names, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), found.arrays[name])
    _, bound, prior = (bar.get_width() for bar in bounds.patches)
    assert bound == found.numbers["nats_per_step"]
    assert prior == found.numbers["nats_per_step_prior_latents"]


def test_the_picture_shows_what_there_is(tmp_path):
    found = found_for("categorical", "rnn")
    figure = diagnostics_picture.draw("a run", found.numbers, found.arrays)
    errors, bounds = figure.axes
    assert errors.get_ylabel() == "share of wrong symbols"
    assert len(bounds.patches) == 1
    picture, arrays = diagnostics.write(tmp_path / "samples", "a run", found)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with np.load(arrays) as written:
        assert sorted(written) == ["constant_error", "free_running_error", "teacher_forced_error"]


def test_a_picture_of_a_collapsed_run(tmp_path):
    """Nothing to scale an axis by, and warnings are errors."""
    model = without_weights("bernoulli", "zforcing")
    found = diagnose(model, factory.spec(), split("bernoulli", lengths=(1, 1)), 3)
    diagnostics_picture.save(tmp_path / "picture.png", "collapsed", *found)


def test_the_table():
    rows = [
        ("one", {"nats_per_step": -4.5, "nats_per_step_prior_latents": -6.25, "active_units": 3}),
        ("other", {"nats_per_step": -5.0, "nats_per_step_prior_latents": -5.0}),
    ]
    assert table(rows).splitlines() == [
        "       nats/step  with prior's z  active units",
        "one       -4.500          -6.250             3",
        "other     -5.000          -5.000             -",
    ]


def test_frames_of_large_vocabularies_go_in_shorter_windows(monkeypatch):
    """Which changes nothing."""
    model = factory.build("categorical", **factory.VARIANTS["vrnn"])
    data = split("categorical", lengths=(80,) * 2)
    expected = errors_of(model, data)
    monkeypatch.setattr(free_running, "_WIDE_PARAMETERS", 1)
    monkeypatch.setattr("zforcing_tf.windows.ROW_STEPS", 400)
    found = errors_of(model, data)
    np.testing.assert_allclose(found.free_running, expected.free_running, rtol=1e-6)
