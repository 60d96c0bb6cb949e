"""Trains a model, and evaluates its best epoch.

The run directory receives checkpoints, learning curves (history.csv, TensorBoard summaries), the
configuration (config.json, flags.txt), results.json and log.txt. The same command goes on where an
interrupted run stopped.

  python -m zforcing_tf.train --flagfile=flags/digits_zforcing_aux.flags --run_dir=runs/digits

takes about two minutes on two CPU cores. flags/README.md lists the experiments.
"""

from zforcing_tf import config, programs


def main() -> int:
    """Runs the program; returns its exit code."""
    experiment = config.from_flags()
    from zforcing_tf.scoring import table
    from zforcing_tf.training.distribution import worker_of
    from zforcing_tf.training.fit import Stopped, fit
    from zforcing_tf.training.run_directory import RunDirectory

    directory = RunDirectory(experiment.run.run_dir, worker_of(experiment.run).is_chief)
    try:
        results = fit(experiment)
    except Stopped as stopped:
        directory.say(f"stopped; the same command goes on from the checkpoint in {directory.path}")
        return stopped.exit_code
    rows = [
        (f"{results['model']}, {name}", {**results[name], **_sizes(results)})
        for name in ("validation", "test")
    ]
    directory.say(f"\nbest epoch {results['best_epoch']} of {results['epochs']}:\n{table(rows)}")
    directory.say(f"\nall of it is in {directory.path}")
    return 0


def _sizes(results: dict[str, object]) -> dict[str, object]:
    return {name: results[name] for name in ("parameters", "seconds")}


def run() -> None:
    """Entry point of the command."""
    config.define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
