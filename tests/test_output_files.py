"""Files that people play and read: all there, with what they are to hold."""

import logging
import sys
import wave

import numpy as np
import pytest

from tests import model_factory as factory
from tests.slowly import slow_unless
from zforcing_tf import pictures
from zforcing_tf.data.description import Music, Sound, Text
from zforcing_tf.data.midi import read_midi
from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.output_files import as_line, save_files
from zforcing_tf.sampling import Row, extent, gallery
from zforcing_tf.synthesis import SAMPLE_RATE, render

SOUND = DataSpec("sound", "real", 4, 9, sound=Sound(16000, loc=0.01, scale=0.2))
MUSIC = DataSpec("music", "binary", 88, 9, music=Music(21, 0.25))
WORDS = Text(("</s>", "<unk>", "a", "good", "film"))
TEXT = DataSpec("text", "symbol", 5, 9, text=WORDS)
PREFIXES = {
    "real": "real",
    "reconstructions": "reconstruction",
    "samples": "sample",
    "samples_cool": "sample_cool",
    "samples_mean": "sample_mean",
    "completions": "continuation",
}


def rows_of(x, lengths, names=PREFIXES):
    return [Row(name, name, x, np.array(lengths, np.int32)) for name in names]


def read_wav(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_sound_becomes_recordings(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    x[1, 0, 0] = 1e6  # louder than a file can hold
    groups = save_files(tmp_path / "new", rows_of(x, [5, 3]), SOUND)
    expected = [[f"{prefix}_{i:02d}.wav" for i in range(2)] for prefix in PREFIXES.values()]
    assert [[path.name for path in group] for group in groups] == expected
    for group in groups:
        for path, frames, length in zip(group, x, (5, 3), strict=True):
            rate, samples = read_wav(path)
            assert (rate, len(samples)) == (16000, 4 * length)
            np.testing.assert_array_equal(samples, SOUND.sound.samples(frames[:length]).ravel())
    assert samples[0] == 32767


def test_music_becomes_scores_and_recordings(tmp_path):
    """What is likelier than not is played; what lies behind the end of a piece is not."""
    x = np.random.default_rng(0).random((2, 6, 88)).astype(np.float32)
    groups = save_files(tmp_path, rows_of(x, [6, 4], ["reconstructions"]), MUSIC)
    names = [[path.name for path in group] for group in groups]
    assert names == [[f"reconstruction_0{i}.{kind}" for i in range(2)] for kind in ("mid", "wav")]
    for score, recording, frames, length in zip(*groups, x, (6, 4), strict=True):
        roll = (frames[:length] >= 0.5).astype(np.uint8)
        np.testing.assert_array_equal(read_midi(score, 2).roll, roll)
        rate, samples = read_wav(recording)
        assert rate == SAMPLE_RATE
        np.testing.assert_array_equal(samples, render(roll, MUSIC.music))


def test_music_without_mido_is_rendered_all_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mido", None)
    with caplog.at_level(logging.WARNING):
        groups = save_files(tmp_path, rows_of(np.ones((1, 2, 88)), [2], ["samples"]), MUSIC)
    assert [[path.name for path in group] for group in groups] == [["sample_00.wav"]]
    assert [path.name for path in tmp_path.iterdir()] == ["sample_00.wav"]
    assert "no MIDI files are written: MIDI files need the package mido" in caplog.text


def test_text_becomes_lines_under_headings(tmp_path):
    x = np.array([[2, 3, 4, 0, 0], [0, 2, 2, 2, 2], [1, 4, 4, 4, 4]], np.int32)
    real = Row("real", "real", x, np.array([4, 1, 5], np.int32))
    continued = Row("completions", "2 given", x[::2], np.array([5, 5], np.int32), 2)
    (group,) = save_files(tmp_path, [real, continued], TEXT)
    assert [path.name for path in group] == ["samples.txt"]
    assert group[0].read_text(encoding="utf-8").splitlines() == [
        "# real",
        "",
        "a good film",
        "(no words)",
        "<unk> film film film film ...",
        "",
        '# 2 given ("|" follows what was given)',
        "",
        "a good | film",
        "<unk> film | film film film ...",
    ]


def test_a_sentence_that_ends_after_what_was_given_has_a_mark_at_its_end(tmp_path):
    row = Row("completions", "given", np.array([[2, 4, 0]], np.int32), np.array([3], np.int32), 2)
    ((path,),) = save_files(tmp_path, [row], TEXT)
    assert path.read_text().splitlines()[2] == "a film |"


@pytest.mark.parametrize(
    "spec",
    [
        DataSpec("images", "binary", 4, 4, (4, 4)),
        DataSpec("curves", "real", 4, 4),
        DataSpec("symbols", "symbol", 4, 4),
    ],
)
def test_other_data_has_no_such_files(tmp_path, spec):
    assert save_files(tmp_path / "new", rows_of(np.zeros((1, 4, 4)), [4]), spec) == []
    assert not (tmp_path / "new").exists()


def test_files_of_an_earlier_call_are_removed_and_no_others(tmp_path):
    x = np.zeros((3, 2, 4), np.float32)
    save_files(tmp_path, rows_of(x, [2, 2, 2]), SOUND)
    others = ["notes.txt", "sample_of_mine.wav", "sample_00.flac", "interpolations.md"]
    for name in others:
        (tmp_path / name).touch()
    save_files(tmp_path, rows_of(x[:1], [2], ["samples"]), SOUND)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "sample_00.wav"}


def test_a_group_of_files_is_one_line(tmp_path):
    paths = [tmp_path / f"sample_cool_{i:02d}.wav" for i in range(11)]
    assert as_line(paths) == f"{tmp_path}/sample_cool_{{00..10}}.wav"
    assert as_line(paths[:1]) == str(paths[0])


OF_MODELS = {
    "gaussian": DataSpec("sound", "real", factory.FRAME_SIZE, 8, sound=Sound(12)),
    "bernoulli": DataSpec("music", "binary", factory.FRAME_SIZE, 8, music=Music(60, 5.0)),
    "categorical": DataSpec(
        "text", "symbol", factory.VOCABULARY, 8, text=Text((*WORDS.vocabulary, "bad"))
    ),
}


@pytest.mark.parametrize(
    ("emission", "score_first_frame"),
    [
        slow_unless(scored == (emission == "gaussian"), emission, scored)
        for emission in OF_MODELS
        for scored in (True, False)
    ],
)
def test_all_that_a_model_makes_is_written(emission, score_first_frame, tmp_path):
    """From the model to the files: 4 sequences of each row, 16 of text, if there are as many."""
    spec, lengths = OF_MODELS[emission], np.array([8, 5, 6, 8, 7], np.int32)
    model = factory.build(emission, score_first_frame=score_first_frame)
    split = Split("test", factory.frames(emission, lengths.sum()), lengths)
    rows = gallery(model, split, extent(spec), temperature=0.5, seed=0)
    names = [name for name in PREFIXES if name != "samples_mean" or emission == "gaussian"]
    assert [row.name for row in rows] == names
    drawn = pictures.save_gallery(tmp_path / "samples.png", rows, spec)
    groups = save_files(tmp_path, rows, spec)
    assert all(path.stat().st_size for group in (drawn, *groups) for path in group)
    if emission == "categorical":
        assert (drawn, [[path.name for path in group] for group in groups]) == (
            [],
            [["samples.txt"]],
        )
        lines = groups[0][0].read_text().splitlines()
        assert len([line for line in lines if line and not line.startswith("#")]) == 25
        return
    kinds = [".wav"] if emission == "gaussian" else [".mid", ".wav"]
    assert [(len(group), group[0].suffix) for group in groups] == [
        (4, kind) for kind in kinds
    ] * len(names)
    seconds = {"gaussian": 8 * 3 / 12, "bernoulli": 6 * 5 + 0.08}[emission]
    rate, samples = read_wav(tmp_path / "sample_00.wav")
    assert len(samples) / rate == pytest.approx(seconds, abs=1 / rate)
