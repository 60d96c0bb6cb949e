"""Which emission a configuration gives a model, and that each new one does all that models do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tests import model_factory as factory
from tests.conformance.cases import SEEDS, tensors
from tests.slowly import slow_unless
from zforcing_tf import models
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.errors import UserError
from zforcing_tf.scoring import evaluate

NEW = pytest.mark.parametrize(
    ("emission", "autoregressive"),
    [
        slow_unless(True, "discretised_logistic_mixture", False),
        slow_unless(False, "discretised_logistic_mixture", True),
        slow_unless(True, "bernoulli", True),
        slow_unless(False, "gaussian", True),
        slow_unless(True, "gaussian_mixture", True),
    ],
)


AIDS_NEED = (
    "above 0 need a latent and a backward network for it to predict, which {} lacks: leave them at "
    "0, or take --model=zforcing with a latent"
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "rnn", "backward_weight_start": 0.1, "backward_weight_end": 0.1},
            "--backward_weight_start and --backward_weight_end " + AIDS_NEED.format("--model=rnn"),
        ),
        (
            {"model": "srnn", "auxiliary_weight_end": 0.1, "auxiliary_weight_step": 0.1},
            "--auxiliary_weight_start and --auxiliary_weight_end "
            + AIDS_NEED.format("--model=srnn"),
        ),
        (
            {"latent_size": 0, **factory.AIDED},
            "--auxiliary_weight_start and --auxiliary_weight_end "
            + AIDS_NEED.format("--latent_size=0"),
        ),
        (
            {"model": "srnn", "condition": "layer_norm"},
            "--condition=layer_norm needs a core that the latent enters, which --model=srnn lacks: "
            "leave --condition=concat",
        ),
        (
            {"model": "storn", "posterior_window": 7},
            "--posterior_window=7 needs a latent and a network that runs backward, which "
            "--model=storn lacks: leave it at 0, or take one of srnn, zforcing with a latent",
        ),
        (
            {"latent_size": 0, "posterior_window": 7},
            "--posterior_window=7 needs a latent and a network that runs backward, which "
            "--latent_size=0 lacks: leave it at 0, or take one of srnn, zforcing with a latent",
        ),
    ],
)
def test_settings_that_the_model_has_no_use_for(settings, message):
    with pytest.raises(UserError) as caught:
        models.build(factory.experiment(**settings), factory.spec())
    assert str(caught.value) == message


@pytest.mark.parametrize("emission", ["auto", "categorical"])
def test_symbols_have_no_autoregressive_emission(emission):
    config = factory.experiment(emission, autoregressive_emission=True)
    with pytest.raises(UserError) as caught:
        models.build(config, factory.spec("categorical"))
    assert str(caught.value) == (
        "--autoregressive_emission needs frames of several numbers, and a frame of "
        "--dataset=small is one symbol: leave it out"
    )


def test_a_discretised_emission_is_none_of_symbols():
    with pytest.raises(UserError, match="--emission=discretised_logistic_mixture does not fit"):
        models.build(
            factory.experiment("discretised_logistic_mixture"), factory.spec("categorical")
        )


def test_settings_reach_the_emission_and_not_the_backward_one():
    model = factory.build(
        "discretised_logistic_mixture",
        sample_bits=5,
        autoregressive_emission=True,
        autoregressive_hidden_size=7,
        **factory.AIDED,
    )
    assert model.emission.family.sample_bits == 5
    assert model.emission.family.components == 3
    assert model.emission.network.hidden_size == 7
    assert model.backward_emission.family.sample_bits == 5
    assert not model.backward_emission.autoregressive


@NEW
def test_trains_scores_generates_and_reconstructs(emission, autoregressive):
    own = {"autoregressive_emission": autoregressive, "autoregressive_hidden_size": 4}
    own = own if autoregressive else {}
    model = factory.trainable(emission, learning_rate=0.02, **own)
    batch = factory.batch(emission)
    step = tf.function(model.train_step, autograph=False)
    first, *_, last = (float(step(tensors(batch))["loss"]) for _ in range(20))
    assert np.isfinite(first) and last < first
    before = model.score(**batch, seed=SEEDS)
    assert np.isfinite(before.elbo).all()
    low, high = model.emission.family.limits
    x = model.generate(6, seed=SEEDS)
    mean = model.reconstruct(**batch)
    assert x.shape == (3, 6, 3) and mean.shape == (3, 5, 3)
    for frames in (x, mean, model.generate(2, seed=SEEDS, prefix=batch["x"])):
        assert (frames.numpy() >= low).all() and (frames.numpy() <= high).all()
    model.score(x)  # what it generates it can read
    again = type(model).from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.score(**batch, seed=SEEDS).elbo, before.elbo)


def test_generated_frames_have_the_probability_of_their_score():
    """Of an rnn, `generate` and `score` are one distribution: frequencies of all 64 sequences of
    two frames of three bits, 20,000 draws, by chi-square within 5 standard deviations.
    """
    model = factory.build("bernoulli", model="rnn", **factory.VARIANTS["autoregressive"])
    bits = np.stack(np.meshgrid(*[[0.0, 1.0]] * 6, indexing="ij"), -1).reshape(64, 2, 3)
    expected = np.exp(model.score(bits).elbo.numpy().astype(np.float64))
    np.testing.assert_allclose(expected.sum(), 1.0, rtol=1e-5)
    drawn = model.generate(2, 20_000, seed=1).numpy().reshape(-1, 6).astype(int)
    counts = np.bincount(drawn @ 2 ** np.arange(6)[::-1], minlength=64)
    statistic = (np.square(counts - 20_000 * expected) / (20_000 * expected)).sum()
    assert statistic < 64 + 5 * np.sqrt(2 * 64)


def test_bits_per_dim_of_levels_are_bits_per_sample():
    """With a location and a scale that depend on nothing they are the entropy's estimate: mean of
    -log2 P over all samples, by the logistic's cumulative distribution.
    """
    bits, rows, steps = 8, 50, 4
    config = ExperimentConfig.from_json(
        {
            "model": {
                "model": "rnn",
                "emission": "discretised_logistic_mixture",
                "sample_bits": bits,
                "mixture_components": 1,
            }
        }
    )
    spec = DataSpec("mine", "real", 2, steps)
    model = models.build(config, spec)
    for variable in model.emission.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    level = np.random.default_rng(0).integers(0, 2**bits, (rows * steps, 2))
    x = (2 * level / (2**bits - 1) - 1).astype(np.float32)
    split = Split("test", x, np.full(rows, steps, np.int32))
    found = evaluate(model, spec, split, batch_size=20)
    # At zero parameters: location 0, scale 1/2 but for the softened floor under it.
    floor = 0.25 / (2**bits - 1)
    scale = floor * (1 + 0.5 / floor)
    edges = np.concatenate(
        [[-np.inf], (np.arange(1, 2**bits) - 0.5) * 2 / (2**bits - 1) - 1, [np.inf]]
    )
    probability = np.diff(scipy.special.expit(edges / scale))
    assert found["bits_per_dim"] == pytest.approx(-np.log2(probability)[level].mean(), rel=1e-5)
    assert found["nats_per_step"] == pytest.approx(-2 * np.log(2) * found["bits_per_dim"], rel=1e-9)
