"""Bounds of trained runs on a split of their data, as a table.

  python -m zforcing_tf.evaluate --run_dir=runs/digits_rnn,runs/digits_zforcing_aux --split=test
  python -m zforcing_tf.evaluate --run_dir=runs/digits_vrnn --bounds=iwae,fivo --num_samples=64

scores each run's best epoch (several runs: separated by commas) and adds the numbers to its
results.json: under the name of the split if they are what training finds too, else under one that
says how they differ, such as "test, last, 10 samples, seed 3" or "test, chunks of 40". Takes
seconds; memory does not grow with --num_samples of iwae. All bounds are in nats, higher is better;
bits per dimension and perplexity, lower is better.

  python -m zforcing_tf.evaluate --run_dir=runs/digits_vrnn --diagnostics

also says whether the latents are used (KL of each dimension and step, active units, mutual
information, and what becomes of the bound if latents come from the prior), and how far the model
gets on frames of its own; it draws that as samples/diagnostics.png in the run, with the arrays in
samples/diagnostics.npz; of anything but test data at its best epoch under a name that says so, such
as diagnostics_validation.png. Takes as long again, a few times.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags, logging

from zforcing_tf import programs
from zforcing_tf.data_config import LONGEST
from zforcing_tf.errors import UserError

if TYPE_CHECKING:
    from zforcing_tf.config import DataConfig
    from zforcing_tf.diagnostics import Diagnostics
    from zforcing_tf.training.run_directory import RunDirectory


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_list("run_dir", [], "Folders of the runs, separated by commas.")
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which data.")
    flags.DEFINE_list(
        "bounds",
        ["elbo"],
        "Which bounds, separated by commas: elbo, which is always there; iwae; fivo.",
    )
    flags.DEFINE_integer(
        "num_samples",
        1,
        "Samples of iwae, particles of fivo; of the elbo alone, the mean of as many one-sample "
        "bounds.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "resampling",
        None,
        ["ess", "always", "never"],
        "When particles of fivo are drawn anew; without it, as in the run.",
    )
    flags.DEFINE_enum(
        "resampling_scheme",
        None,
        ["systematic", "multinomial"],
        "How particles of fivo are drawn anew; without it, as in the run.",
    )
    flags.DEFINE_integer(
        "eval_batch_size", 256, "Sequences, or samples of them, scored at once.", lower_bound=1
    )
    flags.DEFINE_integer(
        "seed",
        None,
        "Of the noise; without it, that of the run.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_integer(
        "chunk_length",
        None,
        "Scores pieces of so many steps, each by itself, in place of whole sequences; 0: whole "
        "sequences. Without it, what the run was validated on.",
        lower_bound=0,
        upper_bound=LONGEST,
    )
    flags.DEFINE_bool(
        "diagnostics", False, "Whether to look into the use of the latents, and free running."
    )
    flags.DEFINE_integer(
        "diagnostics_sequences", 256, "Sequences that are looked into, at most.", lower_bound=1
    )
    programs.define_run_flags()


def main() -> int:
    """Runs the program; returns its exit code."""
    given = flags.FLAGS
    programs.check_run_dir(given.run_dir)
    tighter = [name for name in given.bounds if name != "elbo"]
    unknown = sorted(set(tighter) - {"iwae", "fivo"})
    if unknown:
        raise UserError(f"--bounds={unknown[0]} is not possible; give any of elbo, iwae, fivo")
    if tighter and given.num_samples == 1:
        raise UserError(
            f"--bounds={','.join(tighter)} with one sample is the elbo: give --num_samples of 2 or "
            "more, such as 64"
        )
    from zforcing_tf import diagnostics
    from zforcing_tf.scoring import table, table_per_step

    found = [_evaluated(path, tighter) for path in given.run_dir]
    samples = f", {given.num_samples} samples" if given.num_samples > 1 and not tighter else ""
    # Scores of other pieces are other quantities: a table each.
    for protocol in dict.fromkeys(one.protocol for one in found):
        print(f"{given.split} data, {given.checkpoint} epoch{samples}{protocol}:")
        rows = [(one.path, one.shown) for one in found if one.protocol == protocol]
        print(table(rows))
        if per_step := table_per_step(rows):
            print(f"\n{per_step}")
    diagnosed = [(one.path, one.diagnostics) for one in found if one.diagnostics is not None]
    if diagnosed:
        print(f"\n{diagnostics.EXPLANATION}")
        print(diagnostics.table([(path, one.numbers) for path, one in diagnosed]))
    sys.stdout.flush()
    return 0 if all([_written(one) for one in found]) else 2


class _Evaluated(NamedTuple):
    """A run, and what was found of it."""

    path: str
    name: str
    """Key of the numbers in `results.json`."""
    protocol: str
    """What is scored, if it is not whole sequences."""
    numbers: dict[str, Any]
    shown: dict[str, Any]
    """The numbers, and sizes that training wrote down."""
    of_data: dict[str, int]
    diagnostics: Diagnostics | None


def _evaluated(path: str, tighter: list[str]) -> _Evaluated:
    from zforcing_tf import models
    from zforcing_tf.diagnostics import diagnose
    from zforcing_tf.resampling import Resampling
    from zforcing_tf.scoring import evaluate, skipped_records, tighter_bounds, with_other_bounds
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.run_data import load_data
    from zforcing_tf.training.run_directory import RunDirectory

    given = flags.FLAGS
    model, experiment, spec, step = load_model(path, given.checkpoint)
    data, pieces, other_pieces = _pieces(experiment.data, given.chunk_length)
    dataset = load_data(RunDirectory(path), data, given.data_dir, given.manual_dir)
    split = dataset.split(given.split)
    # Validation and test data comes in the pieces of the run; training data always whole.
    if pieces and (other_pieces or given.split == "train"):
        split = split.cut(pieces)
    own_seed = experiment.run.seed
    seed = own_seed if given.seed is None else given.seed
    batch_size, elbo_samples = given.eval_batch_size, 1 if tighter else given.num_samples
    numbers = evaluate(model, spec, split, batch_size, elbo_samples, seed)
    if other_pieces:
        numbers["chunk_length"] = pieces
    if tighter:
        own = experiment.objective
        resampling = Resampling(
            given.resampling or own.resampling,
            given.resampling_scheme or own.resampling_scheme,
        )
        if "fivo" in tighter and resampling != models.bound(own).resampling:
            # Another quantity: not under the name of the run's own.
            numbers["resampling"] = f"{resampling.criterion}, {resampling.scheme}"
        numbers |= tighter_bounds(
            model, split, batch_size, tighter, given.num_samples, seed, resampling
        )
    diagnostics = None
    if given.diagnostics:
        count = given.diagnostics_sequences
        diagnostics = diagnose(model, spec, split, batch_size, seed, count)
        numbers["diagnostics"] = diagnostics.numbers
    numbers = {"checkpoint": given.checkpoint, "step": step, **numbers}
    name, known = result_name(given.split, numbers, own_seed), _known(RunDirectory(path))
    numbers = with_other_bounds(known, name, numbers)
    return _Evaluated(
        path,
        name,
        (f", chunks of {pieces}" if pieces else "")
        + ("" if data.score_first_frame else ", first frames not scored"),
        numbers,
        numbers | {k: known[k] for k in ("parameters", "seconds") if k in known},
        skipped_records(dataset),
        diagnostics,
    )


def _pieces(data: DataConfig, asked: int | None) -> tuple[DataConfig, int, bool]:
    """Which pieces of sequences are scored.

    Args:
        data: of the run.
        asked: steps of a piece, 0 for whole sequences; None: as the run was validated.

    Returns:
        What to load, steps of a piece or 0, and whether training scored others: what is loaded is
        then whole, else in these pieces.
    """
    own = data.chunk_length if data.chunk_evaluation else 0
    if asked is None or asked == own:
        return data, own, False
    return dataclasses.replace(data, chunk_evaluation=False), asked, True


def result_name(split: str, numbers: Mapping[str, Any], own_seed: int) -> str:
    """The key of an evaluation in results.json: the split, and in what it differs from training's.

    Training evaluates the best epoch with one sample and the seed of the run.
    """
    parts = [split]
    if numbers["checkpoint"] != "best":
        parts.append(numbers["checkpoint"])
    if "chunk_length" in numbers:
        length = numbers["chunk_length"]
        parts.append(f"chunks of {length}" if length else "whole sequences")
    if numbers["num_samples"] != 1:
        parts.append(f"{numbers['num_samples']} samples")
    if numbers["seed"] != own_seed:
        parts.append(f"seed {numbers['seed']}")
    if "resampling" in numbers:
        parts.append(f"resampling {numbers['resampling']}")
    return ", ".join(parts)


def _known(run: RunDirectory) -> dict[str, Any]:
    try:
        return run.read_results()
    except UserError:  # said when the new numbers are to be written there
        return {}


def _written(found: _Evaluated) -> bool:
    """Whether all could be written down; if not, a warning has been given."""
    from zforcing_tf import diagnostics
    from zforcing_tf.training.run_directory import RunDirectory

    directory, complete = RunDirectory(found.path), True
    try:
        directory.write_results({found.name: found.numbers, **found.of_data})
    except UserError as error:
        logging.warning("the numbers above are not written down: %s", error)
        complete = False
    if found.diagnostics is not None:
        count = found.diagnostics.numbers["num_sequences"]
        title = f"{found.path}: {found.name}, {count:,} sequences"
        try:
            name = "" if found.name == "test" else "_" + re.sub(r"\W+", "_", found.name)
            written = diagnostics.write(
                directory.samples, title, found.diagnostics, f"diagnostics{name}"
            )
            print("\n".join(map(str, written)), flush=True)
        except UserError as error:
            logging.warning("the picture is not written: %s", error)
            complete = False
    return complete


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
