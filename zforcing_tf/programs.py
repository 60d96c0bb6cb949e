"""How each program starts and ends: quiet imports, readable help, errors as one sentence.

A program's module imports nothing heavy at the top; `--help` and wrong flags then answer at once:

    def main() -> None:
        experiment = config.from_flags()
        from zforcing_tf import models  # imports TensorFlow
        ...

    def run() -> None:
        config.define_flags()
        programs.run(main)

    if __name__ == "__main__":
        run()

Exit codes: 0 done, 1 an unforeseen error (with its traceback), 2 a `UserError`, a wrong flag, or a
file that cannot be written, 75 another worker is gone (the same commands go on), 130 interrupted
from the keyboard, 141 the reader of the output left, 143 ended by SIGTERM (training, after a
checkpoint; all else with nothing half-written left). A second signal ends a program at once.
"""

import difflib
import errno
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args

from absl import app, flags

from zforcing_tf import config, first_import, quiet, signals
from zforcing_tf.errors import UserError
from zforcing_tf.settings import Field, allowed_values, bounds_in_words

_HELP = ("--help", "-help", "-h", "--helpshort", "-?")
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.ENAMETOOLONG),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
)
"""What the place of a file is the reason of, not the program that wants it."""
_COLUMN, _WIDTH = 34, 96


class _Terminated(BaseException):
    """SIGTERM came: what has to be cleared away on the way out is."""


def run(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the flags, runs a program's `main`, and ends the process.

    Args:
        main: the program; its return value is the exit code, None is 0.
        argv: command line with the program's name first; None: that of the process.
    """
    try:
        app.run(
            lambda arguments: _guarded(main, arguments),
            argv=list(argv or sys.argv),
            flags_parser=lambda arguments: _parsed(main, arguments),
        )
    except KeyboardInterrupt:
        _interrupted()
    except _Terminated:
        _terminated()
    except BrokenPipeError:
        # Who read our output has gone, as `head` does; nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def define_run_flags() -> None:
    """Defines the flags of each program that uses a trained run: which weights, where its data."""
    flags.DEFINE_enum(
        "checkpoint", "best", ["best", "last"], "Weights of the best epoch, or the last ones."
    )
    flags.DEFINE_string(
        "data_dir", None, "Where TFDS keeps its datasets; without it, where the run had them."
    )
    flags.DEFINE_string(
        "manual_dir",
        None,
        "Where the data that you brought is now; without it, where the run had it.",
    )


def check_run_dir(given: object) -> None:
    """UserError if `--run_dir`, of one run or several, is empty."""
    if not given:
        raise UserError("--run_dir is empty; give the folder of a run, such as runs/first")


@signals.second_ends_at_once()
def _guarded(main: Callable[[], int | None], arguments: Sequence[str]) -> int | None:
    if len(arguments) > 1:
        _fail(
            f"unknown argument {arguments[1]!r}; flags start with --, and a value follows its flag "
            "behind =, such as --enable_xla=auto"
        )
    try:
        tempfile.gettempdir()  # TensorFlow does not even start without one
    except FileNotFoundError:
        _fail("no folder for temporary files: make room in /tmp, or name another one in TMPDIR")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main()
        sys.stdout.flush()
        return code
    except UserError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        place = f" at {error.filename}" if error.filename else ""
        if error.errno in _FULL_DISK:
            _fail(f"no space left{place}: free some and give the same command again")
        if error.errno in _REFUSED and error.filename:
            _fail(
                f"cannot use {error.filename}: {os.strerror(error.errno)}; mend that, then give "
                "the same command again"
            )
        raise
    except KeyboardInterrupt:
        _interrupted()
    except _Terminated:
        _terminated()
    except Exception as error:
        # By its name: TensorFlow may not have been imported.
        if type(error).__name__ == "ResourceExhaustedError" and "allocating" in str(error):
            _fail("out of memory: give a smaller model or a smaller --batch_size")
        raise


def _parsed(main: Callable[[], int | None], arguments: Sequence[str]) -> list[str]:
    """Parses the flags and returns the other arguments; ends the program for --help or an error."""
    if any(argument in _HELP for argument in arguments[1:]):
        print(help_text(main), flush=True)
        sys.exit(0)
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        _fail(_flag_error(error))
    except UnicodeDecodeError:
        _fail("the file given to --flagfile is not text; give one with a flag a line")
    asked = not flags.FLAGS["verbosity"].using_default_value
    quiet.silence(flags.FLAGS.verbosity if asked else None)
    first_import.prepare()
    # Ours is the only backend, whatever the user's own settings of Keras say.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    return list(rest)


def _flag_error(error: flags.Error) -> str:
    """Says in one sentence what was wrong with the command line."""
    if isinstance(error, flags.UnrecognizedFlagError):
        near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        return f"unknown flag --{error.flagname}; {hint}"
    message = str(error)
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"--flagfile cannot be read: {message.partition('flagfile: ')[2]}"
    wrong = re.match(r"flag --(?:no)?(\w+)=(.*?): ", message, re.DOTALL)
    found = wrong and _setting_of(wrong[1])
    if wrong and found:
        return f"--{wrong[1]}={wrong[2]} is not possible; give {allowed_values(found[1])}"
    return f"{message} (--help lists the flags)"


def _setting_of(flag: str) -> tuple[str, Field] | None:
    """Section and field behind a flag; None if a program has defined the flag for itself."""
    if flag not in flags.FLAGS or flags.FLAGS.find_module_defining_flag(flag) != config.__name__:
        return None
    return next((section, field) for section, field in config.settings() if field.name == flag)


def _fail(sentence: str, code: int = UserError.exit_code) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


def _interrupted() -> NoReturn:
    print("interrupted", file=sys.stderr)
    sys.exit(130)


def _terminate(number: int, frame: object) -> NoReturn:
    raise _Terminated


def _terminated() -> NoReturn:
    print("stopped", file=sys.stderr)
    sys.exit(143)


def help_text(main: Callable[[], int | None]) -> str:
    """What `--help` prints: how to call the program, its module's docstring, and its flags."""
    module = sys.modules[main.__module__]
    spec = getattr(module, "__spec__", None)
    called = os.path.basename(sys.argv[0])
    if module.__name__ == "__main__" and spec is not None:
        called = f"python -m {spec.name}"
    groups: dict[str, list[str]] = {"flags": []}
    for owner, defined in flags.FLAGS.flags_by_module_dict().items():
        for flag in defined:
            section, field = _setting_of(flag.name) or ("flags", None)
            if not owner.startswith("absl."):
                groups.setdefault(section, []).append(_flag_help(flag, field))
    parts = [f"usage: {called} [--flag=value ...]", (module.__doc__ or "").strip()]
    parts += [f"{title}:\n" + "\n".join(lines) for title, lines in groups.items() if lines]
    parts.append("--flagfile=FILE reads flags from a file; --verbosity=0 shows every log line.")
    return "\n\n".join(parts)


def _flag_help(flag: "flags.Flag[Any]", field: Field | None) -> str:
    default = (flag.default_as_str or "").strip("'")
    boolean = flag.boolean and (field is None or field.type is bool)
    left = f"  --[no]{flag.name}" if boolean else f"  --{flag.name}={default}"
    text = flag.help or ""
    if field is not None:
        allowed = [*get_args(field.type), *bounds_in_words(field)]
        text = field.metadata["help"] + (f" ({', '.join(allowed)})" if allowed else "")
    if boolean:
        text += f" ({default})"
    lines = textwrap.wrap(text, _WIDTH - _COLUMN) or [""]
    if len(left) > _COLUMN - 2:
        lines.insert(0, "")
    lines = [" " * _COLUMN + line for line in lines]
    return "\n".join([left.ljust(_COLUMN) + lines[0].strip(), *lines[1:]])
