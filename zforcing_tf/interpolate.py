"""Sentences between two sentences, through the latents of a run on text.

  python -m zforcing_tf.interpolate --run_dir=runs/reviews
  python -m zforcing_tf.interpolate --run_dir=runs/reviews --first="a good film" --second="bad ?"

writes samples/interpolations.md into the run directory, a table for each pair of sentences, and
prints the first one. Each of the two sentences is stood for by the latents of the best of 200
samples of its posterior; 11 mixtures of these are decoded by the likeliest word at each step
(argmax), by drawing from the ten likeliest words, and by a beam search. Without --first and
--second pairs of sentences of the test split are taken by chance. Takes seconds to a minute.
"""

import textwrap

from absl import flags, logging

from zforcing_tf import programs
from zforcing_tf.errors import UserError


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_string("run_dir", "", "Folder of the run.")
    flags.DEFINE_string("first", None, "A sentence to begin with, instead of one of the data.")
    flags.DEFINE_string("second", None, "The sentence to end with, beside --first.")
    flags.DEFINE_integer(
        "num_points", 11, "Mixtures, both sentences among them.", lower_bound=2, upper_bound=1000
    )
    flags.DEFINE_integer("pairs", 4, "Pairs of sentences of the test split.", lower_bound=1)
    flags.DEFINE_integer(
        "max_steps",
        21,
        "Longest sentence, in tokens with its end.",
        lower_bound=2,
        upper_bound=1000,
    )
    flags.DEFINE_integer("top_k", 10, "Likeliest tokens of which one is drawn.", lower_bound=1)
    flags.DEFINE_integer("beam", 10, "Sequences that the beam search follows.", lower_bound=1)
    flags.DEFINE_integer(
        "num_samples", 200, "Samples of the posterior of which the best is taken.", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**31 - 1)
    programs.define_run_flags()


def main() -> None:
    """Runs the program."""
    given = flags.FLAGS
    programs.check_run_dir(given.run_dir)
    if (given.first is None) != (given.second is None):
        here, lacking = ("first", "second") if given.second is None else ("second", "first")
        raise UserError(f"--{here} needs another sentence at the other end: give --{lacking} too")
    from zforcing_tf import interpolation
    from zforcing_tf.decoder import Decoder
    from zforcing_tf.training.checkpoint import load_model
    from zforcing_tf.training.run_data import load_data
    from zforcing_tf.training.run_directory import RunDirectory
    from zforcing_tf.training.writing import writing

    run = RunDirectory(given.run_dir)
    model, experiment, spec, step = load_model(given.run_dir, given.checkpoint)
    text = spec.text
    if text is None:
        raise UserError(
            f"{given.run_dir} is a run on {spec.name!r}, which is no text: this program goes from "
            "one sentence to another; for other runs use zforcing_tf.generate"
        )
    if not experiment.data.score_first_frame:
        raise UserError(
            f"{given.run_dir} was trained with --noscore_first_frame, so it never learned how "
            "sentences begin: train with --score_first_frame for this program"
        )
    decoder = Decoder(model, text.end, [text.unknown])
    if given.first is not None:
        sentences = []
        for sentence in (given.first, given.second):
            symbols, unknown = interpolation.symbols_of(
                sentence, text, given.max_steps, experiment.data.lower_case
            )
            if unknown:
                logging.warning("not in the vocabulary of the run: %s", ", ".join(unknown))
            sentences.append(symbols)
        pairs = [(sentences[0], sentences[1])]
    else:
        test = load_data(run, experiment.data, given.data_dir, given.manual_dir).test
        pairs = interpolation.pairs_of(test, text, given.pairs, given.max_steps, given.seed)
    found = []
    for number, pair in enumerate(pairs):
        first, second = (
            interpolation.end_point(
                model, symbols, given.num_samples, (given.seed, 2 * number + side)
            )
            for side, symbols in enumerate(pair)
        )
        found.append(
            interpolation.interpolate(
                decoder,
                first,
                second,
                given.max_steps,
                given.num_points,
                given.top_k,
                given.beam,
                (given.seed, number),
            )
        )
    heading = _heading(given, step, text.tokens)
    path = run.samples / "interpolations.md"
    with writing(path, "mend that, then give the same command again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(interpolation.as_markdown(found, text, heading), encoding="utf-8")
    print(f"{interpolation.as_text(found[0], text)}\n\n{path}")


def _heading(given: "flags.FlagValues", step: int, token: str) -> str:
    from zforcing_tf.sentences import CUT

    best = f"the best of {given.num_samples} samples" if given.num_samples > 1 else "one sample"
    paragraphs = (
        f"Through the latents of the {given.checkpoint} epoch (step {step}), with the seed "
        f"{given.seed}. A sentence is stood for by {best} of its posterior; how good one is, its "
        "log weight says, log p(x, z) - log q(z|x). Each line mixes the latents of both "
        "sentences, step by step; where one of them has no more, its share is the mean of the "
        "prior, given what is decoded so far.",
        f"argmax takes the likeliest {token} at each step; top-{given.top_k} draws from the "
        f"{given.top_k} likeliest, with the same noise on each line; beam-{given.beam} follows "
        f"the {given.beam} likeliest sequences. Unknown {token}s are never taken. "
        f'"{CUT.strip()}" marks what has not ended after {given.max_steps} steps.',
    )
    return "\n\n".join(["# From one sentence to another", *map(textwrap.fill, paragraphs)])


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
