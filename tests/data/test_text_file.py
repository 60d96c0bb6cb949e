"""Text files: which lines are in which split, as which symbols, and what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import builder_case
from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.spec import Dataset, DataSpec, Split
from zforcing_tf.data.text_file import TextFile
from zforcing_tf.errors import UserError

TRAIN = "The film is good .\n\n  a film !  \nthe end\n"
VALID = "a good END\n"
TEST = "the the bad\n\n\nfilm\n"


def write_folder(folder: Path, validation: str = "valid.txt") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (("train.txt", TRAIN), (validation, VALID), ("test.txt", TEST)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def config(path: Path, **settings: Any) -> DataConfig:
    data_dir = os.fspath(path.parent / "prepared")
    return DataConfig("text_file", manual_dir=os.fspath(path), data_dir=data_dir, **settings)


def symbols(split: Split) -> list[list[int]]:
    x, lengths = split.padded(np.arange(split.num_sequences))
    return [row[:length].tolist() for row, length in zip(x, lengths, strict=True)]


def sentences(dataset: Dataset) -> dict[str, list[str]]:
    text = dataset.spec.text
    assert text is not None
    return {s.name: [text.sentence(row) for row in symbols(s)] for s in dataset.splits}


def nothing_prepared(tmp_path: Path) -> bool:
    return not list((tmp_path / "prepared").glob("text_file/[!.]*"))


class TextFileBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder, on three files."""

    DATASET_CLASS = TextFile
    SPLITS = {"train": 3, "validation": 1, "test": 2}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        write_folder(folder)


@pytest.mark.parametrize("validation", ["valid.txt", "validation.txt", "dev.txt"])
def test_words_of_three_files(tmp_path: Path, validation: str) -> None:
    folder = write_folder(tmp_path / "v1.reviews", validation)
    dataset = registry.load(config(folder))
    vocabulary = ("</s>", "<unk>", "film", "the", "!", ".", "a", "end", "good", "is")
    assert dataset.spec.to_json() == {
        "name": "text_file/v1.reviews",
        "kind": "symbol",
        "frame_size": 10,
        "max_length": 6,
        "image_shape": None,
        "text": {"vocabulary": list(vocabulary), "tokens": "word", "split_punctuation": False},
    }
    assert DataSpec.from_json(dataset.spec.to_json()) == dataset.spec
    assert symbols(dataset.train) == [[3, 2, 9, 8, 5, 0], [6, 2, 4, 0], [3, 7, 0]]
    assert symbols(dataset.validation) == [[6, 8, 7, 0]]
    assert symbols(dataset.test) == [[3, 3, 1, 0], [2, 0]]
    assert {split.values.dtype for split in dataset.splits} == {np.dtype(np.int32)}
    assert dataset.skipped == ()
    notes = [
        "text_file/v1.reviews: the training texts hold 10 symbols, </s> and <unk> among them, "
        "fewer than --vocabulary_size=16000",
        "text_file/v1.reviews train: 3 texts, 13 tokens, </s> counted, 0.0 % of them unknown; 0 "
        "texts left out for their length",
        "text_file/v1.reviews validation: 1 texts, 4 tokens, </s> counted, 0.0 % of them unknown; "
        "0 texts left out for their length",
        "text_file/v1.reviews test: 2 texts, 6 tokens, </s> counted, 16.7 % of them unknown; 0 "
        "texts left out for their length",
    ]
    assert list(dataset.notes) == notes


def test_settings_of_one_prepared_text(tmp_path: Path) -> None:
    """Each is read anew from the same lines."""
    folder = write_folder(tmp_path / "text")
    few = registry.load(config(folder, vocabulary_size=4))
    assert few.spec.text is not None
    assert few.spec.text.vocabulary == ("</s>", "<unk>", "film", "the")
    assert symbols(few.train) == [[3, 2, 1, 1, 1, 0], [1, 2, 1, 0], [3, 1, 0]]

    kept = registry.load(config(folder, lower_case=False))
    assert kept.spec.text is not None
    assert kept.spec.text.vocabulary == (
        *("</s>", "<unk>", "film", "!", ".", "The", "a", "end", "good", "is", "the"),
    )
    assert sentences(kept)["validation"] == ["a good <unk>"]

    letters = registry.load(config(folder, tokens="character"))
    assert letters.spec.text is not None
    assert letters.spec.text.vocabulary[:6] == ("</s>", "<unk>", " ", "e", "i", "d")
    assert sentences(letters) == {
        "train": ["the film is good .", "a film !", "the end"],
        "validation": ["a good end"],
        "test": ["the the <unk>ad", "film"],
    }
    assert [len(row) for row in symbols(letters.test)] == [12, 5]

    again = registry.load(config(folder))
    assert again.spec.frame_size == 10


def test_limits_of_length(tmp_path: Path) -> None:
    """The vocabulary is that of the texts that are taken."""
    folder = write_folder(tmp_path / "text")
    dataset = registry.load(config(folder, min_tokens=3, max_tokens=4))
    assert sentences(dataset) == {
        "train": ["a film !"],
        "validation": ["a <unk> <unk>"],
        "test": ["<unk> <unk> <unk>"],
    }
    assert dataset.spec.text is not None
    assert dataset.spec.text.vocabulary == ("</s>", "<unk>", "!", "a", "film")
    assert [note.rsplit("; ", 1)[1] for note in dataset.notes[1:]] == [
        f"{count} texts left out for their length" for count in (2, 0, 1)
    ]
    with pytest.raises(UserError, match="--max_tokens=2 is below --min_tokens=3: raise it, or "):
        registry.load(config(folder, min_tokens=3, max_tokens=2))
    with pytest.raises(UserError, match="split 'validation' .* with --min_tokens and --max_token"):
        registry.load(config(folder, min_tokens=4))


def test_prepared_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "text")
    first = registry.load(config(folder))

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    (vocabulary,) = (tmp_path / "prepared").glob("text_file/*/*/text_words*.json")
    vocabulary.unlink()
    assert registry.load(config(folder)).spec == first.spec
    assert not vocabulary.exists()


def split_by_the_rule(lines: list[str], num_validation: int, num_test: int) -> dict[str, list[str]]:
    """What the module says, done another way."""
    order = sorted({*lines}, key=lambda line: hashlib.sha256(line.encode()).digest())
    test = set(order[-num_test:])
    validation = set(order[-num_test - num_validation : -num_test])
    return {
        "train": [line for line in lines if line not in test | validation],
        "validation": [line for line in lines if line in validation],
        "test": [line for line in lines if line in test],
    }


@pytest.mark.parametrize(
    ("count", "held_out"), [(3, (1, 1)), (20, (1, 2)), (39, (1, 3)), (60, (3, 6))]
)
def test_one_file_is_split_by_rule(tmp_path: Path, count: int, held_out: tuple[int, int]) -> None:
    """Each line is there twice, once with blanks around it."""
    lines = [f"line {k:02}" for k in range(count)]
    path = tmp_path / "lines.v2.text"
    path.write_text("\n".join(lines + [f"\t{line} \r\n" for line in lines]), encoding="utf-8")
    dataset = registry.load(config(path, lower_case=False, tokens="character"))
    assert dataset.spec.name == "text_file/lines.v2"
    written = {
        split: ["".join(x) for x in texts]
        for split, texts in split_by_the_rule(lines + lines, *held_out).items()
    }
    lengths = {split: [len(t) + 1 for t in texts] for split, texts in written.items()}
    assert {s.name: s.lengths.tolist() for s in dataset.splits} == lengths
    words = registry.load(config(path))
    assert sentences(words)["train"] == written["train"]
    assert {split: len(texts) for split, texts in sentences(words).items()} == {
        "train": 2 * (count - sum(held_out)),
        "validation": 2 * held_out[0],
        "test": 2 * held_out[1],
    }


def test_one_text_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "lines.TXT").write_text("one\ntwo\nthree\n")
    assert registry.load(config(tmp_path / "here")).spec.name == "text_file/lines"
    (tmp_path / "here" / "more.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(UserError, match="nor one text file but lines.TXT, more.txt: give a text f"):
        registry.load(config(tmp_path / "here"))


def test_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\ntwo\nthree\n")
    registry.load(config(path))
    path.write_text("one\ntwo\nthree\nfour\n")
    assert registry.load(config(path)).train.num_sequences == 2


def test_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\none\none\ntwo\nthree\n")
    dataset = registry.load(config(path))
    assert sum(split.num_sequences for split in dataset.splits) == 5
    assert dataset.spec.text is not None
    assert not any("\ufeff" in token for token in dataset.spec.text.vocabulary)


def test_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("one\ntwo\nthree\n\nder Käse\nfünf\nsix\n".encode("latin-1"))
    with pytest.raises(UserError) as error:
        registry.load(config(path))
    assert str(error.value) == (
        f"line 5 of {path} is not in UTF-8 (byte 6 of the line, 0xe4): convert the file from the "
        "encoding that it has, such as with iconv -f LATIN1 -t UTF-8 lines.txt, or have such lines "
        "left out with --skip_bad_records"
    )
    assert nothing_prepared(tmp_path)
    for _ in range(2):
        dataset = registry.load(config(path, skip_bad_records=True))
        assert sum(split.num_sequences for split in dataset.splits) == 4
        assert dataset.skipped == (
            "lines.txt: line 5 is not in UTF-8 (byte 6 of the line, 0xe4)",
            "lines.txt: line 6 is not in UTF-8 (byte 2 of the line, 0xfc)",
        )


def test_bad_lines_of_three_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text")
    (folder / "test.txt").write_bytes(b"good\nbad \xff\n")
    dataset = registry.load(config(folder, skip_bad_records=True))
    assert sentences(dataset)["test"] == ["good"]
    assert dataset.skipped == ("test.txt: line 2 is not in UTF-8 (byte 5 of the line, 0xff)",)


def test_a_byte_0_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"one\ntwo\nthr\0ee\nfour\n")
    with pytest.raises(UserError) as error:
        registry.load(config(path))
    assert str(error.value) == (
        f"line 3 of {path} is not in UTF-8 (byte 4 of the line, 0x00): take that byte out, or have "
        "such lines left out with --skip_bad_records"
    )
    assert nothing_prepared(tmp_path)
    dataset = registry.load(config(path, skip_bad_records=True))
    assert dataset.skipped == ("lines.txt: line 3 is not in UTF-8 (byte 4 of the line, 0x00)",)
    assert sum(split.num_sequences for split in dataset.splits) == 3
    path.write_bytes(b"one\nvier \xe4\n")
    with pytest.raises(UserError, match="holds but 1 different line of text in UTF-8, 1 being"):
        registry.load(config(path, skip_bad_records=True))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_no_text(tmp_path: Path, encoding: str, skip: bool) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("one\ntwo\nthree\n".encode(encoding))
    with pytest.raises(UserError, match=rf"{path} is no text in UTF-8: .*iconv -f UTF-16 "):
        registry.load(config(path, skip_bad_records=skip))
    assert nothing_prepared(tmp_path)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ("", "no line"),
        ("\n \n", "no line"),
        ("a\n", "but 1 different line"),
        ("a\nb\na\n a\n", "but 2 different lines"),
    ],
)
def test_too_few_lines(tmp_path: Path, content: str, held: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{path} holds {held} of text: give at least 3"):
        registry.load(config(path))
    assert nothing_prepared(tmp_path)


def test_empty_file_of_a_split(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text")
    (folder / "test.txt").write_text("\n\n")
    with pytest.raises(UserError, match=f"^{folder / 'test.txt'} holds no line of text: give a s"):
        registry.load(config(folder))
    assert nothing_prepared(tmp_path)


def test_one_text_for_two_splits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text")
    (folder / "test.txt").write_bytes((folder / "train.txt").read_bytes())
    with pytest.raises(UserError) as error:
        registry.load(config(folder))
    assert str(error.value) == (
        f"{folder}/test.txt is a copy of {folder}/train.txt: give other texts for training, "
        "validation and test"
    )
    assert nothing_prepared(tmp_path)


def test_missing_and_doubled_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text")
    (folder / "dev.txt").write_text(VALID)
    with pytest.raises(UserError, match="2 files called valid.txt or validation.txt or dev.txt: "):
        registry.load(config(folder))
    (folder / "dev.txt").unlink()
    (folder / "train.txt").unlink()
    with pytest.raises(UserError, match=f"{folder} holds no files called train.txt: give one of"):
        registry.load(config(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither train.txt nor one text file: give a text"):
        registry.load(config(tmp_path / "empty"))
    with pytest.raises(UserError, match="nowhere does not exist: give a text file with a sentence"):
        registry.load(config(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--dataset=text_file needs --manual_dir: give a text file"):
        registry.load(DataConfig("text_file"))
