"""The dataset `text_file`: plain text in UTF-8, a sentence or document a line.

`--manual_dir` names what the user brings; blank lines are skipped, and so are blanks around a line:

- a text file of at least 3 different lines. The n different lines are put into the order of their
  SHA-256 (of the line in UTF-8, its first 8 bytes); the last n // 10 (at least one) are the test
  split, the n // 20 (at least one) before these the validation split. Equal lines are in one split.
- or a folder with the files train.txt, valid.txt (or validation.txt or dev.txt) and test.txt.
- or a folder with one text file (.txt), which is split as above.

Words are what blanks separate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.own_files import find_copies, fingerprint, folder_entries, given_path
from zforcing_tf.data.prepared import ordered_key, read_prepared
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset
from zforcing_tf.data.text_lines import text_lines
from zforcing_tf.data.text_sequences import text_dataset
from zforcing_tf.data.text_splits import TextSplits
from zforcing_tf.errors import UserError

_WHAT = "a text file with a sentence a line, or a folder with train.txt, valid.txt and test.txt"
_FILES = {
    "train": ("train.txt",),
    "validation": ("valid.txt", "validation.txt", "dev.txt"),
    "test": ("test.txt",),
}

Files = dict[str, Path]
"""File of each split."""
Example = tuple[int, dict[str, Any]]


@dataclasses.dataclass
class TextFileConfig(tfds.core.BuilderConfig):
    """Which text.

    Attributes:
      path: file or folder; empty for the manual folder of TensorFlow Datasets.
      skip_bad_records: whether lines that are not in UTF-8 are left out.
    """

    path: str = ""
    skip_bad_records: bool = False


class TextFile(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says how lines become splits.

    Its metadata hold skipped: the lines left out, each with the reason.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "A text a line."}
    BUILDER_CONFIGS = [TextFileConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put train.txt, valid.txt and test.txt into the folder, or one text file (.txt): UTF-8, a "
        "sentence or document a line."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Lines of text from files that the user brings.",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        found = _find(Path(self.builder_config.path or dl_manager.manual_dir))
        skip_bad = self.builder_config.skip_bad_records
        skipped: list[str] = []
        self.info.metadata["skipped"] = skipped
        if isinstance(found, dict):
            for file, other in find_copies(list(found.values())).items():
                raise UserError(
                    f"{file} is a copy of {other}: give other texts for training, validation and "
                    "test"
                )
            counts = {split: sum(1 for _ in text_lines(f, skip_bad)) for split, f in found.items()}
            return {
                split: self._generate_examples(
                    file, text_lines(file, skip_bad, skipped), counts[split]
                )
                for split, file in found.items()
            }
        splits = TextSplits(text_lines(found, skip_bad, skipped))
        if splits.count < len(SPLIT_NAMES):
            left_out = f" in UTF-8, {len(skipped)} being left out" * bool(skipped)
            few = f"but {splits.count} different line{'s' * (splits.count > 1)}"
            raise UserError(
                f"{found} holds {few if splits.count else 'no line'} of text{left_out}: give at "
                "least 3, one for each of training, validation and test"
            )

        def lines(wanted: str) -> Iterator[str]:
            return (line for line in text_lines(found, skip_bad) if splits.of(line) == wanted)

        return {
            split: self._generate_examples(found, lines(split), splits.total)
            for split in SPLIT_NAMES
        }

    def _generate_examples(self, file: Path, lines: Iterator[str], count: int) -> Iterator[Example]:
        index = -1
        for index, line in enumerate(lines):
            yield ordered_key(index, count), {"text": line}
        if index < 0:
            raise UserError(f"{file} holds no line of text: give a sentence or document a line")


def _find(path: Path) -> Path | Files:
    """The one file, or the file of each split."""
    if not path.is_dir():
        return path
    given = {
        split: [f for n in names if (f := path / n).is_file()] for split, names in _FILES.items()
    }
    if any(given.values()):
        for split, files in given.items():
            if len(files) != 1:
                names = " or ".join(_FILES[split])
                raise UserError(
                    f"{path} holds {len(files) or 'no'} files called {names}: give one of them, "
                    "beside those of the other splits"
                )
        return {split: files[0] for split, files in given.items()}
    files = sorted(f for f in folder_entries(path) if f.suffix.lower() == ".txt")
    if len(files) != 1:
        names = f" but {', '.join(f.name for f in files)}" * bool(files)
        raise UserError(f"{path} holds neither train.txt nor one text file{names}: give {_WHAT}")
    return files[0]


def load(config: DataConfig) -> Dataset:
    """Sequences of symbols, prepared on first use. Its name is `text_file/<file or folder>`."""
    path = given_path(config.manual_dir, "text_file", _WHAT)
    found = _find(path)
    files = list(found.values()) if isinstance(found, dict) else [found]
    builder_config = TextFileConfig(
        name=fingerprint(files, config.skip_bad_records),
        path=str(path),
        skip_bad_records=config.skip_bad_records,
    )
    title = path.name if isinstance(found, dict) else found.stem
    return read_prepared(
        "text_file",
        lambda root: TextFile(data_dir=root, config=builder_config),
        config.data_dir,
        lambda builder: text_dataset("text_file", builder, config, title=f"text_file/{title}"),
    )
