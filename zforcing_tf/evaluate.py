"""Bounds of trained runs on a split of their data, as a table.

  python -m zforcing_tf.evaluate --run_dir=runs/digits_rnn,runs/digits_zforcing_aux --split=test
  python -m zforcing_tf.evaluate --run_dir=runs/digits_vrnn --bounds=iwae,fivo --num_samples=64

scores each run's best epoch (several runs: separated by commas) and adds the numbers to its
results.json: under the name of the split if they are what training finds too, else under one that
says how they differ, such as "test, last, 10 samples, seed 3". Takes seconds; memory does not grow
with --num_samples of iwae. All bounds are in nats, higher is better; bits per dimension and
perplexity, lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from zforcing_tf import programs
from zforcing_tf.errors import UserError

if TYPE_CHECKING:
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
    programs.define_run_flags()


def main() -> int:
    """Runs the program; returns its exit code."""
    given = flags.FLAGS
    if not given.run_dir:
        raise UserError("--run_dir is empty; give the folder of a run, such as runs/first")
    tighter = [name for name in given.bounds if name != "elbo"]
    unknown = sorted(set(tighter) - {"iwae", "fivo"})
    if unknown:
        raise UserError(f"--bounds={unknown[0]} is not possible; give any of elbo, iwae, fivo")
    if tighter and given.num_samples == 1:
        raise UserError(
            f"--bounds={','.join(tighter)} with one sample is the elbo: give --num_samples of 2 or "
            "more, such as 64"
        )
    from zforcing_tf import models
    from zforcing_tf.data import registry
    from zforcing_tf.resampling import Resampling
    from zforcing_tf.scoring import evaluate, table, tighter_bounds, with_other_bounds
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.run_directory import RunDirectory

    rows, found = [], []
    for path in given.run_dir:
        model, experiment, spec, step = load_model(path, given.checkpoint)
        split = registry.load(experiment.data, given.data_dir).split(given.split)
        own_seed = experiment.run.seed
        seed = own_seed if given.seed is None else given.seed
        batch_size, elbo_samples = given.eval_batch_size, 1 if tighter else given.num_samples
        numbers = evaluate(model, spec, split, batch_size, elbo_samples, seed)
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
        numbers = {"checkpoint": given.checkpoint, "step": step, **numbers}
        run = RunDirectory(path)
        name, known = result_name(given.split, numbers, own_seed), _known(run)
        numbers = with_other_bounds(known, name, numbers)
        found.append((run, {name: dict(numbers)}))
        rows.append(
            (path, numbers | {k: known[k] for k in ("parameters", "seconds") if k in known})
        )
    samples = f", {given.num_samples} samples" if given.num_samples > 1 and not tighter else ""
    print(f"{given.split} data, {given.checkpoint} epoch{samples}:")
    print(table(rows), flush=True)
    return 0 if all([_written(run, results) for run, results in found]) else 2


def result_name(split: str, numbers: Mapping[str, Any], own_seed: int) -> str:
    """The key of an evaluation in results.json: the split, and in what it differs from training's.

    Training evaluates the best epoch with one sample and the seed of the run.
    """
    parts = [split]
    if numbers["checkpoint"] != "best":
        parts.append(numbers["checkpoint"])
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


def _written(run: RunDirectory, results: Mapping[str, Any]) -> bool:
    """Whether results could be written down; if not, a warning has been given."""
    try:
        run.write_results(results)
    except UserError as error:
        logging.warning("the numbers above are not written down: %s", error)
        return False
    return True


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
