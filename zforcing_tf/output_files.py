"""What a model made as files that people play and read: wav, MIDI, text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from zforcing_tf import sentences, synthesis
from zforcing_tf.data import midi
from zforcing_tf.data.description import Music, Sound, Text
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError
from zforcing_tf.sampling import Row
from zforcing_tf.sound_files import write_wav

_STEMS = {
    "real": "real",
    "reconstructions": "reconstruction",
    "samples": "sample",
    "samples_cool": "sample_cool",
    "samples_mean": "sample_mean",
    "completions": "continuation",
}
_PLAYED = 0.5  # probability from which a key is played

Group = list[Path]
"""Files of one kind."""


def save_files(folder: Path, rows: Sequence[Row], spec: DataSpec) -> list[Group]:
    """Writes what is heard or read of sound, music and text; nothing for other data.

    Sound becomes `sample_00.wav`, `real_00.wav` and so on; music the same with a .mid for each, if
    mido is installed, and a .wav that plays it; text becomes `samples.txt`. Files of these names
    that an earlier call left are removed: they would be taken for those of this one.

    Returns:
        The files, kind by kind.
    """
    if spec.sound is None and spec.music is None and spec.text is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    _remove_earlier(folder)
    if spec.sound:
        return [_save_sounds(folder, row, spec.sound) for row in rows]
    if spec.music:
        return [group for row in rows for group in _save_music(folder, row, spec.music)]
    assert spec.text is not None
    path = folder / "samples.txt"
    path.write_text("\n".join(_as_text(rows, spec.text)), encoding="utf-8")
    return [[path]]


def as_line(group: Sequence[Path]) -> str:
    """Names a group of files as a shell would: `sample_{00..03}.wav`."""
    first, last = group[0], group[-1]
    if first == last:
        return str(first)
    stem, _, start = first.stem.rpartition("_")
    end = last.stem.rpartition("_")[2]
    return str(first.with_name(f"{stem}_{{{start}..{end}}}{first.suffix}"))


def _remove_earlier(folder: Path) -> None:
    ours = re.compile(rf"({'|'.join(_STEMS.values())})_\d{{2,}}\.(wav|mid)")
    for path in folder.iterdir():
        if ours.fullmatch(path.name):
            path.unlink()


def _paths(folder: Path, row: Row, suffix: str) -> Group:
    width = max(2, len(str(len(row.x) - 1)))
    return [folder / f"{_STEMS[row.name]}_{i:0{width}d}{suffix}" for i in range(len(row.x))]


def _save_sounds(folder: Path, row: Row, sound: Sound) -> Group:
    paths = _paths(folder, row, ".wav")
    for path, x, length in zip(paths, row.x, row.lengths, strict=True):
        write_wav(path, sound.samples(x[:length]).reshape(-1), sound.sample_rate)
    return paths


def _save_music(folder: Path, row: Row, music: Music) -> list[Group]:
    scores, sounds = _paths(folder, row, ".mid"), _paths(folder, row, ".wav")
    rolls = [x[:length] >= _PLAYED for x, length in zip(row.x, row.lengths, strict=True)]
    for path, roll in zip(sounds, rolls, strict=True):
        write_wav(path, synthesis.render(roll, music), synthesis.SAMPLE_RATE)
    try:
        for path, roll in zip(scores, rolls, strict=True):
            midi.write_midi(path, roll, music)
    except UserError as error:
        logging.warning("no MIDI files are written: %s", error)
        return [sounds]
    return [scores, sounds]


def _as_text(rows: Sequence[Row], text: Text) -> Iterator[str]:
    for row in rows:
        mark = f' ("{sentences.GIVEN}" follows what was given)' if row.given else ""
        yield from (f"# {row.title}{mark}", "")
        for x, length in zip(row.x, row.lengths, strict=True):
            symbols = x[:length]
            if row.given:
                yield sentences.continued_line(symbols, row.given, text)
            else:
                yield sentences.line(symbols, text)
        yield ""
