"""What tests of builders on files of the user's share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow_datasets as tfds


class BuilderCase(tfds.testing.DatasetBuilderTestCase):
    """The tests that TensorFlow Datasets asks of every builder, on files made for them."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.EXAMPLE_DIR = folder.name
        cls.write_examples(Path(folder.name))
        super().setUpClass()

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        """Fills the manual folder of the builder."""
        raise NotImplementedError
