"""The dataset `librispeech`: read English sentences, 16 kHz, as TensorFlow Datasets prepares them.

The splits are train-clean-100, dev-clean and test-clean, whose speakers differ. Preparing it
downloads all parts (60 GB) and needs the package pydub and the program ffmpeg; one that is already
prepared in `--data_dir` is taken as it is.
"""

from __future__ import annotations

from typing import Any

from zforcing_tf.config import DataConfig
from zforcing_tf.data.prepared import read_prepared
from zforcing_tf.data.sound_frames import sound_dataset
from zforcing_tf.data.spec import Dataset

SOURCE = "http://www.openslr.org/resources/12/dev-clean.tar.gz"
SPLITS = {"train": "train_clean100", "validation": "dev_clean", "test": "test_clean"}


def _builder(root: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder("librispeech", data_dir=root)


def load(config: DataConfig) -> Dataset:
    """Frames of sound, downloaded on first use."""
    return read_prepared(
        "librispeech",
        _builder,
        config.data_dir,
        lambda builder: sound_dataset(
            "librispeech", builder, config, feature="speech", splits=SPLITS
        ),
        advice=(
            "its first use downloads 60 GB and needs pydub and ffmpeg, so install these, connect "
            "to a network and run again; copy a prepared librispeech folder into --data_dir; or "
            "use --dataset=audio_folder with a folder of its flac files"
        ),
        source=SOURCE,
    )
