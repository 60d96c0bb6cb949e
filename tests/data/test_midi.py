"""MIDI files to piano rolls and back: timing, what is left out, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import numpy.typing as npt
import pytest

from zforcing_tf.data.description import Music
from zforcing_tf.data.midi import piano_roll_to_midi, read_midi, write_midi
from zforcing_tf.errors import BadRecordError, UserError

Event = tuple[int, str, int]
"""Tick, kind, key."""


def track(events: list[Event], channel: int = 0, end: int | None = None) -> mido.MidiTrack:
    """Of note events in any order; kind is `on`, `off` or `zero`, a note_on of velocity 0."""
    result, now = mido.MidiTrack(), 0
    for tick, kind, key in sorted(events, key=lambda event: event[0]):
        result.append(
            mido.Message(
                "note_off" if kind == "off" else "note_on",
                note=key,
                channel=channel,
                velocity=0 if kind == "zero" else 90,
                time=tick - now,
            )
        )
        now = tick
    result.append(mido.MetaMessage("end_of_track", time=0 if end is None else end - now))
    return result


def write(path: Path, *tracks: mido.MidiTrack, ticks_per_beat: int = 480, kind: int = 1) -> Path:
    mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat, tracks=list(tracks)).save(path)
    return path


def tempo(tick: int, microseconds: int) -> mido.MidiTrack:
    return mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=microseconds, time=tick)])


def sounding(roll: npt.NDArray[np.uint8]) -> dict[int, list[int]]:
    """Steps in which each key sounds that does."""
    assert roll.dtype == np.uint8
    assert roll.shape[1] == 88
    return {
        int(column) + 21: np.flatnonzero(roll[:, column]).tolist()
        for column in np.flatnonzero(roll.any(axis=0))
    }


@pytest.mark.parametrize(
    ("events", "steps"),
    [
        ([(0, "on", 60), (480, "off", 60)], [0, 1]),
        ([(240, "on", 60), (480, "zero", 60)], [1]),
        ([(480, "on", 60), (485, "off", 60)], [2]),  # at least one step
        ([(480, "on", 60), (480, "off", 60)], [2]),
        ([(119, "on", 60), (359, "off", 60)], [0]),  # rounded to the nearest step
        ([(120, "on", 60), (360, "off", 60)], [1]),  # halves up
        ([(0, "on", 60), (240, "off", 60), (720, "on", 60), (960, "off", 60)], [0, 3]),
        # Struck again while held: one note, which the first end ends.
        ([(0, "on", 60), (240, "on", 60), (480, "off", 60), (960, "off", 60)], [0, 1]),
        ([(240, "off", 60), (480, "on", 60), (720, "off", 60)], [2]),  # an end without a note
        ([(240, "on", 60), (960, "on", 90), (1200, "off", 90)], [1, 2, 3, 4]),  # no end
    ],
)
def test_steps_of_a_note(tmp_path: Path, events: list[Event], steps: list[int]) -> None:
    piece = read_midi(write(tmp_path / "a.mid", track(events)), 2)
    assert sounding(piece.roll)[60] == steps


@pytest.mark.parametrize(("steps_per_beat", "steps"), [(1, [1]), (2, [2, 3]), (4, [4, 5, 6, 7])])
@pytest.mark.parametrize("ticks_per_beat", [96, 480])
def test_grid(tmp_path: Path, steps_per_beat: float, steps: list[int], ticks_per_beat: int) -> None:
    events = [(ticks_per_beat, "on", 60), (2 * ticks_per_beat, "off", 60)]
    path = write(tmp_path / "a.mid", track(events), ticks_per_beat=ticks_per_beat)
    assert sounding(read_midi(path, steps_per_beat).roll) == {60: steps}


def test_tracks_do_not_end_notes_of_each_other(tmp_path: Path) -> None:
    """Two voices on one channel: the key sounds until the later one lets it go."""
    one, two = [(0, "on", 60), (240, "off", 60)], [(0, "on", 60), (720, "off", 60)]
    path = write(tmp_path / "a.mid", track(one), track(two))
    assert sounding(read_midi(path, 2).roll) == {60: [0, 1, 2]}


def test_channels_do_not_end_notes_of_each_other(tmp_path: Path) -> None:
    both = mido.MidiTrack(
        [
            mido.Message("note_on", note=60, channel=0, velocity=64, time=0),
            mido.Message("note_on", note=60, channel=1, velocity=64, time=0),
            mido.Message("note_off", note=60, channel=0, time=240),
            mido.Message("note_off", note=60, channel=1, time=480),
        ]
    )
    assert sounding(read_midi(write(tmp_path / "a.mid", both), 2).roll) == {60: [0, 1, 2]}


def test_left_out(tmp_path: Path) -> None:
    """Drums, keys that a piano has not, and the time after the last note that is taken."""
    notes = [(0, "on", 21), (240, "off", 21), (240, "on", 108), (480, "off", 108)]
    outside = [(0, "on", 20), (4800, "off", 20), (0, "on", 109), (4800, "off", 109)]
    drums = track([(0, "on", 60), (4800, "off", 60)], channel=9)
    path = write(tmp_path / "a.mid", track(notes + outside, end=9600), drums)
    roll = read_midi(path, 2).roll
    assert sounding(roll) == {21: [0], 108: [1]}
    assert len(roll) == 2


def test_tempo_moves_no_note_and_is_the_mean_over_the_piece(tmp_path: Path) -> None:
    notes = track([(0, "on", 60), (480, "off", 60), (1440, "on", 62), (1920, "off", 62)])
    plain = read_midi(write(tmp_path / "a.mid", notes), 2)
    assert plain.seconds_per_beat == 0.5  # of MIDI, where nothing is stated
    slow = read_midi(write(tmp_path / "b.mid", tempo(0, 1_000_000), notes), 2)
    assert slow.seconds_per_beat == 1.0
    later = read_midi(write(tmp_path / "c.mid", notes, tempo(480, 900_000)), 2)
    assert later.seconds_per_beat == pytest.approx((0.5 + 3 * 0.9) / 4, abs=1e-12)
    after = read_midi(write(tmp_path / "d.mid", notes, tempo(1920, 900_000)), 2)
    assert after.seconds_per_beat == 0.5
    for piece in (slow, later, after):
        np.testing.assert_array_equal(piece.roll, plain.roll)


@pytest.mark.parametrize("step_seconds", [0.3, 0.25, 0.001, 7.5])
def test_round_trip(tmp_path: Path, step_seconds: float) -> None:
    roll = (np.random.RandomState(0).rand(50, 88) < 0.3).astype(np.uint8)
    roll[:3] = 0  # silence at the beginning and inside is kept
    roll[20:22] = 0
    roll[-1, 40] = 1
    path = tmp_path / "a.mid"
    write_midi(path, roll.astype(np.float32), Music(21, step_seconds))
    piece = read_midi(path, 2)
    np.testing.assert_array_equal(piece.roll, roll)
    assert piece.seconds_per_beat == pytest.approx(2 * step_seconds, abs=1e-6)
    assert mido.MidiFile(path).length == pytest.approx(50 * step_seconds, rel=1e-3)


def test_steps_in_a_row_are_one_note() -> None:
    roll = np.zeros((6, 3), np.uint8)
    roll[1:4, 0] = roll[4:5, 1] = roll[5, 0] = 1
    (notes,) = piano_roll_to_midi(roll, 0.25, 60).tracks
    assert [(m.type, m.note, m.time) for m in notes if not m.is_meta] == [
        ("note_on", 60, 240),
        ("note_off", 60, 720),
        ("note_on", 61, 0),
        ("note_off", 61, 240),
        ("note_on", 60, 0),
        ("note_off", 60, 240),
    ]


def test_silence_lasts_as_long_as_the_roll() -> None:
    assert piano_roll_to_midi(np.zeros((40, 88)), 0.25, 21).length == 10.0


@pytest.mark.parametrize(
    ("roll", "step_seconds", "lowest_key", "reason"),
    [
        (np.zeros(88), 0.25, 21, r"of shape \[88\] cannot be played: it must be \[T, D\]"),
        (np.full((2, 88), 0.5), 0.25, 21, "it must be .* zeros and ones"),
        (np.full((2, 88), np.nan), 0.25, 21, "it must be .* zeros and ones"),
        (np.zeros((2, 88)), 0.25, 41, "88 keys from 41 on are not within MIDI's 0..127: choose"),
        (np.zeros((2, 88)), 0.25, -1, "88 keys from -1 on are not within"),
        (np.zeros((2, 88)), 0.0, 21, "steps of 0 seconds are not possible in MIDI: give more"),
        (np.zeros((2, 88)), 9.0, 21, "steps of 9 seconds are not possible"),
        (np.zeros((2, 88)), float("nan"), 21, "steps of nan seconds are not possible"),
    ],
)
def test_rolls_that_cannot_be_played(
    roll: npt.NDArray[Any], step_seconds: float, lowest_key: int, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        piano_roll_to_midi(roll, step_seconds, lowest_key)


NOTES: list[Event] = [(0, "on", 60), (480, "off", 60)]


def no_note(path: Path) -> None:
    write(path, track([]), tempo(0, 400_000))


def drums_alone(path: Path) -> None:
    write(path, track(NOTES, channel=9))


def keys_outside(path: Path) -> None:
    write(path, track([(0, "on", 12), (480, "off", 12), (0, "on", 120), (480, "off", 120)]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("These are no notes.")


def cut_in_a_track(path: Path) -> None:
    write(path, track(NOTES))
    path.write_bytes(path.read_bytes()[:-6])


def cut_between_tracks(path: Path) -> None:
    write(path, track(NOTES), track(NOTES))
    path.write_bytes(path.read_bytes()[: 14 + (path.stat().st_size - 14) // 2])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(b"MThd\0\0")


def wrong_byte(path: Path) -> None:
    write(path, track(NOTES))
    data = bytearray(path.read_bytes())
    assert data[23:26] == bytes([0x90, 60, 90])
    data[24] = 200  # a key of at most 127
    path.write_bytes(data)


def songs(path: Path) -> None:
    write(path, track(NOTES), kind=2)


def film(path: Path) -> None:
    write(path, track(NOTES))
    data = bytearray(path.read_bytes())
    data[12:14] = bytes([256 - 25, 40])  # 25 frames a second, 40 ticks a frame
    path.write_bytes(data)


def endless(path: Path) -> None:
    write(path, track([(0, "on", 60), (480 * 600_000, "off", 60)]))


BAD: list[tuple[Callable[[Path], None], str]] = [
    (no_note, "has no note (drums are left out): leave it out, or mend it"),
    (drums_alone, "has no note (drums are left out): leave it out, or mend it"),
    (keys_outside, "has no note within the keys 21..108 of a piano: leave it out, or mend it"),
    (empty, "is an empty file: leave it out, or mend it"),
    (text, "is no MIDI file: leave it out, or mend it"),
    (cut_in_a_track, "is cut off: copy it anew, or leave it out"),
    (cut_between_tracks, "is cut off: copy it anew, or leave it out"),
    (cut_in_the_header, "is cut off: copy it anew, or leave it out"),
    (wrong_byte, "is damaged (data byte must be in range 0..127): leave it out, or mend it"),
    (songs, "is of type 2, of which the tracks are songs: leave it out, or mend it"),
    (film, "counts time in frames of film, not in beats: leave it out, or mend it"),
    (endless, "has a note 1200000 steps after its beginning: leave it out, or mend it"),
]


@pytest.mark.parametrize(("make", "sentence"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_bad_files(tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    path = tmp_path / "a.mid"
    make(path)
    with pytest.raises(BadRecordError) as error:
        read_midi(path, 2)
    more = "--skip_bad_records goes on without such files"
    assert str(error.value) == f"{path} {sentence}; {more}"
    assert sentence.startswith(error.value.reason + ": ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        BadRecordError, match=r"a\.mid cannot be read \(No such file or directory\)"
    ):
        read_midi(tmp_path / "a.mid", 2)


def test_without_mido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(UserError, match="need the package mido, .*: pip install mido"):
        read_midi(tmp_path / "a.mid", 2)
    with pytest.raises(UserError, match="need the package mido"):
        write_midi(tmp_path / "a.mid", np.zeros((1, 88)), Music())
    assert not list(tmp_path.iterdir())
