"""The programs in examples/, which have TensorFlow alone, on small models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export import bare_process
from export.endpoint import Wanted
from export.saved_model import write_model
from export.signatures import serving_module
from tests import model_factory
from zforcing_tf import models
from zforcing_tf.data.description import Sound, Text
from zforcing_tf.data.spec import DataSpec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RATE, SIZE = 8000, 4
SPECS = {
    "sound": DataSpec("speech", "real", SIZE, 12, sound=Sound(RATE, 0.01, 0.12)),
    "text": DataSpec("films", "symbol", 4, 12, text=Text(("</s>", "<unk>", "good", "film"))),
    "music": DataSpec("piano_roll", "binary", 88, 12),
}
EMISSIONS = {"sound": "gaussian", "text": "categorical", "music": "bernoulli"}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of a model of each kind of data."""
    folder = tmp_path_factory.mktemp("exports")
    for name, spec in SPECS.items():
        model = models.build(model_factory.experiment(EMISSIONS[name], model="vrnn"), spec)
        model_factory.randomise(model)
        write_model(*serving_module(model, Wanted(spec)), folder / name)
        extra = folder / name / "assets.extra"
        extra.mkdir()
        (extra / "data.json").write_text(json.dumps(spec.to_json()))
    return folder


def example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs one where nothing but TensorFlow can be imported."""
    code = f"""
import runpy, sys
runpy.run_path({bare_process.__file__!r})["hide"]()
sys.argv = [{str(EXAMPLES / name)!r}, *sys.argv[1:]]
sys.path.insert(0, {str(EXAMPLES)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def recording(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    data = tf.constant(samples[:, np.newaxis], tf.float32)
    path.write_bytes(tf.audio.encode_wav(data, rate).numpy())
    return path


def test_a_click_in_a_recording_is_found(exports: Path, tmp_path: Path) -> None:
    samples = 0.1 * np.sin(np.arange(800) / 5)
    fine = recording(tmp_path / "fine.wav", samples)
    samples[400:404] = 0.99
    bad = recording(tmp_path / "bad.wav", samples)
    done = example("anomaly_scores.py", exports / "sound", fine, bad)
    assert (done.returncode, done.stderr) == (0, "")
    _, first, second = done.stdout.splitlines()
    assert f"{bad}: 0.05 (" in second
    assert float(first.split()[0]) > float(second.split()[0])


def test_recordings_that_do_not_fit_are_named(exports: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    none = tmp_path / "none.wav"
    slow = recording(tmp_path / "slow.wav", np.zeros(99), 4000)
    for arguments, sentence in [
        ([], "give the folder of an exported version, then wav files"),
        ([exports / "sound", slow],
         f"{slow} has (channels, bytes, samples a second) (1, 2, 4000), not (1, 2, 8000)"),
        ([exports / "sound", none],
         f"{none} cannot be read: [Errno 2] No such file or directory: '{none}'"),
        ([exports / "sound", text], f"{text} cannot be read: file does not start with RIFF id"),
        ([exports / "text", slow], f"the model in {exports}/text has no signature score_audio: "
         "another kind of data"),
        ([tmp_path, slow], f"no SavedModel in {tmp_path}; python -m export.saved_model writes one"),
    ]:  # fmt: skip
        done = example("anomaly_scores.py", *arguments)
        assert (done.returncode, done.stderr) == (1, f"error: {sentence}\n"), sentence


def test_music_goes_on_where_it_ended(exports: Path, tmp_path: Path) -> None:
    frames = np.zeros((3, 88), np.float32)
    frames[:, 39] = 1  # middle C
    np.save(tmp_path / "tune.npy", frames)
    more = tmp_path / "more.npy"
    done = example("live_continuation.py", exports / "music", tmp_path / "tune.npy", 2, more)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:5]] == ["heard"] * 3 + ["played"] * 2
    assert all(line.endswith("nats  C4") for line in lines[:3])
    found = np.load(more)
    np.testing.assert_array_equal(found[:3], frames)
    assert found.shape == (5, 88) and set(np.unique(found)) == {0, 1}
    done = example("live_continuation.py", exports / "music", "-", 2, more)
    assert (done.returncode, np.load(more).shape) == (0, (3, 88))


def test_what_is_damaged_or_cannot_be_written_is_named(exports: Path, tmp_path: Path) -> None:
    cut, target = tmp_path / "cut.npz", tmp_path / "out.npy"
    np.savez(cut, x=np.zeros((3, 5, 88)), lengths=np.full(3, 5))
    cut.write_bytes(cut.read_bytes()[:400])
    wide, one = tmp_path / "wide.npz", tmp_path / "one.npy"
    np.savez(wide, x=np.zeros((3, 5, 87)), lengths=np.full(3, 5))
    np.save(one, np.float32(3))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    nowhere = tmp_path / "no" / "out.npy"
    model = exports / "music"
    for name, arguments, sentence in [
        ("embeddings.py", [model, cut, target], f"{cut} cannot be read: "),
        ("embeddings.py", [model, wide, target], f"the model refuses {wide}: "),
        ("embeddings.py", [model, wide, nowhere], f"{nowhere} cannot be written: "),
        ("live_continuation.py", [model, one, 2, target], f"{one} holds (); the model takes "),
        ("live_continuation.py", [model, "-", 2, nowhere], f"{nowhere} cannot be written: "),
        ("use_saved_model.py", [broken], f"the SavedModel in {broken} cannot be loaded: "),
    ]:
        done = example(name, *arguments)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {sentence}"), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert not target.exists()


def test_like_sentences_lie_near_each_other(exports: Path, tmp_path: Path) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("good film\nfilm film film\n\nGood Film\nfilm film\n")
    target = tmp_path / "embeddings.npy"
    done = example("embeddings.py", exports / "text", sentences, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "'good film' is most like 'Good Film' (1.00)"
    assert np.load(target).shape == (4, model_factory.SMALL["latent_size"])
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, x=np.zeros((3, 5, 88), np.uint8), lengths=np.array([5, 2, 9]))
    done = example("embeddings.py", exports / "music", arrays, target)
    assert done.returncode == 1 and "error: " in done.stderr and "lengths" in done.stderr
    np.savez(arrays, x=np.zeros((3, 5, 88), np.uint8), lengths=np.array([5, 2, 4]))
    assert example("embeddings.py", exports / "music", arrays, target).returncode == 0
    assert np.load(target).shape == (3, model_factory.SMALL["latent_size"])
