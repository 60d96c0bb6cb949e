"""What a trained model makes: samples, reconstructions, completions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import Split
from zforcing_tf.sequence_model import SequenceModel


class Row(NamedTuple):
    """Sequences of one origin."""

    name: str
    """Identifier, for arrays."""
    title: str
    """For people."""
    x: npt.NDArray[Any]
    """[n, T, D]; symbols [n, T]; probabilities of symbols [n, T, V]."""
    lengths: npt.NDArray[np.int32]
    given: int = 0
    """Steps at the start that are real and were given to the model."""


def gallery(
    model: SequenceModel,
    split: Split,
    num_sequences: int,
    num_steps: int,
    temperature: float,
    seed: int,
    num_particles: int = 1,
) -> list[Row]:
    """Real sequences, reconstructions, samples at two temperatures, and completions.

    A completion is given the first half of a real sequence (of the shortest shown, if lengths
    differ): its latents are drawn from the posterior given that half alone, or by a particle
    filter, then the model goes on by itself.

    Args:
        model: trained.
        split: where real sequences come from.
        num_sequences: n, sequences in a row; fewer if the split has fewer.
        num_steps: T of the samples.
        temperature: of the second row of samples.
        seed: of the noise, and of the choice of real sequences.
        num_particles: of the filter over what is given to a completion; 1: none.
    """
    count = min(num_sequences, split.num_sequences)
    index = np.random.default_rng(seed).choice(split.num_sequences, count, replace=False)
    x, lengths = split.padded(np.sort(index))
    rows = [Row("real", "real", x, lengths)]
    if model.cell.latent_size:
        means = model.reconstruct(x, lengths, seed).numpy()
        rows.append(Row("reconstructions", "reconstructed through the latents", means, lengths))
    full = np.full(count, num_steps, np.int32)
    for name, value in (("samples", 1.0), ("samples_cool", temperature)):
        samples = model.generate(num_steps, count, seed, value).numpy()
        rows.append(Row(name, f"samples, temperature {value:g}", samples, full))
    half = int(lengths.min()) // 2
    if half:
        prefix, rest = x[:, :half], int(lengths.max()) - half
        completed = model.generate(
            rest, seed=seed, prefix=prefix, num_particles=num_particles
        ).numpy()
        whole = np.concatenate([prefix, completed], axis=1)
        every = np.full(count, whole.shape[1], np.int32)
        share = "first half" if (lengths == lengths.max()).all() else f"first {half} steps"
        title = f"{share} given, rest by the model"
        rows.append(Row("completions", title, whole, every, half))
    return rows
