"""Bounds of trained runs on a split of their data, as a table.

  python -m zforcing_tf.evaluate --run_dir=runs/digits_rnn,runs/digits_zforcing_aux --split=test

scores each run's best epoch (several runs: separated by commas) and adds the numbers to its
results.json. Takes seconds. All bounds are in nats, higher is better; bits per dimension and
perplexity, lower is better.
"""

from absl import flags

from zforcing_tf import config, programs
from zforcing_tf.errors import UserError

_RUN_DIRS = flags.DEFINE_list("run_dir", [], "Folders of the runs, separated by commas.")
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which data.")
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 1, "The bound is the mean of as many one-sample bounds.", lower_bound=1
)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", ["best", "last"], "Weights of the best epoch, or the last ones."
)
_EVAL_BATCH_SIZE = flags.DEFINE_integer(
    "eval_batch_size", 256, "Sequences scored at once.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2000)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where TFDS keeps its datasets; without it, where the run had them."
)


def main() -> None:
    """Runs the program."""
    if not _RUN_DIRS.value:
        raise UserError("--run_dir is empty; give the folder of a run, such as runs/first")
    import dataclasses

    from zforcing_tf.data import registry
    from zforcing_tf.scoring import evaluate, table
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.run_directory import RunDirectory

    rows = []
    for path in _RUN_DIRS.value:
        model, experiment, spec, step = load_model(path, _CHECKPOINT.value)
        data = experiment.data
        if _DATA_DIR.value is not None:
            data = dataclasses.replace(data, data_dir=_DATA_DIR.value)
        split = registry.load(data).split(_SPLIT.value)
        numbers = evaluate(
            model, spec, split, _EVAL_BATCH_SIZE.value, _NUM_SAMPLES.value, _SEED.value
        )
        run = RunDirectory(path)
        numbers["step"] = step
        known = run.read_results()
        run.write_results({_SPLIT.value: numbers})
        sizes = {name: known[name] for name in ("parameters", "seconds") if name in known}
        rows.append((path, {**numbers, **sizes}))
    print(f"{_SPLIT.value} data, {_CHECKPOINT.value} epoch, {_NUM_SAMPLES.value} sample(s):")
    print(table(rows))


def run() -> None:
    """Entry point of the command."""
    programs.run(main)


if __name__ == "__main__":
    run()
