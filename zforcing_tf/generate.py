"""Samples, reconstructions and completions of a trained run, to look at and to listen to.

  python -m zforcing_tf.generate --run_dir=runs/digits
  python -m zforcing_tf.generate --run_dir=runs/speech --seconds=10 --num_sequences=8

writes into the folder samples of the run directory: real sequences of the test split, their
reconstructions through the latents, samples at two temperatures, and the beginning of the real
sequences completed by the model (their first half, or the first second of sound, 10 seconds of
music, 5 words of text). Longer real sequences are cut: sound after 3 seconds, music after 30, text
after 100 words.

  samples.png           of all numbers, row by row; of sound the waveforms and spectrograms, of
                        music the piano rolls
  samples.npz           the arrays behind it
  samples.txt           of text, the sentences
  sample_00.wav ...     of sound and music, what can be heard: real_, reconstruction_, sample_,
                        sample_cool_ (the lower temperature), of sound sample_mean_ (latents
                        drawn, each frame the mean), and continuation_
  sample_00.mid ...     of music, the same for other instruments
  learning_curves.png   the training

Files of these names from an earlier call are replaced. Takes seconds.
"""

from absl import flags

from zforcing_tf import programs


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_string("run_dir", "", "Folder of the run.")
    flags.DEFINE_integer(
        "num_sequences",
        0,
        "Sequences in each row; 0: 16, of sound and music 4.",
        lower_bound=0,
        upper_bound=1000,
    )
    flags.DEFINE_float(
        "temperature", 0.7, "Of the second row of samples; the first has 1.", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "num_steps",
        0,
        "Length of samples, in steps; 0: that of the longest real one, or the most that is shown.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "seconds", 0.0, "The same of sound and music in seconds.", lower_bound=0.0, upper_bound=3600
    )
    flags.DEFINE_integer(
        "num_particles",
        1,
        "Of a particle filter over what a completion is given; 1: its posterior alone.",
        lower_bound=1,
    )
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**31 - 1)
    programs.define_run_flags()


def main() -> None:
    """Runs the program."""
    given = flags.FLAGS
    programs.check_run_dir(given.run_dir)
    from zforcing_tf import learning_curves, output_files, pictures
    from zforcing_tf.sampling import extent, gallery
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.history import History
    from zforcing_tf.training.run_data import load_data
    from zforcing_tf.training.run_directory import RunDirectory
    from zforcing_tf.training.writing import writing

    run = RunDirectory(given.run_dir)
    model, experiment, spec, _ = load_model(given.run_dir, given.checkpoint)
    shown = extent(spec, given.num_sequences, given.num_steps, given.seconds)
    rows = gallery(
        model,
        load_data(run, experiment.data, given.data_dir, given.manual_dir).test,
        shown,
        temperature=given.temperature,
        seed=given.seed,
        num_particles=given.num_particles,
    )
    count, wanted = len(rows[0].x), given.num_sequences
    if count < wanted:
        print(f"{count} sequences in each row rather than {wanted}, as test data has no more")
    history = History(run.history).rows()
    with writing(run.samples, "mend that, then give the same command again"):
        written = [[pictures.save_arrays(run.samples / "samples.npz", rows)]]
        written.append(pictures.save_gallery(run.samples / "samples.png", rows, spec))
        written += output_files.save_files(run.samples, rows, spec)
        if history:
            curves = learning_curves.save_curves(run.samples / "learning_curves.png", history)
            written.append([curves])
    print("\n".join(output_files.as_line(group) for group in written if group))


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
