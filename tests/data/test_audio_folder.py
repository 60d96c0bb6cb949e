"""A folder of recordings, or arrays of them: which in which split, as which frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests import builder_case
from tests.data.recording_files import cut, noise, write
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.audio_folder import AudioFolder
from zforcing_tf.data.companding import mu_law
from zforcing_tf.data.recordings import resampled
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError

RATE = 16000


class AudioFolderBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder."""

    DATASET_CLASS = AudioFolder
    SPLITS = {"train": 8, "validation": 1, "test": 1}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        for k in range(10):
            write(folder / f"{k}.wav", noise(300 + k, k), RATE)


def load(folder: Path, **settings: Any) -> Dataset:
    data_dir = str(folder.parent / "prepared")
    settings = {"frame_size": 10, "sample_rate": RATE, **settings}
    return registry.load(
        DataConfig(dataset="audio_folder", data_dir=data_dir, manual_dir=str(folder), **settings)
    )


def frames(samples: npt.NDArray[np.int16], size: int = 10) -> npt.NDArray[np.int16]:
    return samples[: len(samples) // size * size].reshape(-1, size)


def rows(dataset: Dataset) -> list[list[npt.NDArray[np.int16]]]:
    """Samples of each sequence of each split."""
    assert dataset.spec.sound is not None
    return [
        np.split(dataset.spec.sound.samples(s.values), np.cumsum(s.lengths)[:-1])
        for s in dataset.splits
    ]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train, Dev and test, of several forms; one is shorter than a frame."""
    folder = tmp_path / "mine"
    write(folder / "train" / "a.wav", noise(105, 1))
    write(folder / "train" / "below" / "b.FLAC", noise(200, 2), format="FLAC")
    write(folder / "train" / "short.wav", noise(9, 3))
    write(folder / "Dev" / "c.wav", noise(40, 4), subtype="FLOAT")
    write(folder / "test" / "d.wav", noise(30, 5), format="NIST")
    write(folder / "elsewhere" / "e.wav", noise(50, 6))
    (folder / "train" / "readme.txt").write_text("no sound")
    (folder / "train" / "._a.wav").write_text("what macOS leaves")
    return folder


def test_folders_are_splits(folders: Path) -> None:
    dataset = load(folders)
    expected = [[(105, 1), (200, 2)], [(40, 4)], [(30, 5)]]
    for split, given in zip(rows(dataset), expected, strict=True):
        for sequence, (count, seed) in zip(split, given, strict=True):
            np.testing.assert_array_equal(sequence, frames(noise(count, seed)))
    assert dataset.spec.name == "audio_folder/mine"
    assert (dataset.spec.kind, dataset.spec.frame_size, dataset.spec.max_length) == ("real", 10, 20)
    assert dataset.skipped == ()
    assert dataset.notes == (
        "audio_folder/mine train: 1 recording shorter than a frame of 10 samples left out "
        "(train/short.wav)",
    )


def test_links(folders: Path) -> None:
    """Those that lead round and round are not followed, one that leads nowhere is named."""
    elsewhere = folders.parent / "more"
    write(elsewhere / "f.wav", noise(70, 7))
    (folders / "train" / "more").symlink_to(elsewhere)
    (folders / "train" / "below" / "round").symlink_to(folders)
    assert load(folders).train.lengths.tolist() == [10, 20, 7]
    nowhere = folders / "test" / "lost.wav"
    nowhere.symlink_to("no.wav")
    with pytest.raises(UserError, match=f"{nowhere} is a link to no.wav, which is not there: mend"):
        load(folders)


def test_standardised_by_the_training_split(folders: Path) -> None:
    dataset = load(folders)
    train = np.concatenate([frames(noise(105, 1)), frames(noise(200, 2))]).astype(float)
    test = frames(noise(30, 5))
    np.testing.assert_allclose(
        dataset.test.values, (test - train.mean()) / train.std(), rtol=1e-4, atol=1e-5
    )
    assert abs(dataset.train.values.mean()) < 1e-6
    assert abs(dataset.train.values.std() - 1) < 1e-6
    for split in dataset.splits:
        assert split.limits == (split.values.min(), split.values.max())


def test_other_scales(folders: Path) -> None:
    linear, companded = (load(folders, sound_scale=scale) for scale in ("linear", "mu_law"))
    test = frames(noise(30, 5)) / np.float32(32768)
    np.testing.assert_array_equal(linear.test.values, test)
    np.testing.assert_array_equal(companded.test.values, mu_law(test, 16))
    for dataset in (linear, companded):
        assert dataset.spec.sound is not None
        assert (dataset.spec.sound.loc, dataset.spec.sound.scale) == (0, 1)


def test_resampled(folders: Path) -> None:
    dataset = load(folders, sample_rate=8000)
    np.testing.assert_array_equal(rows(dataset)[2][0], frames(resampled(noise(30, 5), RATE, 8000)))
    assert dataset.spec.sound is not None
    assert dataset.spec.sound.sample_rate == 8000
    as_they_are = load(folders, sample_rate=0)
    np.testing.assert_array_equal(rows(as_they_are)[2][0], frames(noise(30, 5)))
    assert as_they_are.spec.sound is not None
    assert as_they_are.spec.sound.sample_rate == RATE
    assert not any("resampling" in note for note in (*as_they_are.notes, *dataset.notes))
    for _ in range(2):  # prepared, and read again
        assert load(folders, sample_rate=2 * RATE).notes[-1] == (
            f"audio_folder/{folders.name}: 5 recordings of {RATE} samples a second made {2 * RATE} "
            f"by resampling, with nothing above {RATE // 2} Hz"
        )


def test_frame_size(folders: Path) -> None:
    dataset = load(folders, frame_size=25)
    assert [split.lengths.tolist() for split in dataset.splits] == [[4, 8], [1], [1]]


def test_split_by_rule(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    names = [f"{'b' if k % 2 else 'a'}/{k:02d}.wav" for k in range(20)]
    for k, name in enumerate(names):
        write(folder / name, noise(10 * (k + 1), k))
    order = np.random.RandomState(0).permutation(20)
    by_path = sorted(range(20), key=lambda k: names[k])
    expected = [[by_path[k] for k in sorted(p)] for p in np.split(order, [16, 18])]
    for split, given in zip(rows(load(folder)), expected, strict=True):
        assert [len(sequence) - 1 for sequence in split] == given


def test_changed_files_are_prepared_anew(folders: Path) -> None:
    before = load(folders)
    write(folders / "test" / "d.wav", noise(60, 7))
    assert before.test.num_frames == 3
    np.testing.assert_array_equal(rows(load(folders))[2][0], frames(noise(60, 7)))


def test_copies(folders: Path) -> None:
    shutil.copy(folders / "train" / "a.wav", folders / "test" / "z.wav")
    with pytest.raises(UserError) as error:
        load(folders)
    assert str(error.value) == (
        f"{folders}/test/z.wav is a copy of {folders}/train/a.wav: remove one of them; "
        "--skip_bad_records goes on without such files"
    )
    dataset = load(folders, skip_bad_records=True)
    assert dataset.test.num_sequences == 1
    assert dataset.skipped == (f"test/z.wav: is a copy of {folders}/train/a.wav",)


def test_bad_recordings_are_named_or_left_out(folders: Path) -> None:
    write(folders / "train" / "stereo.wav", np.stack([noise(50), noise(50)], 1))
    cut(write(folders / "Dev" / "cut.wav", noise(50)), 0.5)
    with pytest.raises(UserError, match="train/stereo.wav has 2 channels instead of one: mix"):
        load(folders)
    assert not list((folders.parent / "prepared").rglob("*.tfrecord*"))
    for _ in range(2):  # prepared, and read again
        dataset = load(folders, skip_bad_records=True)
        assert [split.num_sequences for split in dataset.splits] == [2, 1, 1]
        assert dataset.skipped == (
            "train/stereo.wav: has 2 channels instead of one",
            "Dev/cut.wav: is truncated: at least 72 of its 144 bytes are missing",
        )


def test_what_can_be_used_is_divided_by_rule(tmp_path: Path) -> None:
    """Where only 5 of 9 recordings are good, each split has one."""
    folder = tmp_path / "mine"
    for k in range(9):
        path = write(folder / f"{k}.wav", noise(100 + 10 * k, k))
        if k % 2:
            cut(path, 0.5)
    shutil.copy(folder / "0.wav", folder / "9.wav")
    dataset = load(folder, skip_bad_records=True)
    assert [split.num_sequences for split in dataset.splits] == [3, 1, 1]
    names = sorted(n for split in dataset.splits for n in split.names)
    assert set(names) - {"0.wav", "9.wav"} == {f"{k}.wav" for k in (2, 4, 6, 8)}
    assert len(dataset.skipped) == 5
    for k in (2, 4, 6):
        cut(folder / f"{k}.wav", 0.5)
    with pytest.raises(UserError, match=r"mine holds 2 recordings .* that can be used: give at le"):
        load(folder, skip_bad_records=True)


def test_half_of_the_folders(folders: Path) -> None:
    for name in ("Dev", "test"):
        shutil.rmtree(folders / name)
    with pytest.raises(UserError, match=r"valid \(or validation or dev\) is missing, so"):
        load(folders)


def test_headers_that_say_what_cannot_be(folders: Path) -> None:
    path = folders / "train" / "a.wav"
    data = bytearray(path.read_bytes())
    data[24:28] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train/a.wav says that it has 2147483647 samples a secon"):
        load(folders)
    skipped = load(folders, skip_bad_records=True).skipped
    assert len(skipped) == 1
    assert skipped[0].startswith("train/a.wav: says that it has 2147483647 samples")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_files_that_cannot_be_found(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = folders / "train" / "p.wav"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="train/p.wav is no file but a device or pipe: take it awa"):
        load(folders)
    pipe.unlink()
    odd = os.fsencode(folders / "train") + b"/caf\xe9.wav"
    os.rename(folders / "train" / "a.wav", odd)
    with pytest.raises(UserError, match=r"train/caf\\xe9.wav has a name that is not in UTF-8: ren"):
        load(folders)
    os.remove(odd)

    def refused(directory: Any, *arguments: Any, **named: Any) -> Any:
        if str(directory).endswith("below"):
            raise PermissionError(13, "Permission denied", str(directory))
        return scandir(directory, *arguments, **named)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"train/below cannot be read \(Permission denied\): see"):
        load(folders)


def test_nothing_left_of_a_split(folders: Path) -> None:
    cut(folders / "test" / "d.wav", 0.99)
    with pytest.raises(UserError, match=r"test has no .* \(.*/test/d.wav: is truncated: .*\): g"):
        load(folders, skip_bad_records=True)


def test_all_shorter_than_a_frame(folders: Path) -> None:
    with pytest.raises(UserError) as error:
        load(folders, frame_size=41)
    assert str(error.value) == (
        "split 'validation' of dataset 'audio_folder' has no sequence of at least one step "
        "(Dev/c.wav): a step is 41 samples at 16000 a second, so give longer recordings in it, "
        "take away those that are shorter if it was divided by rule, or make --frame_size less"
    )


def test_silence(folders: Path) -> None:
    for path in (folders / "train").rglob("*.*"):
        path.unlink()
    write(folders / "train" / "a.wav", np.zeros(100, np.int16))
    with pytest.raises(UserError, match="nothing but one number, 0, such as silence"):
        load(folders)
    assert (load(folders, sound_scale="linear").train.values == 0).all()


def test_wrong_folders(tmp_path: Path, folders: Path) -> None:
    for settings, message in [
        ({"manual_dir": ""}, "--dataset=audio_folder needs --manual_dir: give a folder of recor"),
        ({"manual_dir": str(tmp_path / "no")}, "no does not exist: give a folder of recordings"),
        ({"manual_dir": str(folders / "Dev" / "c.wav")}, "is one file: give a folder of recordi"),
        (
            {"manual_dir": str(folders / "train" / "below")},
            "below holds 1 recordings .* at least 3",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            registry.load(DataConfig(dataset="audio_folder", data_dir=str(tmp_path), **settings))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty holds no recordings .* give at least 3"):
        load(empty)
    shutil.rmtree(folders / "Dev")
    with pytest.raises(
        UserError, match="valid \\(or validation or dev\\) is missing, so there are no"
    ):
        load(folders)
    (folders / "valid").mkdir()
    with pytest.raises(UserError, match="valid \\(or validation or dev\\) has no recordings"):
        load(folders)


def joined(path: Path, **arrays: Any) -> Path:
    audio = [noise(10 * (k + 1), k) for k in range(4)]
    content: dict[str, Any] = {
        "audio": np.concatenate(audio),
        "length": np.array([len(samples) for samples in audio]),
        "split": np.array([0, 1, 2, 0], np.uint8),
        "rate": np.int64(8000),
    }
    np.savez(path, **{k: v for k, v in (content | arrays).items() if v is not None})
    return path


def test_joined_arrays(tmp_path: Path) -> None:
    dataset = load(joined(tmp_path / "digits.npz"), sample_rate=8000)
    expected = [[noise(10, 0), noise(40, 3)], [noise(20, 1)], [noise(30, 2)]]
    for split, given in zip(rows(dataset), expected, strict=True):
        for sequence, samples in zip(split, given, strict=True):
            np.testing.assert_array_equal(sequence, frames(samples))
    assert dataset.spec.name == "audio_folder/digits"
    twice = load(tmp_path / "digits.npz", sample_rate=16000)
    np.testing.assert_array_equal(rows(twice)[2][0], frames(resampled(noise(30, 2), 8000, 16000)))
    assert twice.notes[-1] == (
        "audio_folder/digits: 4 recordings of 8000 samples a second made 16000 by resampling, with "
        "nothing above 4000 Hz"
    )
    as_they_are = load(tmp_path / "digits.npz", sample_rate=0)
    assert not as_they_are.notes
    assert as_they_are.spec.sound is not None
    assert as_they_are.spec.sound.sample_rate == 8000


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    tables = {
        k: noise(60, seed).reshape(3, 20) for seed, k in enumerate(["train", "valid", "test"])
    }
    np.savez(path, **tables)
    for split, table in zip(rows(load(path)), tables.values(), strict=True):
        np.testing.assert_array_equal(np.concatenate(split), frames(table.reshape(-1)))
        assert len(split) == 3
    with pytest.raises(UserError, match="small.npz does not say its sample rate: give it with --s"):
        load(path, sample_rate=0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"audio": np.zeros(100)}, r"audio of .* is float64 of shape \[100\]: give int16"),
        ({"length": np.array([1, 2, 3, 4])}, "length of .* does not fit its 100 samples"),
        ({"length": np.array([-10, 50, 30, 30])}, "length of .* does not fit its 100 samples"),
        ({"split": np.array([0, 1, 2, 3])}, "split of .* is not 0, 1 or 2 for each of 4"),
        ({"split": np.array([0, 1, 0, 0])}, "has no recording of split 'test': give at least"),
        ({"length": np.array([0, 30, 30, 40])}, "recording 0 of .* has no samples: leave it"),
        ({"audio": None}, "holds neither the arrays audio, length and split nor train, valid"),
        ({"audio": np.array([{}])}, "cannot be read as an npz file of plain arrays .* make it"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(joined(tmp_path / "bad.npz", **arrays))


def test_recordings_without_samples_are_left_out(tmp_path: Path) -> None:
    path = joined(tmp_path / "bad.npz", length=np.array([0, 30, 30, 40]))
    dataset = load(path, skip_bad_records=True)
    assert [split.num_sequences for split in dataset.splits] == [1, 1, 1]
    assert dataset.skipped == ("bad.npz[0]: has no samples",)
    assert dataset.train.names == ("bad.npz[3]",)


@pytest.mark.parametrize("rate", [-16000, 0.5, np.nan, "16k", [1, 2]])
def test_rates_that_are_none(tmp_path: Path, rate: Any) -> None:
    with pytest.raises(UserError, match=r"^rate of .*/bad.npz is \[.*\]: give one whole number"):
        load(joined(tmp_path / "bad.npz", rate=np.array(rate)))
