"""Bounds of a trained model on a split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf import tables
from zforcing_tf.data.pipeline import evaluation_starts
from zforcing_tf.data.spec import Dataset, DataSpec, Split
from zforcing_tf.errors import UserError
from zforcing_tf.metrics import ActiveUnits, bits_per_dim
from zforcing_tf.randomness import SAMPLE_STEP
from zforcing_tf.resampling import DEFAULT, Resampling
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.tables import MACRO, WHOLE, perplexity
from zforcing_tf.training.distribution import ALONE, Team

_NUMBERS_AT_ONCE = 2**28
"""In the largest arrays of what is scored at once: 1 GiB in float32."""


def frames_at_once(model: SequenceModel) -> int:
    """Frames of a batch to score, at most: few of wide layers, that long recordings may fit."""
    widest = max(max(variable.shape, default=1) for variable in model.trainable_variables)
    return max(1, _NUMBERS_AT_ONCE // widest)


def evaluate(
    model: SequenceModel,
    spec: DataSpec,
    split: Split,
    batch_size: int,
    num_samples: int = 1,
    seed: int = 0,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Scores every sequence of a split.

    The noise of a sequence depends on (seed, its index in the split, number of the sample) alone:
    neither batch size nor device changes a result.

    Args:
        model: trained.
        spec: of the data.
        split: to be scored.
        batch_size: sequences at once, at most: fewer of those of many frames.
        num_samples: the bound is the mean of as many one-sample bounds.
        seed: of the noise; that of the model gives the number of `model.evaluate`.
        team: whose workers share out the sequences; each gets the results of all.

    Returns:
        Numbers by name: `elbo` nats per sequence with its standard error over sequences,
        `nats_per_step` (sum over sequences by sum of their steps), `nats_per_step_macro` (mean
        over sequences of what each has a step), `kl_per_step`, `active_units`, and by the kind of
        data `bits_per_dim` or `perplexity`. Where the sequences are pieces of longer ones, also
        `elbo_whole`, the sum over the pieces of each, in the mean over these.
    """
    active_units = ActiveUnits()
    scored, steps = scored_steps(model, split)
    elbo, kl = np.zeros(len(scored)), 0.0
    own = team.share(len(scored))
    for places in _batches(model, split.lengths[scored], own, batch_size):
        index = scored[places]
        x, lengths = split.padded(index)
        per_sample = []
        for sample in range(num_samples):
            seeds = seeds_by_index(seed, sample, index)
            if sample == 0 and model.cell.latent_size:
                scores, latents = model.score_and_encode(x, lengths, seeds)
                active_units.update(latents.loc.numpy(), steps[places])
            else:
                scores = model.score(x, lengths, seeds)
            per_sample.append(scores.elbo.numpy())
            kl += float(np.sum(scores.kl_per_step)) / num_samples
        elbo[places] = np.mean(per_sample, axis=0)
    elbo, kl = team.sum(elbo), float(team.sum(np.array(kl)))
    if model.cell.latent_size:
        active_units.gather(team.sum, int(split.lengths.max()), model.cell.latent_size)
    total, num_steps = float(elbo.sum()), int(steps.sum())
    results: dict[str, Any] = {
        "num_sequences": len(scored),
        "num_samples": num_samples,
        "seed": seed,
        **_bound("elbo", elbo, split, scored),
        **_per_step(elbo, steps),
        "kl_per_step": kl / num_steps,
    }
    if spec.kind == "symbol":
        results["perplexity"] = perplexity(total / num_steps)
    else:
        results["bits_per_dim"] = bits_per_dim(total, num_steps, spec.frame_size)
    if model.cell.latent_size:
        results["active_units"] = active_units.result()
    return results


def tighter_bounds(
    model: SequenceModel,
    split: Split,
    batch_size: int,
    bounds: Sequence[str],
    num_samples: int,
    seed: int = 0,
    resampling: Resampling = DEFAULT,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Bounds of several samples of every sequence of a split.

    The noise depends on the same as that of `evaluate`. Of a model without a latent each bound is
    its likelihood.

    Args:
        model: trained.
        split: to be scored.
        batch_size: samples at once, over all sequences. A particle filter holds at least all
            particles of one sequence.
        bounds: names, of `iwae` and `fivo`.
        num_samples: K of iwae, particles of fivo.
        seed: of the noise.
        resampling: of fivo.
        team: as of `evaluate`.

    Returns:
        For each bound `<name>`, nats per sequence, `<name>_standard_error` over sequences,
        `<name>_num_samples`, and as of `evaluate` `<name>_nats_per_step`,
        `<name>_nats_per_step_macro`, and of pieces `<name>_whole`.
    """
    rows = max(1, batch_size // num_samples) if model.cell.latent_size else batch_size
    scored, steps = scored_steps(model, split)
    found = {name: np.zeros(len(scored)) for name in bounds}
    own = team.share(len(scored))
    for places in _batches(model, split.lengths[scored], own, rows):
        index = scored[places]
        x, lengths = split.padded(index)
        seeds = seeds_by_index(seed, 0, index)
        for name, values in found.items():
            if not model.cell.latent_size:
                values[places] = model.score(x, lengths, seeds).elbo.numpy()
            elif name == "iwae":
                values[places] = model.iwae(x, lengths, num_samples, seeds, batch_size).numpy()
            else:
                values[places] = model.fivo(x, lengths, num_samples, seeds, resampling).numpy()
    results: dict[str, Any] = {}
    for name, values in found.items():
        results |= {
            **_bound(name, bound := team.sum(values), split, scored),
            f"{name}_num_samples": num_samples,
            **{f"{name}_{key}": value for key, value in _per_step(bound, steps).items()},
        }
    return results


def protocol(chunk_length: int, score_first_frame: bool) -> str:
    """What is scored, in words: numbers of different protocols are not compared.

    Args:
        chunk_length: steps of the pieces that are scored each by itself; 0: whole sequences.
        score_first_frame: or whether it is only given.
    """
    pieces = f"chunks of {chunk_length}" if chunk_length else "whole sequences"
    return pieces + ("" if score_first_frame else ", first frames not scored")


def with_other_bounds(
    known: Mapping[str, Any], name: str, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Numbers, and what else is known of the same weights under that name."""
    earlier = known.get(name, {})
    same = all(earlier.get(key) == numbers[key] for key in ("step", "checkpoint"))
    return {**earlier, **numbers} if same else dict(numbers)


def _bound(
    name: str, bound: npt.NDArray[np.float64], split: Split, scored: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Of the sequences `scored` of a split; and of what they are pieces of, if they are pieces.

    Pieces that are scored each by itself are summed over a recording by the released evaluation of
    Z-Forcing on TIMIT (`eval_timit.py` of sordonia/zforcing).
    """
    found = _mean_and_error(name, bound)
    if split.wholes is not None:
        _, place = np.unique(split.wholes[scored], return_inverse=True)
        found |= _mean_and_error(name + WHOLE, np.bincount(place, bound).astype(np.float64))
    return found


def _mean_and_error(name: str, bound: npt.NDArray[np.float64]) -> dict[str, float]:
    error = float(bound.std(ddof=1) / len(bound) ** 0.5) if len(bound) > 1 else 0.0
    return {name: float(bound.mean()), f"{name}_standard_error": error}


def _per_step(bound: npt.NDArray[np.float64], steps: npt.NDArray[np.int32]) -> dict[str, float]:
    """Of bounds [N] of sequences of so many steps: over all steps, and the mean over sequences."""
    return {
        "nats_per_step": float(bound.sum() / steps.sum()),
        MACRO: float(np.mean(bound / steps)),
    }


def scored_steps(
    model: SequenceModel, split: Split
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Indices of the sequences that have any step to score, and how many steps each of them has.

    By length, so that little is padded where batches are made of neighbours.
    Where the first frame is given to the model, it is none of them.

    Raises:
        UserError: no sequence has any.
    """
    steps = split.lengths - np.int32(model.first_frame_given)
    order = np.argsort(split.lengths, kind="stable")
    index = order[steps[order] > 0]
    if not len(index):
        raise UserError(
            f"no sequence of the {split.name} data has a second frame, and the first is only given "
            "to the model: there is nothing to score"
        )
    return index, steps[index]


def _batches(
    model: SequenceModel,
    lengths: npt.NDArray[np.int32],
    places: npt.NDArray[np.int64],
    batch_size: int,
) -> Iterator[npt.NDArray[np.int64]]:
    """Places among sequences of ascending lengths, as many at once as may be."""
    starts = evaluation_starts(lengths[places], batch_size, frames_at_once(model))
    for first, end in itertools.pairwise(starts.tolist()):
        yield places[first:end]


def seeds_by_index(seed: int, sample: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """[B, 2] of sequences by their index; of sample 0 those of `SequenceModel.test_step`."""
    first = np.full_like(index, seed + sample * SAMPLE_STEP)
    return np.stack([first, index], axis=1).astype(np.int32)  # goes round beyond 32 bits


def table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Results of runs as a readable table.

    The mean over sequences of nats per step is shown if it differs from that over all steps:
    between sequences of the same length it does not.

    Args:
        rows: name of each row and `evaluate`'s numbers, which may also hold `parameters` and
            `seconds`.
    """
    numbers = [
        tables.Column(name, title, [row.get(name) for _, row in rows])
        for name, title in tables.TITLES.items()
        if name != MACRO or any(_differs(row) for _, row in rows)
    ]
    # Bounds of different numbers of samples are different quantities: a column each.
    for bound, count in _tighter(rows):
        values = [_of(row, bound, count, bound) for _, row in rows]
        numbers.insert(2, tables.Column(f"{bound}-{count}", f"{bound}-{count}", values))
    labels = tables.Column("run", "", [label for label, _ in rows])
    return tables.as_text([labels, *tables.filled(numbers)])


def table_per_step(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Every bound a step, of pieces by sequence, of symbols as perplexity; empty if only the elbo.

    Args:
        rows: as of `table`, with the numbers of `tighter_bounds`.
    """
    tighter = _tighter(rows)
    if not tighter:
        return ""
    columns = [tables.Column("run", "", [label for label, _ in rows])]
    known = [_with_perplexities(row) for _, row in rows]
    names = {"nats/step": "nats_per_step"}
    if any(_differs(row) for row in known):
        names["macro"] = MACRO
    if any(f"elbo{WHOLE}" in row for row in known):
        names["whole"] = WHOLE
    if any("perplexity" in row for row in known):
        names["perplexity"] = "perplexity"
    for title, name in names.items():
        for bound, count in [("elbo", 0), *reversed(tighter)]:
            of_bound = f"{bound}-{count}" if count else bound
            key = bound + WHOLE if name == WHOLE else tables.of_bound(bound, name)
            values = [_of(row, bound, count, key) for row in known]
            columns.append(tables.Column(of_bound, f"{of_bound} {title}", values))
    return tables.as_text(columns)


def _with_perplexities(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of symbols, with the perplexity by each bound."""
    if "perplexity" not in row:
        return row
    ends = "_nats_per_step"
    more = {k: v for k, v in row.items() if k.endswith(ends) and v is not None}
    return {**row, **{f"{k.removesuffix(ends)}_perplexity": perplexity(v) for k, v in more.items()}}


def _tighter(rows: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, int]]:
    """Which bounds of how many samples any row has."""
    return sorted(
        {
            (bound, row[f"{bound}_num_samples"])
            for _, row in rows
            for bound in ("iwae", "fivo")
            if bound in row
        }
    )


def _of(row: Mapping[str, Any], bound: str, count: int, key: str) -> float | None:
    """A number of a bound, if it is of so many samples; 0: of the elbo, of any number."""
    if count and row.get(f"{bound}_num_samples") != count:
        return None
    return row.get(key)


def _differs(row: Mapping[str, Any]) -> bool:
    macro = row.get(MACRO)
    return macro is not None and not math.isclose(macro, row["nats_per_step"], rel_tol=1e-6)


def skipped_records(dataset: Dataset) -> dict[str, int]:
    """How many records were left out of a dataset because they were bad, if any were."""
    return {"skipped_records": len(dataset.skipped)} if dataset.skipped else {}
