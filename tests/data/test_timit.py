"""TIMIT from copies as they are found: which utterances, in which split, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests import builder_case
from tests.data.recording_files import cut, noise, write, write_sphere
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.recordings import resampled
from zforcing_tf.data.spec import Dataset
from zforcing_tf.data.timit import Timit
from zforcing_tf.errors import UserError

SPEAKERS = {
    "TRAIN": {1: ["FCJF0", "MDAC0"], 2: ["MABC0"]},
    "TEST": {1: ["FAKS0"], 8: ["MBCG0"]},
}
COUNTS = {"train": (2, 1, 0, 0, 0, 0, 0, 0), "test": (1, 0, 0, 0, 0, 0, 0, 1)}
SENTENCES = ("SA1", "SA2", "SX37")
KEYS = [
    f"{folder}/DR{region}/{speaker}/{sentence}"
    for folder, regions in SPEAKERS.items()
    for region, speakers in regions.items()
    for speaker in speakers
    for sentence in SENTENCES
]
SAMPLES = {key.lower(): noise(40 + 10 * k, k) for k, key in enumerate(KEYS)}


def make_copy(folder: Path, name: Callable[[str], str] = str, suffix: str = ".WAV") -> Path:
    """A copy of three training and two test speakers, with three sentences each."""
    for key in KEYS:
        path = folder / name(f"{key}{suffix}")
        write_sphere(path, SAMPLES[key.lower()])
        text = folder / name(f"{key}.TXT")
        text.write_text(f"0 {len(SAMPLES[key.lower()])} Words of {key}.\n")
    return folder


class SmallTimit(Timit):
    """Three training and two test speakers."""

    SPEAKERS = COUNTS
    SENTENCES = 3
    NUM_VALIDATION = 2


class TimitBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = Timit
    SPLITS = {"train": 7, "validation": 2, "test": 6}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        make_copy(folder)
        small = mock.patch.multiple(
            Timit,
            SPEAKERS=SmallTimit.SPEAKERS,
            SENTENCES=SmallTimit.SENTENCES,
            NUM_VALIDATION=SmallTimit.NUM_VALIDATION,
        )
        small.start()
        cls.addClassCleanup(small.stop)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPEAKERS", "SENTENCES", "NUM_VALIDATION"):
        monkeypatch.setattr(Timit, name, getattr(SmallTimit, name))


def load(data_dir: Path, copy: Path | str, **settings: Any) -> Dataset:
    settings = {"frame_size": 10, **settings}
    return registry.load(
        DataConfig(dataset="timit", data_dir=str(data_dir), manual_dir=str(copy), **settings)
    )


def assert_these(dataset: Dataset, expected: list[list[str]]) -> None:
    sound = dataset.spec.sound
    assert sound is not None
    for split, keys in zip(dataset.splits, expected, strict=True):
        sequences = np.split(sound.samples(split.values), np.cumsum(split.lengths)[:-1])
        for sequence, key in zip(sequences, keys, strict=True):
            np.testing.assert_array_equal(sequence, SAMPLES[key].reshape(-1, 10))


def by_rule() -> list[list[str]]:
    train, test = (sorted(k for k in SAMPLES if k.startswith(name)) for name in ("train", "test"))
    order = np.random.RandomState(0).permutation(9)
    return [[train[k] for k in sorted(order[2:])], [train[k] for k in sorted(order[:2])], test]


@pytest.mark.usefixtures("small")
def test_copies_of_all_kinds_are_the_same(tmp_path: Path) -> None:
    upper = load(tmp_path / "1", make_copy(tmp_path / "upper"))
    assert_these(upper, by_rule())
    assert upper.spec.name == "timit"
    lower = make_copy(tmp_path / "lower" / "timit", str.lower, ".wav.wav")
    assert_these(load(tmp_path / "2", lower.parent), by_rule())
    both = make_copy(tmp_path / "both")
    for key in KEYS:
        write(both / f"{key}.RIFF.WAV", SAMPLES[key.lower()])
    assert_these(load(tmp_path / "3", both), by_rule())
    # What is prepared needs the copy no more, at whatever rate and frame size.
    half = load(tmp_path / "3", "", sample_rate=8000, frame_size=5)
    first = resampled(SAMPLES["test/dr1/faks0/sa1"], 16000, 8000)
    assert half.spec.sound is not None
    assert half.spec.sound.sample_rate == 8000
    frames = half.test.values[: half.test.lengths[0]]
    np.testing.assert_array_equal(half.spec.sound.samples(frames), first.reshape(-1, 5))
    assert not any("resampling" in note for note in half.notes)
    assert load(tmp_path / "3", "", sample_rate=32000).notes[-1] == (
        f"timit: {len(SAMPLES)} recordings of 16000 samples a second made 32000 by resampling, "
        "with nothing above 8000 Hz"
    )


def test_metadata(tmp_path: Path) -> None:
    builder = SmallTimit(data_dir=tmp_path / "prepared")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=make_copy(tmp_path / "copy"))
    )
    record = list(tfds.as_numpy(builder.as_dataset(split="test")))[-1]
    np.testing.assert_array_equal(record.pop("audio"), SAMPLES["test/dr8/mbcg0/sx37"])
    assert record == {
        "name": b"dr8/mbcg0/sx37",
        "speaker": b"mbcg0",
        "sex": 1,
        "dialect_region": 8,
        "sentence": b"sx37",
        "text": b"Words of TEST/DR8/MBCG0/SX37.",
    }


def test_the_real_counts_are_demanded(tmp_path: Path) -> None:
    assert sum(Timit.SPEAKERS["train"]) * Timit.SENTENCES == 4620
    assert sum(Timit.SPEAKERS["test"]) * Timit.SENTENCES == 1680
    assert Timit.NUM_VALIDATION == 231
    both = [a + b for a, b in zip(Timit.SPEAKERS["train"], Timit.SPEAKERS["test"], strict=True)]
    assert both == [49, 102, 102, 100, 98, 46, 100, 33]
    copy = make_copy(tmp_path / "copy")
    with pytest.raises(UserError) as error:
        load(tmp_path, copy)
    assert str(error.value).startswith(
        f"{copy} is no complete copy of TIMIT: TRAIN/DR1 has 2 of 38 speakers; TRAIN/DR1/FCJF0 has "
        "3 of 10 utterances; "
    )
    assert str(error.value).endswith(" more: copy it anew from the release LDC93S1")


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    copy = make_copy(tmp_path / "copy")
    (copy / "DOC").mkdir()
    (copy / "DOC" / "SPKRINFO.TXT").write_text(
        "; ID  Sex DR Use\nCJF0  F  1  TRN  02/07/86\nDAC0  M  1  TRN  02/07/86\n"
        "AKS0  F  1  TST  02/07/86\n"
    )
    (copy / "TEST" / "DR8" / "MBCG0" / "SA2.WAV").unlink()
    shutil.rmtree(copy / "TRAIN" / "DR1" / "MDAC0")
    shutil.rmtree(copy / "TRAIN" / "DR2")
    for skip in (False, True):
        with pytest.raises(UserError) as error:
            load(tmp_path, copy, skip_bad_records=skip)
        assert str(error.value) == (
            f"{copy} is no complete copy of TIMIT: TRAIN/DR1 has 1 of 2 speakers (mdac0 missing); "
            "TRAIN/DR2 has none of 1 speakers; TEST/DR8/MBCG0 has 2 of 3 utterances: copy it anew "
            "from the release LDC93S1"
        )
    shutil.rmtree(copy / "TRAIN")
    with pytest.raises(UserError, match="is no copy of TIMIT, for it has no folders TRAIN and TE"):
        load(tmp_path, copy)


@pytest.mark.usefixtures("small")
def test_bad_utterances(tmp_path: Path) -> None:
    copy = make_copy(tmp_path / "copy")
    bad = cut(copy / "TRAIN" / "DR2" / "MABC0" / "SA1.WAV", 0.99)
    with pytest.raises(UserError, match=f"{bad} is truncated"):
        load(tmp_path, copy)
    dataset = load(tmp_path, copy, skip_bad_records=True)
    expected = [[k for k in keys if k != "train/dr2/mabc0/sa1"] for keys in by_rule()]
    assert_these(dataset, expected)
    assert [reason.split(":")[0] for reason in dataset.skipped] == ["TRAIN/DR2/MABC0/SA1.WAV"]
    shutil.copy(bad.with_name("SA2.WAV"), bad)
    with pytest.raises(UserError, match=r"SA2.WAV is a copy of .*SA1.WAV: remove one"):
        load(tmp_path / "other", copy)


@pytest.mark.usefixtures("small")
def test_what_was_prepared_of_other_files(tmp_path: Path) -> None:
    """A copy that was mended, or another one, is not taken for what was prepared before."""
    copy = make_copy(tmp_path / "copy")
    dataset = load(tmp_path, copy)
    assert load(tmp_path, "").train.num_sequences == dataset.train.num_sequences
    moved = copy.rename(tmp_path / "elsewhere")
    load(tmp_path, moved)
    cut(moved / "TRAIN" / "DR2" / "MABC0" / "SA1.WAV", 0.5)
    with pytest.raises(UserError, match="holds other files than those that the dataset 'timit'"):
        load(tmp_path, moved)
    load(tmp_path, "")
    with pytest.raises(UserError, match="is one file: TIMIT is sold by the Linguistic"):
        load(tmp_path, moved / "TRAIN" / "DR2" / "MABC0" / "SA1.WAV")


@pytest.mark.usefixtures("small")
def test_not_given_or_of_another_rate(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give your copy with --manual_dir. TIMIT is sold by the"):
        load(tmp_path / "of_it", "")
    (tmp_path / "empty").mkdir()
    for given, reason in (("", "no --manual_dir is given"), ("empty", "is missing or empty")):
        path = tmp_path / given if given else ""
        with pytest.raises(UserError, match=rf"^dataset 'timit' .* \(.*{reason}\): give your copy"):
            load(tmp_path / "of_it", path)
    assert not list((tmp_path / "of_it").glob("timit/[!.]*"))
    copy = make_copy(tmp_path / "copy")
    for key in KEYS:
        write_sphere(copy / f"{key}.WAV", SAMPLES[key.lower()], 8000)
    with pytest.raises(UserError, match="has 8000 samples a second instead of 16000: copy it anew"):
        load(tmp_path, copy)
