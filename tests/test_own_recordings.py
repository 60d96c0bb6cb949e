"""A folder of recordings goes from nothing to samples and a SavedModel by the README's commands."""

import json

import pytest
import tensorflow as tf

from tests.data.recording_files import noise, write
from tests.training.runs import ROOT, finish, start

# The flagfile that `make sound` trains with, but for sizes that a test can wait for.
SMALL = (
    *("--recurrent_size=8", "--embedding_size=8", "--hidden_size=8", "--emission_hidden_size=8"),
    *("--latent_size=4", "--train_epochs=1", "--enable_xla=off"),
)


@pytest.mark.slow
def test_recordings_of_seconds_and_of_minutes(tmp_path):
    folder, run = tmp_path / "recordings", tmp_path / "run"
    for k, seconds in enumerate((2, 3, 1, 2, 130)):
        write(folder / f"{k}.wav", noise(16000 * seconds, k))
    (folder / "bad.wav").write_bytes(b"")
    flags = (f"--flagfile={ROOT}/flags/speech_zforcing_kla_aux.flags", *SMALL)
    places = (f"--manual_dir={folder}", f"--data_dir={tmp_path}/prepared", f"--run_dir={run}")
    refused = start("-m", "zforcing_tf.train", *flags, *places)
    finish(refused, 2)
    finish(start("-m", "zforcing_tf.train", *flags, *places, "--skip_bad_records"))
    results = json.loads((run / "results.json").read_text())
    assert results["skipped_records"] == 1
    assert sum(results[split]["num_sequences"] for split in ("validation", "test")) == 2
    finish(start("-m", "zforcing_tf.generate", f"--run_dir={run}"))
    assert {"samples.png", "sample_00.wav", "continuation_00.wav"} <= {
        path.name for path in (run / "samples").iterdir()
    }
    finish(start("-m", "export.saved_model", f"--run_dir={run}", f"--export_dir={tmp_path}/export"))
    (saved,) = (tmp_path / "export").iterdir()
    assert "score" in tf.saved_model.load(str(saved)).signatures
