"""Bounds of trained runs on a split of their data, as a table.

  python -m zforcing_tf.evaluate --run_dir=runs/digits_rnn,runs/digits_zforcing_aux --split=test

scores each run's best epoch (several runs: separated by commas) and adds the numbers to its
results.json. Takes seconds. All bounds are in nats, higher is better; bits per dimension and
perplexity, lower is better.
"""

from absl import flags

from zforcing_tf import programs
from zforcing_tf.errors import UserError


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_list("run_dir", [], "Folders of the runs, separated by commas.")
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which data.")
    flags.DEFINE_integer(
        "num_samples", 1, "The bound is the mean of as many one-sample bounds.", lower_bound=1
    )
    flags.DEFINE_integer("eval_batch_size", 256, "Sequences scored at once.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2000)
    programs.define_run_flags()


def main() -> None:
    """Runs the program."""
    given = flags.FLAGS
    if not given.run_dir:
        raise UserError("--run_dir is empty; give the folder of a run, such as runs/first")
    from zforcing_tf.data import registry
    from zforcing_tf.scoring import evaluate, table
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.run_directory import RunDirectory

    rows = []
    for path in given.run_dir:
        model, experiment, spec, step = load_model(path, given.checkpoint)
        split = registry.load(experiment.data, given.data_dir).split(given.split)
        numbers = evaluate(model, spec, split, given.eval_batch_size, given.num_samples, given.seed)
        run = RunDirectory(path)
        numbers["step"] = step
        known = run.read_results()
        run.write_results({given.split: numbers})
        numbers |= {name: known[name] for name in ("parameters", "seconds") if name in known}
        rows.append((path, numbers))
    print(f"{given.split} data, {given.checkpoint} epoch, {given.num_samples} sample(s):")
    print(table(rows))


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
