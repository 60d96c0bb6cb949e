"""Music in folders of MIDI files: which are for training, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from tests import builder_case
from tests.piano_rolls import (
    Roll,
    assert_nothing_prepared,
    assert_rolls,
    config,
    joined,
    roll,
    save,
)
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.description import Music
from zforcing_tf.data.midi import write_midi
from zforcing_tf.data.piano_roll import PianoRoll
from zforcing_tf.errors import UserError


def write_song(path: Path, length: int, seed: int, step_seconds: float = 0.25) -> Roll:
    """A MIDI file of two steps a beat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = roll(length, seed)
    write_midi(path, rows, Music(21, step_seconds))
    return rows


class PianoRollBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder, on a folder of MIDI files."""

    DATASET_CLASS = PianoRoll
    SPLITS = {"train": 9, "validation": 1, "test": 1}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        for seed in range(11):
            write_song(folder / f"{seed}.mid", 5 + seed, seed)


def write_folder(folder: Path, count: int) -> dict[str, Roll]:
    """Files in two folders and of both suffixes."""
    names = [f"{'ab'[k % 2]}/{k:02}{('.mid', '.MIDI')[k % 2]}" for k in range(count)]
    return {name: write_song(folder / name, 5 + k, k) for k, name in enumerate(names)}


@pytest.mark.parametrize(("count", "held_out"), [(3, 1), (20, 2), (29, 2)])
def test_folder_without_splits(tmp_path: Path, count: int, held_out: int) -> None:
    songs = write_folder(tmp_path / "v1.songs", count)
    (tmp_path / "v1.songs" / "readme.txt").write_text("These are my songs.")
    dataset = registry.load(config(tmp_path / "v1.songs"))
    order = np.random.RandomState(0).permutation(count)
    places = {
        "train": order[: count - 2 * held_out],
        "validation": order[count - 2 * held_out : count - held_out],
        "test": order[count - held_out :],
    }
    rolls = [songs[name] for name in sorted(songs)]
    expected = {split: [rolls[k] for k in sorted(chosen)] for split, chosen in places.items()}
    assert_rolls(dataset, expected)
    assert dataset.spec.name == "piano_roll/v1.songs"
    assert dataset.skipped == ()


@pytest.mark.parametrize("validation", ["valid", "validation"])
def test_folder_with_splits(tmp_path: Path, validation: str) -> None:
    folder = tmp_path / "songs"
    expected = {
        "train": [write_song(folder / "train" / f"{k}.mid", 4 + k, k) for k in range(2)],
        "validation": [write_song(folder / validation / "deep" / "0.mid", 9, 5)],
        "test": [write_song(folder / "test" / "0.mid", 8, 6)],
    }
    write_song(folder / "elsewhere.mid", 8, 7)
    assert_rolls(registry.load(config(folder)), expected)


def test_half_of_the_splits(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    for name in ("train/0", "train/1", "test/0"):
        write_song(folder / f"{name}.mid", 5, len(name))
    sentence = rf"test of {folder}, valid \(or validation or dev\) is missing, so there are no MIDI"
    with pytest.raises(UserError, match=sentence):
        registry.load(config(folder))


def test_steps_follow_the_flag_and_the_median_tempo(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    for k, step_seconds in enumerate([0.2, 0.3, 0.9]):  # of half a beat
        write_song(folder / "train" / f"{k}.mid", 6, k, step_seconds)
    for name in ("valid", "test"):
        write_song(folder / name / "0.mid", 6, len(name), 0.1)
    halves = registry.load(config(folder))
    assert halves.spec.music == Music(21, pytest.approx(0.3))
    quarters = registry.load(config(folder, steps_per_beat=4))
    assert quarters.spec.music == Music(21, pytest.approx(0.15))
    np.testing.assert_array_equal(quarters.train.values, np.repeat(halves.train.values, 2, axis=0))


def test_bad_midi_files(tmp_path: Path) -> None:
    """Refused by name, or left out and listed; the others are divided by rule."""
    folder = tmp_path / "songs"
    songs = write_folder(folder, 20)
    order = np.random.RandomState(0).permutation(20)
    train, test = ([sorted(songs)[k] for k in sorted(part)] for part in (order[:16], order[18:]))
    (silent, original, text), (_, copied) = train[:3], test
    mido.MidiFile(tracks=[mido.MidiTrack()]).save(folder / silent)
    with pytest.raises(UserError, match=rf"{folder / silent} has no note \(drums .*\): leave it"):
        registry.load(config(folder))
    (folder / text).write_text("no notes")
    (folder / copied).write_bytes((folder / original).read_bytes())
    dataset = registry.load(config(folder, skip_bad_records=True))
    assert dataset.skipped == (
        f"{silent}: has no note (drums are left out)",
        f"{text}: is no MIDI file",
        f"{copied}: is a copy of {folder / original}",
    )
    left = sorted(set(songs) - {silent, text, copied})
    parts = np.split(np.random.RandomState(0).permutation(17), [15, 16])
    expected = {
        split: [songs[left[k]] for k in sorted(part)]
        for split, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    assert_rolls(dataset, expected)
    again = registry.load(config(folder, skip_bad_records=True))
    assert again.skipped == dataset.skipped


def test_a_copy_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    write_folder(folder, 3)
    (folder / "a" / "02.mid").write_bytes((folder / "a" / "00.mid").read_bytes())
    with pytest.raises(UserError, match=r"\.mid is a copy of .*\.mid: leave one of them out"):
        registry.load(config(folder))
    assert_nothing_prepared(tmp_path)


def test_a_split_of_bad_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    for seed, name in enumerate(("train", "valid", "test")):
        write_song(folder / name / "0.mid", 6, seed)
    (folder / "test" / "0.mid").write_bytes(b"")
    sentence = rf"test has no MIDI files .* that can be used \({folder}/test/0.mid: is an"
    with pytest.raises(UserError, match=sentence):
        registry.load(config(folder, skip_bad_records=True))
    assert_nothing_prepared(tmp_path)


def test_too_few_files(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    with pytest.raises(UserError, match=rf"{folder} holds no MIDI files \(.mid, .midi\): give a f"):
        registry.load(config(folder))
    for name in ("one.npz", "two.npz"):
        save(folder / name, joined(True))
    with pytest.raises(UserError, match="holds no MIDI files but one.npz, two.npz: give the path"):
        registry.load(config(folder))
    write_folder(folder, 2)
    with pytest.raises(UserError, match=f"{folder} holds 2 MIDI files .*: give at least 3, one"):
        registry.load(config(folder))
    with pytest.raises(UserError, match=r"00\.mid is one MIDI file: give a folder of at least 3"):
        registry.load(config(folder / "a" / "00.mid"))


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dataset=piano_roll needs --manual_dir: give a folder "):
        registry.load(DataConfig("piano_roll", data_dir=str(tmp_path)))
    with pytest.raises(
        UserError, match=f"--manual_dir={tmp_path}/no does not exist: give a folder"
    ):
        registry.load(config(tmp_path / "no"))
