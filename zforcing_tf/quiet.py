"""Keeps start-up noise of TensorFlow and its companions from a user's terminal.

What they print without this module (TensorFlow 2.21): native log lines about CUDA, CPU features,
XLA and the profiler; two about CUDA that are written before any log level is looked at; Python log
lines about devices, retracing and data readers; warnings of their own use of Python and NumPy.

Native error lines are hidden too (the usual one says that there is no GPU); what fails still
raises. `--verbosity=0`, or TF_CPP_MIN_LOG_LEVEL=0 in the environment, brings everything back.
"""

import contextlib
import faulthandler
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging

from zforcing_tf.first_import import ImportUnder

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_THIRD_PARTY = r"(absl|array_record|etils|google|h5py|keras|tensorboard|tensorflow\w*|tf_keras)\b"
_HARMLESS = re.compile(
    r"WARNING: All log messages before absl::InitializeLog"
    r"|[IW]\d{4} \d\d:\d\d:"
    r"|To enable the following instructions:"
)


def silence(verbosity: int | None = None) -> None:
    """Quietens all that is imported from here on; to be called before TensorFlow is imported.

    Args:
        verbosity: absl's level if the user asked for one: 0 shows all, -3 fatal errors only. None:
            errors of Python code, and the warnings of this library.
    """
    level = 3 if verbosity is None else min(3, max(0, -verbosity))
    os.environ.setdefault(LOG_LEVEL, str(level))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE" if level == 3 else "ERROR")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=_THIRD_PARTY)
        warnings.filterwarnings("ignore", category=SyntaxWarning)
    if os.environ[LOG_LEVEL] != "0" and "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, ImportUnder("tensorflow", noise_held_back))
    if verbosity is None:
        absl_logging.set_verbosity(absl_logging.WARNING)
        handler = absl_logging.get_absl_handler()
        handler.addFilter(_worth_showing)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))


def _worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record is an error or comes from this library."""
    if record.levelno >= logging.ERROR:
        return True
    # TensorFlow's logger names the wrong file at times, even one of ours.
    folder = Path(record.pathname).resolve().parent
    here = Path(__file__).resolve().parent
    ours = any(folder.is_relative_to(root) for root in (here, here.parent / "export"))
    return ours and record.name != "tensorflow"


@contextlib.contextmanager
def noise_held_back() -> Iterator[None]:
    """Collects what native code writes to standard error; passes on all but log lines at the end.

    Nothing is dropped if the block raises. If the process dies in it, its Python stack is shown.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    watch_for_crashes = not faulthandler.is_enabled()
    if watch_for_crashes:
        faulthandler.enable(file=terminal)
    failed = False
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            failed = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            if watch_for_crashes:
                faulthandler.disable()
            os.close(terminal)
            held.seek(0)
            for line in held:
                if failed or not _HARMLESS.match(line.decode(errors="replace")):
                    os.write(2, line)
