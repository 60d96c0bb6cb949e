"""Signs of collapse: latents that say nothing, and predictions that do not survive on their own.

| number                      | a latent that goes unused                                       |
| --------------------------- | --------------------------------------------------------------- |
| KL of each dimension        | 0; or all in a few dimensions                                   |
| active units                | 0: posterior means do not vary over data                        |
| mutual information          | 0: z says nothing of what the posterior saw                     |
| bound with prior's latents  | the bound itself: it makes no difference whether z is inferred  |

The KL bounds what z says of the data beyond the state that prior and posterior share; the mutual
information counts what z says of the state, too, and so may be above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf import diagnostics_picture, tables
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.free_running import PATHS, free_running
from zforcing_tf.latent_use import latent_use
from zforcing_tf.scoring import scored_steps
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.tables import Column
from zforcing_tf.training.writing import writing


class Diagnostics(NamedTuple):
    """What was found."""

    numbers: dict[str, Any]
    """For `results.json`, by name."""
    arrays: dict[str, npt.NDArray[Any]]
    """`kl_per_dimension` [Z] and `kl_at_step` [T], nats, `sequences_at_step` [T]; errors [H] of
    predictions 1 to H steps ahead: `teacher_forced_error`, `free_running_error`,
    `constant_error`."""


TITLES = {
    "nats_per_step": "nats/step",
    "nats_per_step_prior_latents": "with prior's z",
    "kl_per_step": "KL/step",
    "active_units": "active units",
    "kl_share_of_top_dimension": "top KL share",
    "mutual_information": "MI",
    "mutual_information_limit": "at most",
    "teacher_forced_error": "forced error",
    "free_running_error": "free error",
    "constant_error": "constant's",
}


EXPLANATION = """\
diagnostics; nats, and errors of predictions on true frames (forced), on frames of the model's own
(free), and of the best constant, which are means of squares, or shares of wrong symbols:"""


def diagnose(
    model: SequenceModel,
    spec: DataSpec,
    split: Split,
    batch_size: int,
    seed: int = 0,
    num_sequences: int = 256,
) -> Diagnostics:
    """Diagnoses a model on sequences of a split, drawn at random if there are more.

    No number depends on the batch size. Time is about that of `scoring.evaluate` three times over
    the sequences, and of `free_running.PATHS` samples of each.

    Args:
        model: trained.
        spec: of the data.
        split: whose sequences are taken.
        batch_size: sequences, or samples of them, at once.
        seed: of the noise, and of the choice of sequences.
        num_sequences: how many are taken, at most.
    """
    possible, _ = scored_steps(model, split)
    count = min(num_sequences, len(possible))
    index = np.sort(np.random.default_rng(seed).choice(possible, count, replace=False))
    use = latent_use(model, split, index, batch_size, seed)
    steps = use.num_steps.sum()
    numbers: dict[str, Any] = {
        "num_sequences": count,
        "seed": seed,
        "nats_per_step": float(use.bound.sum() / steps),
        "nats_per_step_prior_latents": float(use.prior_bound.sum() / steps),
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    if model.cell.latent_size:
        of_dimensions = np.sort(use.kl_per_dimension)[::-1]
        kl = float(of_dimensions.sum())
        numbers |= {
            "kl_per_step": kl,
            "latent_size": model.cell.latent_size,
            "active_units": use.active_units,
            # Shares of nothing are none.
            "kl_share_of_top_dimension": float(of_dimensions[0] / kl) if kl > 0 else None,
            "dimensions_of_most_kl": int(np.sum(np.cumsum(of_dimensions) < 0.9 * kl)) + (kl > 0),
            "mutual_information": use.mutual_information,
            "mutual_information_limit": math.log(use.num_positions),
        }
        arrays |= {
            "kl_per_dimension": use.kl_per_dimension,
            "kl_at_step": use.kl_at_step,
            "sequences_at_step": use.sequences_at_step,
        }
    errors = free_running(model, split, index, batch_size, seed)
    if errors is not None:
        named = {
            "teacher_forced_error": errors.teacher_forced,
            "free_running_error": errors.free_running,
            "constant_error": errors.constant,
        }
        numbers |= {
            "error": "wrong_symbols" if spec.kind == "symbol" else "squared_error",
            "error_num_sequences": errors.num_sequences,
            "error_num_samples": PATHS,
            "given_steps": errors.given_steps,
            "predicted_steps": len(errors.constant),
            **{name: float(values.mean()) for name, values in named.items()},
        }
        arrays |= named
    return Diagnostics(numbers, arrays)


def table(rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Numbers of runs as a readable table.

    Args:
        rows: name of each row, and `Diagnostics.numbers`.
    """
    columns = [
        Column(name, title, [numbers.get(name) for _, numbers in rows])
        for name, title in TITLES.items()
    ]
    return tables.as_text(
        [Column("run", "", [label for label, _ in rows]), *tables.filled(columns)]
    )


def write(folder: Path, title: str, found: Diagnostics, name: str = "diagnostics") -> list[Path]:
    """Writes the arrays as an npz file, and a picture as a png file; returns the paths.

    Args:
        folder: made if it is missing.
        title: of the picture.
        found: what to write.
        name: of both files, without ending.

    Raises:
        UserError: they cannot be written.
    """
    arrays, picture = folder / f"{name}.npz", folder / f"{name}.png"
    with writing(folder, "mend that, then give the same command again"):
        folder.mkdir(parents=True, exist_ok=True)
        # The type of `savez` takes any array for its own options.
        np.savez_compressed(arrays, **found.arrays)  # type: ignore[arg-type]
        diagnostics_picture.save(picture, title, found.numbers, found.arrays)
    return [picture, arrays]
