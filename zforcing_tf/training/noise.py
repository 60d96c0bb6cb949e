"""The noise of one update: a function of (seed, update) and of the rows' place in all of them."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.objectives import Bound
from zforcing_tf.randomness import Rows, batch_noise
from zforcing_tf.sequences import Keep


class TrainingNoise(NamedTuple):
    """Standard normal noise of one update."""

    latent: tf.Tensor
    """[T, B K, Z]"""
    keep: Keep | None
    """Of dropout."""
    resampling: tf.Tensor | None
    """Of fivo, [T, B, .]."""

    def of_rows(self, start: tf.Tensor, end: tf.Tensor, count: int) -> TrainingNoise:
        """That of the sequences from `start` to before `end`, of `count` samples each."""
        return TrainingNoise(
            self.latent[:, start * count : end * count],
            self.keep and Keep(*(n[:, start:end] for n in self.keep)),
            None if self.resampling is None else self.resampling[:, start:end],
        )


def training_noise(
    cell: LatentCell,
    bound: Bound,
    dropout: float,
    seed: int,
    update: tf.Tensor,
    rows: Rows,
    num_steps: tf.Tensor,
) -> TrainingNoise:
    """Draws it.

    Args:
        cell: of the model; tells widths.
        bound: tells the number of samples.
        dropout: its rate.
        seed: of the run.
        update: number of the update, scalar int64.
        rows: the share of this replica in the global batch.
        num_steps: T.
    """
    fold = tf.random.experimental.stateless_fold_in
    own = fold(tf.constant([seed, 0], tf.int32), tf.cast(update, tf.int32))
    size, count = cell.latent_size, bound.num_samples
    latent = batch_noise(own, rows, num_steps, count * size)
    latent = tf.reshape(latent, (num_steps, rows.local * count, size))
    keep = resampling = None
    if dropout:
        widths = (cell.embedding.size, cell.feature_size)
        draws = (batch_noise(fold(own, i + 1), rows, num_steps, w) for i, w in enumerate(widths))
        keep = Keep(*draws)
    if bound.name == "fivo":
        width = bound.resampling.noise_size(count)
        resampling = batch_noise(fold(own, 3), rows, num_steps, width)
    return TrainingNoise(latent, keep, resampling)
