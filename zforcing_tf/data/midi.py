"""Piano rolls from MIDI files, and MIDI files from piano rolls.

Reading and writing need the package mido, which is imported when it is needed.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.description import Music
from zforcing_tf.data.piano_arrays import KEYS, LOWEST_KEY, Roll
from zforcing_tf.errors import BadRecordError, UserError

SUFFIXES = (".mid", ".midi")

_DRUMS = 9  # channel 10, counted from 0
_LONGEST = 10**6
_TEMPO = 500_000  # of MIDI, where a file states none: microseconds of a beat
_TICKS_OF_STEP = 240
_TICKS_OF_BEAT = 480
_VELOCITY = 80


class MidiPiece(NamedTuple):
    """What a MIDI file holds.

    Attributes:
      roll: see `piano_arrays.Roll`.
      seconds_per_beat: mean over the piece.
    """

    roll: Roll
    seconds_per_beat: float


class _Note(NamedTuple):
    key: int
    start: int
    end: int


def read_midi(path: Path, steps_per_beat: float) -> MidiPiece:
    """Reads the keys that sound in each step, from the beginning of the file to the last note.

    The grid is in beats, so the tempo moves no note. Onset and end of a note are rounded to the
    nearest step (halves up), and a note is at least one step long. Notes of the same key that
    touch or overlap become one. A note without an end lasts until the end of its track. Left out
    are channel 10, which is drums, keys outside 21..108, velocities, and the sustain pedal: a key
    sounds while it is held.

    Raises:
      UserError: `BadRecordError`, if the file is empty, cut off, damaged or no MIDI file, has no
        such note, is a collection of songs (type 2), or counts time in frames of film; or mido is
        not installed.
    """
    file = _parsed(path)
    tracks = [list(_with_ticks(track)) for track in file.tracks]
    notes = [note for track in tracks for note in _notes(track)]
    inside = [note for note in notes if LOWEST_KEY <= note.key < LOWEST_KEY + KEYS]
    if not inside:
        keys = f"within the keys {LOWEST_KEY}..{LOWEST_KEY + KEYS - 1} of a piano"
        raise BadRecordError(
            path, f"has no note {keys}" if notes else "has no note (drums are left out)"
        )

    def step(tick: int) -> int:
        return math.floor(tick * steps_per_beat / file.ticks_per_beat + 0.5)

    spans = [(note.key, step(note.start), step(note.end)) for note in inside]
    length = max(max(start + 1, end) for _, start, end in spans)
    if length > _LONGEST:
        raise BadRecordError(path, f"has a note {length} steps after its beginning")
    roll = np.zeros((length, KEYS), np.uint8)
    for key, start, end in spans:
        roll[start : max(start + 1, end), key - LOWEST_KEY] = 1
    last = max(note.end for note in inside)
    return MidiPiece(roll, _seconds_per_beat(tracks, max(last, 1)))


def piano_roll_to_midi(roll: npt.NDArray[Any], step_seconds: float, lowest_key: int) -> Any:
    """A MIDI file that plays a piano roll: two steps are a beat, and a run of steps is one note.

    `read_midi` with 2 steps a beat gives the roll back, but for silent steps at the end.

    Args:
      roll: [T, D], zeros and ones.
      step_seconds: duration of a step, as exact as a microsecond.
      lowest_key: MIDI number of the first column.

    Returns:
      A `mido.MidiFile` of one track.

    Raises:
      UserError: the roll is no such array, its keys are not within 0..127, a step is too long or
        too short for MIDI, or mido is not installed.
    """
    mido = _mido()
    roll = np.asarray(roll)
    if roll.ndim != 2 or not np.isin(roll, (0, 1)).all():
        raise UserError(
            f"a piano roll of shape {list(roll.shape)} cannot be played: it must be [T, D] zeros "
            "and ones"
        )
    if not 0 <= lowest_key <= 128 - roll.shape[1]:
        raise UserError(
            f"{roll.shape[1]} keys from {lowest_key} on are not within MIDI's 0..127: choose "
            "another lowest key"
        )
    beat = step_seconds * _TICKS_OF_BEAT / _TICKS_OF_STEP
    tempo = round(beat * 1e6) if math.isfinite(beat) else 0
    if not 1 <= tempo < 2**24:
        raise UserError(
            f"steps of {step_seconds:g} seconds are not possible in MIDI: give more than 0 and "
            "less than 8"
        )
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    silence = np.zeros((1, roll.shape[1]), np.int8)
    changes = np.diff(np.concatenate([silence, roll.astype(np.int8), silence]), axis=0)
    now = 0
    for step in np.flatnonzero(changes.any(axis=1)).tolist():
        # Ends first: a player that is told otherwise may take the end for that of the new note.
        for kind, change in (("note_off", -1), ("note_on", 1)):
            for column in np.flatnonzero(changes[step] == change).tolist():
                ticks = (step - now) * _TICKS_OF_STEP
                key = lowest_key + column
                track.append(mido.Message(kind, note=key, velocity=_VELOCITY, time=ticks))
                now = step
    track.append(mido.MetaMessage("end_of_track", time=(len(roll) - now) * _TICKS_OF_STEP))
    return mido.MidiFile(type=0, ticks_per_beat=_TICKS_OF_BEAT, tracks=[track])


def write_midi(path: str | os.PathLike[str], roll: npt.NDArray[Any], music: Music) -> None:
    """Writes a roll as a MIDI file; arguments and errors are those of `piano_roll_to_midi`."""
    piano_roll_to_midi(roll, music.step_seconds, music.lowest_key).save(os.fspath(path))


def _mido() -> Any:
    try:
        import mido
    except ImportError as error:
        raise UserError(
            "MIDI files need the package mido, which is not installed: pip install mido"
        ) from error
    return mido


def _parsed(path: Path) -> Any:
    mido = _mido()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRecordError(path, f"cannot be read ({error.strerror})") from error
    if not data:
        raise BadRecordError(path, "is an empty file")
    if not data.startswith(b"MThd"):
        raise BadRecordError(path, "is no MIDI file")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except EOFError as error:
        raise BadRecordError(path, "is cut off", "copy it anew, or leave it out") from error
    except Exception as error:  # mido raises whatever a wrong byte leads to
        reason = str(error) or type(error).__name__
        raise BadRecordError(path, f"is damaged ({reason})") from error
    if file.type not in (0, 1):
        raise BadRecordError(path, f"is of type {file.type}, of which the tracks are songs")
    if file.ticks_per_beat < 1:
        raise BadRecordError(path, "counts time in frames of film, not in beats")
    return file


def _with_ticks(track: Any) -> Iterator[tuple[int, Any]]:
    """Messages with their ticks since the beginning."""
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def _notes(track: list[tuple[int, Any]]) -> Iterator[_Note]:
    """Notes of a track, drums apart."""
    held: dict[tuple[int, int], int] = {}
    for tick, message in track:
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        key = (message.channel, message.note)
        if message.type == "note_on" and message.velocity:
            held.setdefault(key, tick)  # struck again while it is held, it goes on
        elif key in held:
            yield _Note(message.note, held.pop(key), tick)
    for (_, note), start in held.items():
        yield _Note(note, start, track[-1][0])


def _seconds_per_beat(tracks: list[list[tuple[int, Any]]], last: int) -> float:
    """Mean over the ticks before `last`."""
    stated = [
        (tick, message.tempo)
        for track in tracks
        for tick, message in track
        if message.type == "set_tempo" and message.tempo and tick < last
    ]
    changes = [(0, _TEMPO), *sorted(stated, key=lambda change: change[0]), (last, 0)]
    total = sum(tempo * (end - tick) for (tick, tempo), (end, _) in itertools.pairwise(changes))
    return total / last / 1e6
