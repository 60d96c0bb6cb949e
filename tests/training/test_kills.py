"""A training that is killed at random moments, again and again, ends as if nothing had happened."""

import random
import signal
import subprocess

import pytest

from tests.training.runs import assert_same_run, finish, start
from zforcing_tf.config import to_flags_text
from zforcing_tf.training.checkpoint import load_model


@pytest.mark.parametrize(
    ("kills", "epochs"),
    [(2, 40), pytest.param(12, 60, marks=pytest.mark.slow)],
)
def test_kills_change_nothing(experiment, changed, tmp_path, kills, epochs):
    """Real processes, each killed within 0.8 s of its first epoch.

    An epoch takes a tenth of a second; for about half of that something is being written.
    """
    run, through, flags = tmp_path / "run", tmp_path / "through", tmp_path / "flags.txt"
    flags.write_text(to_flags_text(changed(experiment, train_epochs=epochs)))
    command = ("-m", "zforcing_tf.train", f"--flagfile={flags}")
    undisturbed = start(*command, f"--run_dir={through}")
    generator, reached = random.Random(kills), []
    for _ in range(kills):
        process = start(*command)
        first = process.stdout.readline()
        assert (process.stdout.readline() if reached else first).startswith("epoch ")
        assert first.startswith("resuming" if reached else "epoch ")
        try:
            process.wait(timeout=generator.uniform(0.0, 0.8))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        # Who reads the run meanwhile finds a checkpoint, too.
        reached.append(load_model(run, "last")[3])
    assert reached == sorted(reached) and 0 < reached[-1] < 4 * epochs
    assert f"resuming {run} after epoch" in finish(start(*command))
    finish(undisturbed)
    assert_same_run(run, through)
