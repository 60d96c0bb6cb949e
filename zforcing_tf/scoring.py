"""Bounds of a trained model on a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from zforcing_tf import tables
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.metrics import ACTIVE_VARIANCE, bits_per_dim
from zforcing_tf.sequence_model import SequenceModel


def evaluate(
    model: SequenceModel,
    spec: DataSpec,
    split: Split,
    batch_size: int,
    num_samples: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores every sequence of a split.

    The noise of a sequence depends on (seed, its index in the split, number of the sample) alone:
    neither batch size nor device changes a result.

    Args:
        model: trained.
        spec: of the data.
        split: to be scored.
        batch_size: sequences at once.
        num_samples: the bound is the mean of as many one-sample bounds.
        seed: of the noise.

    Returns:
        Numbers by name: `elbo` nats per sequence with its standard error over sequences,
        `nats_per_step`, `kl_per_step`, `active_units`, and by the kind of data `bits_per_dim` or
        `perplexity`.
    """
    elbos, kls, means = [], [], []
    for start in range(0, split.num_sequences, batch_size):
        index = np.arange(start, min(start + batch_size, split.num_sequences))
        x, lengths = split.padded(index)
        per_sample = []
        for sample in range(num_samples):
            seeds = np.stack([np.full_like(index, seed * 1_000_003 + sample), index], 1)
            scores = model.score(x, lengths, seeds.astype(np.int32))
            per_sample.append(scores.elbo.numpy())
            kls.append(float(np.sum(scores.kl_per_step)) / num_samples)
        elbos.append(np.mean(per_sample, axis=0))
        if model.cell.latent_size:
            loc = model.encode(x, lengths).loc.numpy()
            means.append(loc[np.arange(loc.shape[1]) < lengths[:, None]])
    elbo = np.concatenate(elbos).astype(np.float64)
    total = float(elbo.sum())
    results: dict[str, Any] = {
        "num_sequences": split.num_sequences,
        "num_samples": num_samples,
        "elbo": float(elbo.mean()),
        "elbo_standard_error": float(elbo.std(ddof=1) / len(elbo) ** 0.5) if len(elbo) > 1 else 0.0,
        "nats_per_step": total / split.num_frames,
        "kl_per_step": sum(kls) / split.num_frames,
    }
    if spec.kind == "symbol":
        results["perplexity"] = float(np.exp(-total / split.num_frames))
    else:
        results["bits_per_dim"] = bits_per_dim(total, split.num_frames, spec.frame_size)
    if means:
        variance = np.var(np.concatenate(means), axis=0)
        results["active_units"] = int(np.sum(variance > ACTIVE_VARIANCE))
    return results


def table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Results of runs as a readable table.

    Args:
        rows: name of each row and `evaluate`'s numbers, which may also hold `parameters` and
            `seconds`.
    """
    numbers = [
        tables.Column(name, title, [row.get(name) for _, row in rows])
        for name, title in tables.TITLES.items()
    ]
    labels = tables.Column("run", "", [label for label, _ in rows])
    return tables.as_text([labels, *tables.filled(numbers)])
