"""The synthetic set and its exact likelihood."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from zforcing_tf.config import DataConfig
from zforcing_tf.data.linear_gaussian import LinearGaussian, default_model, load
from zforcing_tf.data.validation import validate

OTHER = LinearGaussian(
    transition=np.array([[0.5, 0.2, 0.0], [-0.3, 0.8, 0.1], [0.0, 0.4, -0.9]]),
    transition_scale=0.7,
    emission=np.array([[1.0, -2.0, 0.5], [0.3, 0.1, 0.0]]),
    emission_scale=0.4,
    initial_scale=1.5,
)


def joint_log_density(model: LinearGaussian, x: npt.NDArray[np.float64]) -> float:
    """log p(x) of one sequence `[T, D]` from the covariance of all its numbers, written out."""
    num_steps, latent_size = len(x), model.latent_size
    powers = [np.linalg.matrix_power(model.transition, t) for t in range(num_steps)]
    # z = (impulse responses) (independent noises), one block for each pair of steps.
    response = np.zeros((num_steps, latent_size, num_steps, latent_size))
    for t in range(num_steps):
        for source in range(t + 1):
            scale = model.transition_scale if source else model.initial_scale
            response[t, :, source] = powers[t - source] * scale
    flat_response = response.reshape(num_steps * latent_size, -1)
    emission = np.kron(np.eye(num_steps), model.emission)
    covariance = emission @ flat_response @ flat_response.T @ emission.T
    covariance += model.emission_scale**2 * np.eye(x.size)
    flat = x.reshape(-1)
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    return float(-0.5 * (flat @ np.linalg.solve(covariance, flat) + log_det))


@pytest.mark.parametrize("model", [default_model(), OTHER])
def test_filter_equals_joint_density(model: LinearGaussian) -> None:
    x, lengths = model.sample(20, (1, 6), seed=3)
    assert set(lengths) == {1, 2, 3, 4, 5, 6}
    expected = [
        joint_log_density(model, frames[:length].astype(np.float64))
        for frames, length in zip(x, lengths, strict=True)
    ]
    np.testing.assert_allclose(model.log_likelihood(x, lengths), expected, rtol=0, atol=1e-10)


def test_likelihood_of_one_number() -> None:
    one = np.eye(1)
    model = LinearGaussian(one, 1.0, one, 0.6, 0.8)
    x = np.array([[[1.5]]])
    expected = -0.5 * (1.5**2 + np.log(2 * np.pi))  # 0.6^2 + 0.8^2 = 1
    np.testing.assert_allclose(model.log_likelihood(x, np.array([1])), [expected], rtol=1e-14)


def test_likelihood_ignores_padding() -> None:
    model = default_model()
    x, lengths = model.sample(8, (2, 9), seed=1)
    expected = model.log_likelihood(x, lengths)
    longer = np.full((8, 14, 3), np.nan)
    for frames, padded, length in zip(x, longer, lengths, strict=True):
        padded[:length] = frames[:length]
    np.testing.assert_array_equal(model.log_likelihood(longer, lengths), expected)


def test_likelihood_does_not_depend_on_the_batch() -> None:
    model = default_model()
    x, lengths = model.sample(8, (2, 9), seed=1)
    alone = [model.log_likelihood(x[i : i + 1], lengths[i : i + 1])[0] for i in range(8)]
    np.testing.assert_allclose(model.log_likelihood(x, lengths), alone, rtol=1e-13)


def test_true_model_is_likeliest() -> None:
    """Mean over 200 sequences; the nearest of the wrong models is 0.7 nats per sequence worse."""
    model = default_model()
    x, lengths = model.sample(200, (10, 30), seed=5)
    best = model.log_likelihood(x, lengths).mean()
    for factor in (0.8, 1.25):
        for wrong in (
            LinearGaussian(model.transition * factor, 0.3, model.emission, 0.2, 1.0),
            LinearGaussian(model.transition, 0.3 * factor, model.emission, 0.2, 1.0),
            LinearGaussian(model.transition, 0.3, model.emission * factor, 0.2, 1.0),
            LinearGaussian(model.transition, 0.3, model.emission, 0.2 * factor, 1.0),
        ):
            assert wrong.log_likelihood(x, lengths).mean() < best - 0.5


def test_samples() -> None:
    model = default_model()
    x, lengths = model.sample(50, (4, 7), seed=0)
    assert x.shape == (50, 7, 3)
    assert x.dtype == np.float32
    assert lengths.dtype == np.int32
    assert (lengths.min(), lengths.max()) == (4, 7)
    padding = np.arange(7) >= lengths[:, None]
    assert not x[padding].any()
    assert x[~padding].all()
    again, _ = model.sample(50, (4, 7), seed=0)
    np.testing.assert_array_equal(again, x)
    other, _ = model.sample(50, (4, 7), seed=1)
    assert not np.array_equal(other, x)


def test_first_and_second_moment_of_samples() -> None:
    """100,000 sequences: standard errors are below 0.005 for means, 0.01 for covariances."""
    x, _ = OTHER.sample(100_000, (2, 2), seed=0)
    first = OTHER.initial_scale**2 * np.eye(3)
    second = OTHER.transition @ first @ OTHER.transition.T + OTHER.transition_scale**2 * np.eye(3)
    for t, latent_covariance in enumerate((first, second)):
        expected = OTHER.emission @ latent_covariance @ OTHER.emission.T + 0.4**2 * np.eye(2)
        np.testing.assert_allclose(x[:, t].mean(axis=0), 0, atol=0.06)
        np.testing.assert_allclose(np.cov(x[:, t].T), expected, rtol=0.03, atol=0.06)
    across = OTHER.emission @ OTHER.transition @ first @ OTHER.emission.T
    np.testing.assert_allclose(x[:, 1].T @ x[:, 0] / len(x), across, atol=0.12)


def test_dataset() -> None:
    dataset = load(DataConfig(dataset="linear_gaussian"))
    validate(dataset, 30)
    assert [split.num_sequences for split in dataset.splits] == [1000, 200, 200]
    assert (dataset.spec.kind, dataset.spec.frame_size) == ("real", 3)
    for split in dataset.splits:
        assert (split.lengths.min(), split.lengths.max()) == (10, 30)
    assert not np.array_equal(dataset.validation.values[:10], dataset.test.values[:10])
    again = load(DataConfig(dataset="linear_gaussian"))
    np.testing.assert_array_equal(again.train.values, dataset.train.values)
