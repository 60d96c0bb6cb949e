"""How programs start and end, tried with real processes."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from zforcing_tf import quiet

ROOT = Path(__file__).resolve().parents[1]
HOW_FLAGS_ARE_GIVEN = (
    "flags start with --, and a value follows its flag behind =, such as --enable_xla=auto"
)
PROGRAM = '''
"""Shows how programs start.

Takes no time.
"""

import os
import sys

from absl import flags, logging
from zforcing_tf import config, programs
from zforcing_tf.errors import UserError

flags.DEFINE_string("do", "", "What to do.")
flags.DEFINE_list("colours", ["red", "blue"], "Some colours.")



def main():
    do = flags.FLAGS.do
    if do == "config":
        print(config.from_flags().run.batch_size)
    elif do == "user error":
        raise UserError("the soup is cold; warm it")
    elif do == "bug":
        raise ZeroDivisionError("a bug")
    elif do == "interrupt":
        raise KeyboardInterrupt
    elif do == "full disk":
        raise OSError(28, "No space left on device", "/somewhere/file")
    elif do == "unwritable":
        os.mkdir(__file__)
    elif do == "no file":
        raise PermissionError(13, "no file at all")
    elif do == "missing file":
        open("/none/at/all")
    elif do == "code":
        return 143
    elif do == "print":
        print("line\\n" * 100_000)
    elif do == "log":
        say = "logging.warning('ours'); logging.info('ours, unimportant')"
        exec(compile(say, programs.__file__, "exec"))  # as if that file said it
        logging.warning("theirs")
        logging.error("theirs, an error")
    elif do == "tensorflow":
        import keras
        import tensorflow as tf
        import tensorflow_probability as tfp
        import tensorflow_datasets as tfds
        tf.function(lambda x: x @ x, jit_compile=True)(tf.ones([2, 2]))
        tfp.distributions.Normal(0.0, 1.0).log_prob(0.0)
        tf.distribute.MirroredStrategy()
        tf.get_logger().warning("theirs")
        assert keras.backend.backend() == "tensorflow"
        assert tfds.core.GeneratorBasedBuilder
    print("tensorflow" in sys.modules)


def run():
    config.define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "kitchen.py").write_text(PROGRAM.lstrip())
    return folder


def start(
    folder: Path, *arguments: str, code: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    unwanted = ("TF_CPP", "GRPC", "PYTHON", "KERAS")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    command = [sys.executable, *(["-c", code] if code else ["-m", "kitchen", *arguments])]
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--do=user error"], "the soup is cold; warm it"),
        (["--do=config", "--batch_size=0"], "--batch_size=0 is not possible; "
         "give a whole number, at least 1"),
        (["--batch_size=many"], "--batch_size=many is not possible; "
         "give a whole number, at least 1"),
        (["--clip_norm=x"], "--clip_norm=x is not possible; give a number, above 0"),
        (["--core=elman"], "--core=elman is not possible; give one of lstm, gru"),
        (["--enable_xla=maybe"], "--enable_xla=maybe is not possible; give one of off, on, auto"),
        (["--run_eagerly=maybe"], "--run_eagerly=maybe is not possible; give true or false"),
        (["--train_epoch=3"], "unknown flag --train_epoch; did you mean --train_epochs?"),
        (["--zzz"], "unknown flag --zzz; --help lists the flags"),
        (["--flagfile=none.flags"], "--flagfile cannot be read: "
         "[Errno 2] No such file or directory: 'none.flags'"),
        (["--flagfile=binary"], "the file given to --flagfile is not text; "
         "give one with a flag a line"),
        (["train"], f"unknown argument 'train'; {HOW_FLAGS_ARE_GIVEN}"),
        (["--do=config", "model", "rnn"], f"unknown argument 'model'; {HOW_FLAGS_ARE_GIVEN}"),
        (["--do=full disk"], "no space left at /somewhere/file: "
         "free some and give the same command again"),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_one_sentence(
    folder: Path, arguments: list[str], sentence: str
) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    done = start(folder, *arguments)
    assert done.stderr == f"error: {sentence}\n"
    assert done.stdout == ""
    assert done.returncode == 2


def test_a_flag_of_the_program_itself(folder: Path) -> None:
    done = start(folder, "--do")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*--do.* \(--help lists the flags\)\n", done.stderr)


def test_a_place_that_cannot_be_written_is_named(folder: Path) -> None:
    done = start(folder, "--do=unwritable")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: cannot use {folder / 'kitchen.py'}: File exists; mend that, then give the same "
        "command again\n"
    )


def test_a_disk_without_room_for_temporary_files(folder: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); import kitchen\n"
    done = start(folder, code=full + "import sys; sys.argv = ['kitchen']; kitchen.run()")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: no folder for temporary files: make room in /tmp, or name another one in TMPDIR\n"
    )


@pytest.mark.parametrize(
    ("do", "last_line"),
    [
        ("bug", "ZeroDivisionError: a bug"),
        ("missing file", "FileNotFoundError: "),
        ("no file", "PermissionError: [Errno 13] no file at all"),
    ],
)
def test_a_bug_keeps_its_traceback(folder: Path, do: str, last_line: str) -> None:
    done = start(folder, f"--do={do}")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith(last_line)


def test_exit_codes(folder: Path) -> None:
    assert start(folder).returncode == 0
    assert start(folder, "--do=code").returncode == 143
    done = start(folder, "--do=interrupt")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_no_flag_and_no_error_needs_tensorflow(folder: Path) -> None:
    done = start(folder, "--do=config", "--batch_size=7")
    assert (done.stdout, done.stderr) == ("7\nFalse\n", "")


def test_a_reader_that_leaves(folder: Path) -> None:
    code = "import sys, kitchen; sys.argv = ['kitchen', '--do=print']; kitchen.run()"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpshort"])
def test_help(folder: Path, flag: str) -> None:
    done = start(folder, "--seed=1", flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "usage: python -m kitchen [--flag=value ...]\n\n"
        "Shows how programs start.\n\nTakes no time.\n\nflags:\n"
    )
    lines = done.stdout.splitlines()
    assert "  --colours=red,blue              Some colours." in lines
    assert "  --batch_size=32                 Sequences an update, over all replicas. " in (
        line[: line.find("(")] for line in lines
    )
    assert (
        "  --[no]run_eagerly               Whether to run without graphs (slow). (false)" in lines
    )
    assert any(line.startswith("  --enable_xla=off  ") for line in lines)
    assert "(off, on, auto)" in done.stdout
    assert "  --core=lstm                     Kind of each recurrent network. (lstm, gru)" in lines
    assert max(map(len, lines)) <= 96
    titles = [line for line in lines if re.fullmatch(r"\w+:", line)]
    assert titles == ["flags:", "data:", "model:", "objective:", "optimizer:", "run:"]


def test_help_of_a_command(folder: Path) -> None:
    code = "import sys, kitchen; sys.argv = ['/bin/zforcing-cook', '--help']; kitchen.run()"
    done = start(folder, code=code)
    assert done.stdout.startswith("usage: zforcing-cook [--flag=value ...]\n\nShows how programs")


def test_our_warnings_and_all_errors_are_seen(folder: Path) -> None:
    assert start(folder, "--do=log").stderr == "WARNING: ours\nERROR: theirs, an error\n"
    everything = start(folder, "--do=log", "--verbosity=0").stderr
    said = ["ours", "ours, unimportant", "theirs", "theirs, an error"]
    assert [line.partition("] ")[2] for line in everything.splitlines()] == said


def test_tensorflow_starts_without_a_word(folder: Path) -> None:
    done = start(folder, "--do=tensorflow", KERAS_BACKEND="jax")
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_noise_comes_back_when_asked_for(folder: Path) -> None:
    code = """
    import os
    from absl import flags
    from zforcing_tf import quiet
    flags.FLAGS(["program"])
    quiet.silence(0)
    import tensorflow
    print(os.environ["TF_CPP_MIN_LOG_LEVEL"])
    """
    done = start(folder, code=textwrap.dedent(code))
    assert "WARNING: All log messages before absl::InitializeLog()" in done.stderr
    assert done.stdout == "0\n"


HOLD_BACK = """
import os
from zforcing_tf.quiet import noise_held_back
with noise_held_back():
    os.write(2, b"I0000 00:00:1.2 3 a.cc:1] harmless\\nsomething else\\n")
    {end}
"""
NOISE = "I0000 00:00:1.2 3 a.cc:1] harmless\nsomething else\n"


def test_only_known_noise_is_dropped(folder: Path) -> None:
    assert start(folder, code=HOLD_BACK.format(end="")).stderr == "something else\n"


def test_nothing_is_dropped_when_the_import_fails(folder: Path) -> None:
    done = start(folder, code=HOLD_BACK.format(end="raise ImportError('broken')"))
    assert done.stderr.startswith(NOISE + "Traceback")
    assert done.stderr.endswith("ImportError: broken\n")


def test_a_crash_while_noise_is_held_back_leaves_a_trace(folder: Path) -> None:
    done = start(folder, code=HOLD_BACK.format(end="os.abort()"))
    assert done.returncode == -6
    assert done.stderr.startswith("Fatal Python error: Aborted")


def test_silence_leaves_the_users_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(quiet.LOG_LEVEL, "1")
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    hooks = list(sys.meta_path)
    quiet.silence(-1)
    assert os.environ[quiet.LOG_LEVEL] == "1"
    assert sys.meta_path == hooks
