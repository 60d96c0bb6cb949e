"""Data of a run: the same as it was trained on, or refused before anything is written."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from zforcing_tf.config import DataConfig
from zforcing_tf.data import identity
from zforcing_tf.data.description import Sound
from zforcing_tf.data.spec import Dataset, DataSpec, Split
from zforcing_tf.errors import UserError
from zforcing_tf.training.fit import fit
from zforcing_tf.training.run_data import load_data
from zforcing_tf.training.run_directory import RunDirectory

LENGTHS = {"train": (7, 5, 9), "validation": (4, 6), "test": (8,)}


def dataset(seed=0, **spec):
    rng = np.random.default_rng(seed)
    splits = (
        Split(name, rng.normal(size=(sum(counts), 3)).astype(np.float32), np.int32(counts))
        for name, counts in LENGTHS.items()
    )
    return Dataset(DataSpec("mine", "real", 3, 9, **spec), *splits)


def changes(one, other):
    return identity.differences(identity.described(one), identity.described(other))


def test_the_same_data_has_no_differences():
    assert changes(dataset(), dataset()) == []
    renamed = dataclasses.replace(dataset(), spec=DataSpec("moved", "real", 3, 9))
    assert changes(dataset(), renamed) == []
    pieces = dataclasses.replace(dataset(), train=dataset().train.cut(2))
    assert changes(dataset(), pieces) == []
    rounded = dataset(sound=Sound(16000, 0.1 + 1e-9, 0.7))
    assert changes(dataset(sound=Sound(16000, 0.1, 0.7)), rounded) == []
    assert identity.spec_of(identity.described(dataset())) == dataset().spec


def test_what_differs_is_said():
    assert changes(dataset(), dataset(seed=1)) == [
        f"other frames in {name}" for name in ("train", "validation", "test")
    ]
    shorter = dataset().test
    shorter = Split("test", shorter.values[:7], np.int32([7]))
    shorter = dataclasses.replace(dataset(), test=shorter)
    assert changes(dataset(), shorter) == ["test steps 7 instead of 8"]
    other = dataset(sound=Sound(8000))
    assert changes(dataset(sound=Sound(16000)), other) == [
        "sound sample_rate 8000 instead of 16000"
    ]


def test_two_frames_that_change_places_are_noticed():
    other = dataset()
    other.train.values[[3, 4]] = other.train.values[[4, 3]]
    assert changes(dataset(), other) == ["other frames in train"]


def test_a_word_that_took_the_place_of_another_is_said():
    words = [f"w{i}" for i in range(6)]
    description = {"text": {"vocabulary": words}}
    other = {"text": {"vocabulary": [*words[:5], "new"]}}
    found = identity.differences(description, other)
    assert found == ["text vocabulary has 'new' instead of 'w5' at 5"]
    longer = {"text": {"vocabulary": [*words, "new"]}}
    assert identity.differences(description, longer) == ["text vocabulary of 7 instead of 6"]


def test_a_run_of_an_earlier_version_is_compared_by_its_spec():
    description = dataset().spec.to_json()
    assert identity.differences(description, identity.described(dataset(seed=1))) == []
    wider = {**description, "frame_size": 4}
    found = identity.differences(wider, identity.described(dataset()))
    assert found == ["frame_size 3 instead of 4"]


def write(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"train": (8, 5, 2), "validation": (4, 5, 2), "test": (4, 5, 2)}
    np.savez(path, **{name: rng.normal(size=shape) for name, shape in shapes.items()})


def contents(folder):
    """All but the lock, which each attempt holds."""
    files = sorted(path for path in folder.rglob("*") if path.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_run_does_not_go_on_with_other_data(experiment, changed, tmp_path):
    file, run_dir = tmp_path / "mine.npz", tmp_path / "run"
    write(file, seed=0)
    data = DataConfig("array", manual_dir=os.fspath(file), data_dir=os.fspath(tmp_path / "tfds"))
    experiment = dataclasses.replace(changed(experiment, batch_size=4, train_epochs=1), data=data)
    fit(experiment)
    write(file, seed=1)
    before = contents(run_dir)
    wrong = "was trained on other data than is there now \\(other frames in train; other frames"
    with pytest.raises(UserError, match=wrong):
        fit(changed(experiment, train_epochs=2))
    with pytest.raises(UserError, match=wrong):
        load_data(RunDirectory(run_dir), data)
    assert contents(run_dir) == before
    other = changed(experiment, batch_size=5)  # said first: it is another experiment altogether
    with pytest.raises(UserError, match="holds another experiment"):
        fit(other)


def test_data_that_has_moved_is_named_and_found(experiment, changed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("mine.npz"), seed=0)
    data = DataConfig("array", manual_dir="mine.npz", data_dir=os.fspath(tmp_path / "tfds"))
    experiment = dataclasses.replace(changed(experiment, batch_size=4, train_epochs=1), data=data)
    fit(experiment)
    run = RunDirectory(experiment.run.run_dir)
    moved = tmp_path / "elsewhere" / "ours.npz"
    moved.parent.mkdir()
    Path("mine.npz").rename(moved)
    with pytest.raises(UserError) as caught:
        load_data(run, data)
    assert str(caught.value) == (
        f"the data of {run.path} is no longer at mine.npz (seen from {tmp_path}): "
        "say with --manual_dir where it is now"
    )
    found = load_data(run, data, manual_dir=os.fspath(moved))
    assert found.train.lengths.tolist() == [5] * 8
    again = dataclasses.replace(data, manual_dir=os.fspath(moved))
    fit(changed(dataclasses.replace(experiment, data=again), train_epochs=2))
