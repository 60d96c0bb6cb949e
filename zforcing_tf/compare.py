"""Compares trained runs: a table of their results, and a picture of their learning curves.

  python -m zforcing_tf.compare --run_dir=runs/digits_rnn,runs/digits_zforcing_aux

prints the table and writes it as comparison.md and comparison.csv, with the picture comparison.png,
into --output_dir. It reads what training and evaluation have written into the runs, and computes
nothing again: a second or two.

Each kind of data has its own table. Runs that differ only in their seed are also shown as mean and
standard deviation, and in comparison_seeds.csv. A bound of several samples has their number in its
name, as iwae-64: bounds of different numbers are different quantities.
"""

import os
from pathlib import Path

from absl import flags

from zforcing_tf import programs
from zforcing_tf.errors import UserError


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_list("run_dir", [], "Folders of the runs, separated by commas.")
    flags.DEFINE_string("output_dir", "comparison", "Folder for tables and picture.")
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Results on which data.")


def main() -> None:
    """Runs the program."""
    given = flags.FLAGS
    if not given.run_dir:
        raise UserError("--run_dir is empty; give folders of runs, such as runs/first,runs/second")
    if not given.output_dir:
        raise UserError("--output_dir is empty; give a folder, which is made if it is missing")
    from zforcing_tf import comparison, comparison_report

    folders = [Path(path).expanduser().resolve() for path in given.run_dir]
    for path, folder in zip(given.run_dir, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"--run_dir has {path} more than once; name each run once")
    runs = [comparison.read(path, given.split) for path in given.run_dir]
    sections = comparison.arrange(runs, given.split)
    print(comparison_report.text(sections), flush=True)
    output = Path(given.output_dir).expanduser()
    try:
        written = comparison_report.write(output, sections)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"cannot write into --output_dir={output}: {reason}; mend that, or give another"
        ) from error
    print("\n" + "\n".join(map(str, written)))


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
