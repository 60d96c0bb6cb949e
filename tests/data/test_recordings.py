"""Reading one recording: exact samples, and each fault named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from tests.data.recording_files import cut, noise, write, write_sphere
from zforcing_tf.data import recordings
from zforcing_tf.data.recordings import RecordingReader, read_recording, resampled
from zforcing_tf.errors import BadRecordError, UserError

SAMPLES = np.concatenate([noise(2500), np.array([-32768, 32767, 0, 1, -1], np.int16)])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.wav", {}),
        ("a.wav", {"format": "RF64"}),
        ("a.wav", {"format": "NIST"}),
        ("a.flac", {}),
        ("a.wav", {"endian": "BIG"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "DOUBLE"}),
    ],
)
def test_samples_are_exact(tmp_path: Path, name: str, settings: dict[str, str]) -> None:
    samples, rate, _ = read_recording(write(tmp_path / name, SAMPLES, 11025, **settings))
    np.testing.assert_array_equal(samples, SAMPLES)
    assert (samples.dtype, rate) == (np.int16, 11025)


@pytest.mark.parametrize("byte_order", ["01", "10"])
@pytest.mark.parametrize("name", ["SA1.WAV", "sa1.sph"])
def test_sphere(tmp_path: Path, name: str, byte_order: str) -> None:
    samples, rate, _ = read_recording(write_sphere(tmp_path / name, SAMPLES, byte_order=byte_order))
    np.testing.assert_array_equal(samples, SAMPLES)
    assert rate == 16000


def test_more_than_16_bits_are_rounded_and_clipped(tmp_path: Path) -> None:
    given = np.array([0.4, 0.6, -0.6, 32767.4, 40000.0, -40000.0, 100.5, 101.5]) / 32768
    samples, *_ = read_recording(write(tmp_path / "a.wav", given, subtype="FLOAT"))
    assert samples.tolist() == [0, 1, -1, 32767, 32767, -32768, 100, 102]


@pytest.mark.parametrize(("name", "error"), [("a.ogg", 0.05), ("a.mp3", 0.1)])
def test_lossy_forms(tmp_path: Path, name: str, error: float) -> None:
    """A tone of 16 bits comes back but for a share of its power; mp3 may pad its ends."""
    tone = np.sin(np.arange(16000) * 0.1) * 8000
    samples, rate, _ = read_recording(write(tmp_path / name, tone.astype(np.int16)))
    middle = samples[4000:12000].astype(float)
    basis = np.stack([np.sin(np.arange(8000) * 0.1), np.cos(np.arange(8000) * 0.1)], 1)
    fit = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    assert rate == 16000
    assert np.square(middle - fit).mean() < error * np.square(middle).mean()
    assert abs(np.std(fit) - np.std(tone)) < error * np.std(tone)


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (8000, 16000), (16000, 11025)])
def test_resampling_in_blocks_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, rate: int, wanted: int
) -> None:
    samples = noise(20011)
    whole = resample_poly(samples.astype(np.float64), wanted, rate)
    monkeypatch.setattr(recordings, "_BLOCK", 1000)
    pieces = resampled(samples, rate, wanted)
    assert len(pieces) == len(whole) == -(-20011 * wanted // rate)
    assert np.abs(pieces - np.clip(whole, -32768, 32767)).max() < 0.52  # rounding, and float32


def test_same_rate_is_untouched() -> None:
    assert resampled(SAMPLES, 8000, 8000) is SAMPLES


def test_read_at_another_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", SAMPLES, 8000)
    samples, rate, _ = read_recording(path, 16000)
    assert rate == 16000
    np.testing.assert_array_equal(samples, resampled(SAMPLES, 8000, 16000))


def test_blocks_of_reading_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_BLOCK", 100)
    for settings in ({}, {"subtype": "FLOAT"}):
        path = write(tmp_path / "a.wav", SAMPLES, **settings)
        np.testing.assert_array_equal(read_recording(path).samples, SAMPLES)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"format": "NIST"}),
        ("a.wav", {"format": "RF64"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
    ],
)
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_truncated(tmp_path: Path, name: str, settings: dict[str, str], share: float) -> None:
    path = cut(write(tmp_path / name, noise(48000), **settings), share)
    with pytest.raises(BadRecordError) as error:
        read_recording(path)
    assert str(error.value).startswith(f"{path} ")
    assert "is truncated" in str(error.value) or "cannot be read" in str(error.value)
    assert str(error.value).count("\n") == 0


def test_truncated_counts_the_missing_bytes(tmp_path: Path) -> None:
    path = write_sphere(tmp_path / "a.wav", SAMPLES, promised=len(SAMPLES) + 10)
    with pytest.raises(BadRecordError) as error:
        read_recording(path)
    assert str(error.value) == (
        f"{path} is truncated: at least 20 of its {1024 + 2 * len(SAMPLES) + 20} bytes are "
        "missing: copy it anew; --skip_bad_records goes on without such files"
    )
    path = write(tmp_path / "b.wav", SAMPLES)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadRecordError, match="truncated: at least 1 of its 5054 bytes"):
        read_recording(path)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_length_that_a_pipe_could_not_know(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.wav", SAMPLES)
    data = bytearray(path.read_bytes())
    data[40:44] = length.to_bytes(4, "little")
    path.write_bytes(data)
    np.testing.assert_array_equal(read_recording(path).samples, SAMPLES)


def test_channels(tmp_path: Path) -> None:
    stereo = np.stack([SAMPLES, SAMPLES[::-1]], 1)
    path = write(tmp_path / "a.wav", stereo)
    with pytest.raises(BadRecordError, match="a.wav has 2 channels instead of one: mix them"):
        read_recording(path)
    mixed = read_recording(path, mix_down=True).samples
    np.testing.assert_array_equal(mixed, np.rint(stereo.mean(axis=1)))


def test_faults_are_named(tmp_path: Path) -> None:
    bad_float = SAMPLES / 32768
    bad_float[70] = np.nan
    empty = tmp_path / "empty.wav"
    empty.touch()
    text = tmp_path / "text.wav"
    text.write_text("not sound " * 100)
    coding = "pcm,embedded-shorten-v2.00"
    for path, message in [
        (write(tmp_path / "none.wav", SAMPLES[:0]), "has no samples: remove it"),
        (write(tmp_path / "none.flac", SAMPLES[:0]), "is empty: copy it anew or remove it"),
        (write_sphere(tmp_path / "none.sph", SAMPLES[:0]), "has no samples: remove it"),
        (empty, "is empty: copy it anew"),
        (text, "cannot be read (Format not recognised): copy it anew, or convert it"),
        (tmp_path / "missing.wav", "cannot be read (No such file or directory): see that"),
        (
            write(tmp_path / "nan.wav", bad_float, subtype="FLOAT"),
            "holds nan at sample 70: make the file anew without it",
        ),
        (
            write(tmp_path / "loud.wav", SAMPLES.astype(float), subtype="FLOAT"),
            "holds numbers up to 32768 in size where 1 is full scale: divide them",
        ),
        (
            write_sphere(tmp_path / "short.wav", SAMPLES, coding=coding),
            f"is a compressed SPHERE file ({coding}): convert it with sph2pipe -f wav",
        ),
    ]:
        with pytest.raises(BadRecordError) as error:
            read_recording(path)
        assert str(error.value).startswith(f"{path} {message}"), error.value


def test_without_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", SAMPLES)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"run pip install 'zforcing-tf\[audio\]'$"):
        read_recording(path)


def test_reader_leaves_out_and_counts(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.wav", SAMPLES),
        cut(write(tmp_path / "below" / "b.wav", SAMPLES), 0.5),
        write(tmp_path / "c.wav", SAMPLES[::-1], 8000),
        write(tmp_path / "d.wav", SAMPLES),
        write(tmp_path / "e.wav", SAMPLES[1:]),
    ]
    reader = RecordingReader(tmp_path, 0, skip_bad_records=True)
    reader.refuse_copies(paths)
    read = list(reader.read("train", paths))
    assert [path for path, _ in read] == [paths[0], paths[4]]
    np.testing.assert_array_equal(read[1][1], SAMPLES[1:])
    assert reader.sample_rate == 16000
    assert reader.skipped == [
        "below/b.wav: is truncated: at least 2527 of its 5054 bytes are missing",
        f"c.wav: has 8000 samples a second, but {paths[0]} has 16000",
        f"d.wav: is a copy of {paths[0]}",
    ]


def test_reader_refuses(tmp_path: Path) -> None:
    first = write(tmp_path / "a.wav", SAMPLES)
    other = write(tmp_path / "b.wav", SAMPLES, 8000)
    reader = RecordingReader(tmp_path, 0, skip_bad_records=False)
    with pytest.raises(UserError) as error:
        list(reader.read("train", [first, other]))
    assert str(error.value) == (
        f"{other} has 8000 samples a second, but {first} has 16000: have all resampled with "
        "--sample_rate=16000; --skip_bad_records goes on without such files"
    )
    with pytest.raises(UserError, match=r"no recording of split 'test' .* \(a.wav: is trunc"):
        list(RecordingReader(tmp_path, 0, True).read("test", [cut(first, 0.5)]))
    reader = RecordingReader(tmp_path, 16000, skip_bad_records=False)
    assert [len(samples) for _, samples in reader.read("train", [other])] == [2 * len(SAMPLES)]
