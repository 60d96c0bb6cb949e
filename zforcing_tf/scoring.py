"""Bounds of a trained model on a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.metrics import ActiveUnits, bits_per_dim
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
        seed: of the noise; that of the model gives the number of `model.evaluate`.

    Returns:
        Numbers by name: `elbo` nats per sequence with its standard error over sequences,
        `nats_per_step`, `kl_per_step`, `active_units`, and by the kind of data `bits_per_dim` or
        `perplexity`.
    """
    elbos, kls, active_units = [], [], ActiveUnits()
    for start in range(0, split.num_sequences, batch_size):
        index = np.arange(start, min(start + batch_size, split.num_sequences))
        x, lengths = split.padded(index)
        per_sample = []
        for sample in range(num_samples):
            scores = model.score(x, lengths, _seeds(seed, sample, index))
            per_sample.append(scores.elbo.numpy())
            kls.append(float(np.sum(scores.kl_per_step)) / num_samples)
        elbos.append(np.mean(per_sample, axis=0))
        if model.cell.latent_size:
            latents = model.encode(x, lengths, _seeds(seed, 0, index))
            active_units.update(latents.loc.numpy(), lengths)
    elbo = np.concatenate(elbos).astype(np.float64)
    total = float(elbo.sum())
    results: dict[str, Any] = {
        "num_sequences": split.num_sequences,
        "num_samples": num_samples,
        "seed": seed,
        "elbo": float(elbo.mean()),
        "elbo_standard_error": float(elbo.std(ddof=1) / len(elbo) ** 0.5) if len(elbo) > 1 else 0.0,
        "nats_per_step": total / split.num_frames,
        "kl_per_step": sum(kls) / split.num_frames,
    }
    if spec.kind == "symbol":
        results["perplexity"] = float(np.exp(-total / split.num_frames))
    else:
        results["bits_per_dim"] = bits_per_dim(total, split.num_frames, spec.frame_size)
    if model.cell.latent_size:
        results["active_units"] = active_units.result()
    return results


def _seeds(seed: int, sample: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """[B, 2] of sequences by their index; of sample 0 those of `SequenceModel.test_step`."""
    first = np.full_like(index, seed + sample * 1_000_003)
    return np.stack([first, index], axis=1).astype(np.int32)  # goes round beyond 32 bits


def table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Results of runs as a readable table.

    Args:
        rows: name of each row and `evaluate`'s numbers, which may also hold `parameters` and
            `seconds`.
    """
    columns = {
        "elbo": "nats/sequence",
        "elbo_standard_error": "+-",
        "nats_per_step": "nats/step",
        "bits_per_dim": "bits/dim",
        "perplexity": "perplexity",
        "kl_per_step": "KL/step",
        "active_units": "active units",
        "parameters": "parameters",
        "seconds": "seconds",
    }
    shown = {name: title for name, title in columns.items() if any(name in row for _, row in rows)}
    lines = [["", *shown.values()]]
    lines += [[label, *(_cell(row.get(name)) for name in shown)] for label, row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
