"""Samples, reconstructions and completions of a trained run: a picture and the arrays behind it.

  python -m zforcing_tf.generate --run_dir=runs/digits

writes samples/samples.png and samples/samples.npz into the run directory. The picture shows, row by
row: real sequences of the test split, their reconstructions through the latents, samples at two
temperatures, and the real sequences' first half completed by the model. learning_curves.png shows
the training. Takes seconds.
"""

from absl import flags

from zforcing_tf import programs
from zforcing_tf.errors import UserError


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_string("run_dir", "", "Folder of the run.")
    flags.DEFINE_integer(
        "num_sequences", 16, "Sequences in each row.", lower_bound=1, upper_bound=1000
    )
    flags.DEFINE_float(
        "temperature", 0.7, "Of the second row of samples; the first has 1.", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "num_steps",
        0,
        "Length of samples, in steps; 0: that of the longest real one.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "num_particles",
        1,
        "Of a particle filter over the given half of a completion; 1: its posterior alone.",
        lower_bound=1,
    )
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**31 - 1)
    programs.define_run_flags()


def main() -> None:
    """Runs the program."""
    given = flags.FLAGS
    if not given.run_dir:
        raise UserError("--run_dir is empty; give the folder of a run, such as runs/first")
    from zforcing_tf import learning_curves, pictures
    from zforcing_tf.data import registry
    from zforcing_tf.sampling import gallery
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.history import History
    from zforcing_tf.training.run_directory import RunDirectory
    from zforcing_tf.training.writing import writing

    model, experiment, spec, _ = load_model(given.run_dir, given.checkpoint)
    rows = gallery(
        model,
        registry.load(experiment.data, given.data_dir).test,
        num_sequences=given.num_sequences,
        num_steps=given.num_steps or spec.max_length,
        temperature=given.temperature,
        seed=given.seed,
        num_particles=given.num_particles,
    )
    run = RunDirectory(given.run_dir)
    history = History(run.history).rows()
    with writing(run.samples, "mend that, then give the same command again"):
        written = [pictures.save_arrays(run.samples / "samples.npz", rows)]
        written += pictures.save_gallery(run.samples / "samples.png", rows, spec)
        if history:
            written.append(
                learning_curves.save_curves(run.samples / "learning_curves.png", history)
            )
    print("\n".join(str(path) for path in written))


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
