"""The dataset `linear_gaussian`: sequences whose likelihood is known exactly.

    z[1] ~ N(0, initial_scale^2 I)
    z[t] ~ N(transition z[t-1], transition_scale^2 I)
    x[t] ~ N(emission z[t], emission_scale^2 I)

A bound of a trained model can be no better, on average, than `default_model().log_likelihood`.
Generated in memory from fixed seeds; `--data_dir` and `--rows_per_step` have no effect.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from zforcing_tf.config import DataConfig
from zforcing_tf.data.spec import Dataset, DataSpec, Split

_LENGTHS = (10, 30)
_SIZES = {"train": 1000, "validation": 200, "test": 200}


@dataclasses.dataclass(frozen=True, eq=False)
class LinearGaussian:
    """A linear-Gaussian state-space model with K latent and D observed dimensions.

    Attributes:
      transition: `[K, K]`.
      transition_scale: standard deviation of the transition noise.
      emission: `[D, K]`.
      emission_scale: standard deviation of the emission noise, above 0.
      initial_scale: standard deviation of the first latent.
    """

    transition: npt.NDArray[np.float64]
    transition_scale: float
    emission: npt.NDArray[np.float64]
    emission_scale: float
    initial_scale: float

    @property
    def latent_size(self) -> int:
        """K."""
        return int(self.emission.shape[1])

    @property
    def frame_size(self) -> int:
        """D."""
        return int(self.emission.shape[0])

    def sample(
        self, num_sequences: int, lengths: tuple[int, int], seed: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Draws sequences, the same ones for the same arguments with any version of numpy.

        Args:
          num_sequences: N.
          lengths: the shortest and the longest length, both included; drawn uniformly.
          seed: at least 0.

        Returns:
          x `[N, T, D] float32` with zeros after the end of a sequence, and lengths `[N] int32`.
        """
        random = np.random.RandomState(seed)
        drawn = random.randint(lengths[0], lengths[1] + 1, num_sequences).astype(np.int32)
        num_steps = int(drawn.max())
        x = np.zeros((num_sequences, num_steps, self.frame_size), np.float32)
        latent = self.initial_scale * random.standard_normal((num_sequences, self.latent_size))
        for t in range(num_steps):
            if t:
                noise = random.standard_normal(latent.shape)
                latent = latent @ self.transition.T + self.transition_scale * noise
            noise = random.standard_normal((num_sequences, self.frame_size))
            x[:, t] = latent @ self.emission.T + self.emission_scale * noise
        x[np.arange(num_steps) >= drawn[:, None]] = 0
        return x, drawn

    def log_likelihood(
        self, x: npt.NDArray[np.floating], lengths: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float64]:
        """Exact log p(x) by a Kalman filter in float64.

        The covariances do not depend on the data, so all sequences share one recursion.

        Args:
          x: `[N, T, D]`; what the padding holds does not matter.
          lengths: `[N] int`.

        Returns:
          `[N] float64`, nats per sequence.
        """
        mask = np.arange(x.shape[1]) < lengths[:, None]
        frames = np.where(mask[..., None], x, 0.0).astype(np.float64)
        loc = np.zeros((len(frames), self.latent_size))
        covariance = self.initial_scale**2 * np.eye(self.latent_size)
        total = np.zeros(len(frames))
        for t in range(frames.shape[1]):
            if t:
                loc = loc @ self.transition.T
                covariance = self.transition @ covariance @ self.transition.T
                covariance += self.transition_scale**2 * np.eye(self.latent_size)
            innovation = frames[:, t] - loc @ self.emission.T
            spread = self.emission @ covariance @ self.emission.T
            spread += self.emission_scale**2 * np.eye(self.frame_size)
            whitened = np.linalg.solve(spread, innovation.T).T
            distance = np.sum(innovation * whitened, axis=1)
            log_det = np.linalg.slogdet(2 * math.pi * spread)[1]
            total += np.where(mask[:, t], -0.5 * (distance + log_det), 0.0)
            loc = loc + whitened @ self.emission @ covariance
            gain = np.linalg.solve(spread, self.emission @ covariance).T
            covariance = covariance - gain @ self.emission @ covariance
        return total


def default_model() -> LinearGaussian:
    """The model behind the dataset: a slow, damped rotation seen through three numbers."""
    angle = 2 * math.pi / 16
    rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return LinearGaussian(
        transition=0.95 * np.array(rotation),
        transition_scale=0.3,
        emission=np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5]]),
        emission_scale=0.2,
        initial_scale=1.0,
    )


def load(config: DataConfig) -> Dataset:
    """1,000 / 200 / 200 sequences of 10 to 30 steps of 3 real numbers."""
    del config  # nothing of it concerns this dataset
    model = default_model()
    splits = [
        Split.from_padded(name, *model.sample(size, _LENGTHS, seed))
        for seed, (name, size) in enumerate(_SIZES.items())
    ]
    longest = max(int(split.lengths.max()) for split in splits)
    return Dataset(
        DataSpec("linear_gaussian", "real", model.frame_size, longest),
        splits[0],
        splits[1],
        splits[2],
    )
