"""The dataset `audio_folder`: any folder of recordings (wav, flac, ogg, mp3, NIST SPHERE).

`--manual_dir` names the folder. If it has folders called train, valid (or validation or dev) and
test, the recordings below these are the splits; with some of these it is refused. Else all n
recordings below it are sorted by their path within it and put into the order of
`numpy.random.RandomState(0).permutation(n)`: the last n // 10 (at least one) are the test split,
the n // 10 (at least one) before these the validation split. There must be at least 3. Two files
of the same bytes are refused, as the copy may be in another split.

An npz file in place of the folder is read as `audio_arrays.read_npz` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data.audio_arrays import read_npz
from zforcing_tf.data.file_splits import NOTHING, Files, split_files
from zforcing_tf.data.own_files import fingerprint, given_path, skipping
from zforcing_tf.data.prepared import ordered_key, read_prepared
from zforcing_tf.data.recordings import (
    SUFFIXES,
    RecordingReader,
    Samples,
    out_of_proportion,
    resampled,
)
from zforcing_tf.data.sound_frames import SAMPLES, sound_dataset
from zforcing_tf.data.spec import SPLIT_NAMES, Dataset
from zforcing_tf.errors import UserError

WHAT = f"recordings ({', '.join(suffix[1:] for suffix in SUFFIXES)})"
Example = tuple[int, dict[str, Any]]


@dataclasses.dataclass
class AudioFolderConfig(tfds.core.BuilderConfig):
    """Which recordings, and at which rate.

    Attributes:
      path: folder, or npz file; empty for the manual folder of TensorFlow Datasets.
      sample_rate: to which recordings are resampled; 0: they must all have the same.
      skip_bad_records: whether recordings that cannot be used are left out.
    """

    path: str = ""
    sample_rate: int = 16000
    skip_bad_records: bool = False


class AudioFolder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the module says how files become splits.

    Its metadata hold sample_rate; skipped, the files left out, each with the reason; and
    lower_rates, of `RecordingReader`.

    Attributes:
      MIX_DOWN: whether several channels are mixed down, or an error.
    """

    MIX_DOWN: ClassVar[bool] = False
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Recordings of one channel, 16 bits."}
    BUILDER_CONFIGS = [AudioFolderConfig(name="manual")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {WHAT} of one channel into the folder, below train, valid and test if you have "
        "split them yourself."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Recordings of one channel from files that the user brings.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(**SAMPLES),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    @staticmethod
    def find_files(folder: Path, without: Mapping[Path, str] = NOTHING) -> Files:
        """The recordings of each split, but for some that cannot be used."""
        return split_files(folder, SUFFIXES, WHAT, without)

    def check_files(self, folder: Path, files: Files) -> None:
        """Refuses what cannot be the whole of a known corpus; any folder will do here."""

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        config = self.builder_config
        path = Path(config.path or dl_manager.manual_dir)
        self.info.metadata["skipped"] = []
        if not path.is_dir():
            return self._from_arrays(path)
        found = self.find_files(path)
        reader = RecordingReader(
            path, config.sample_rate, config.skip_bad_records, mix_down=self.MIX_DOWN
        )
        self.info.metadata.update(skipped=reader.skipped, lower_rates=reader.lower_rates)
        files = [file for split in found.values() for file in split]
        reader.refuse_copies(files)
        if bad := reader.leave_out(files):
            found = self.find_files(path, bad)
        self.check_files(path, found)

        def read(split: str) -> Iterator[tuple[str, Samples]]:
            for file, samples in reader.read(split, found[split]):
                yield reader.name(file), samples
            self.info.metadata["sample_rate"] = reader.sample_rate

        return {
            split: self._generate_examples(read(split), len(found[split])) for split in SPLIT_NAMES
        }

    def _from_arrays(self, path: Path) -> dict[str, Iterator[Example]]:
        splits, rate, skipped = read_npz(path, self.builder_config.skip_bad_records)
        self.info.metadata["skipped"] = skipped
        wanted = self.builder_config.sample_rate or rate
        if not wanted:
            raise UserError(f"{path} does not say its sample rate: give it with --sample_rate")
        stored_rate = rate or wanted
        if reason := out_of_proportion(stored_rate, wanted):
            raise UserError(f"{path} {reason}: mend its rate, or --sample_rate")
        self.info.metadata["sample_rate"] = wanted
        if stored_rate < wanted:
            count = sum(map(len, splits.values()))
            self.info.metadata["lower_rates"] = {str(stored_rate): count}

        def read(split: str) -> Iterator[tuple[str, Samples]]:
            for name, samples in splits[split]:
                yield name, resampled(samples, stored_rate, wanted)

        return {
            split: self._generate_examples(read(split), len(splits[split])) for split in SPLIT_NAMES
        }

    def _generate_examples(
        self, recordings: Iterator[tuple[str, Samples]], count: int
    ) -> Iterator[Example]:
        for index, (name, samples) in enumerate(recordings):
            yield ordered_key(index, count), {"audio": samples, "name": name}


def load(config: DataConfig) -> Dataset:
    """Frames of sound, prepared on first use. Its name is `audio_folder/<folder or file>`."""
    path = given_path(config.manual_dir, "audio_folder", f"a folder of {WHAT}")
    if not path.is_dir() and path.suffix.lower() != ".npz":
        raise UserError(f"--manual_dir={path} is one file: give a folder of {WHAT}")
    return load_recordings(AudioFolder, path, config, title=f"audio_folder/{path.stem or path}")


def load_recordings(
    builder_class: type[AudioFolder], path: Path, config: DataConfig, title: str
) -> Dataset:
    """What `load` does, for this dataset and those that differ in what they find.

    Args:
      builder_class: builder.
      path: folder, or a file that stands for one.
      config: which data.
      title: name of the dataset in its description.
    """
    files = [path]
    if path.is_dir():
        files = [file for split in builder_class.find_files(path).values() for file in split]
    builder_config = AudioFolderConfig(
        name=fingerprint(files, config.sample_rate, skipping(config)),
        path=str(path),
        sample_rate=config.sample_rate,
        skip_bad_records=config.skip_bad_records,
    )
    name = builder_class.name
    return read_prepared(
        name,
        lambda root: builder_class(data_dir=root, config=builder_config),
        config.data_dir,
        lambda builder: sound_dataset(name, builder, config, title=title),
    )
