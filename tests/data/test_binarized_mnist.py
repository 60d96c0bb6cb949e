"""The downloaded dataset, with TFDS's own builder and small files in place of the download."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data import binarized_mnist, registry
from zforcing_tf.errors import UserError

SIZES = {"train_data": 5, "validation_data": 3, "test_data": 2}


def write_images(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    random = np.random.RandomState(0)
    images = {}
    for name, size in SIZES.items():
        images[name] = random.randint(0, 2, (size, 784)).astype(np.uint8)
        np.savetxt(folder / name, images[name], fmt="%d")
    return images


def test_reads_what_tfds_prepares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path)

    def download(self: Any, urls: dict[str, str]) -> dict[str, str]:
        return {name: str(tmp_path / name) for name in urls}

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: io.BytesIO())
    root = str(tmp_path / "root")
    dataset = registry.load(DataConfig("binarized_mnist", data_dir=root, rows_per_step=0))
    spec = dataset.spec
    assert (spec.kind, spec.frame_size, spec.max_length) == ("binary", 1, 784)
    assert spec.image_shape == (28, 28)
    for split, name in zip(dataset.splits, SIZES, strict=True):
        x, lengths = split.padded(np.arange(split.num_sequences))
        assert lengths.tolist() == [784] * SIZES[name]
        # TensorFlow Datasets shuffles the records once, when it writes them.
        assert sorted(map(bytes, x[..., 0].astype(np.uint8))) == sorted(map(bytes, images[name]))

    # Neither is needed a second time.
    monkeypatch.delattr(tfds.download.DownloadManager, "download")
    monkeypatch.delattr("urllib.request.urlopen")
    for count in (1, 4):
        rows = registry.load(DataConfig("binarized_mnist", data_dir=root, rows_per_step=count))
        assert (rows.spec.frame_size, rows.spec.max_length) == (28 * count, 28 // count)
        for split, pixels in zip(rows.splits, dataset.splits, strict=True):
            assert set(split.lengths.tolist()) == {28 // count}
            np.testing.assert_array_equal(split.values.reshape(-1), pixels.values.reshape(-1))


def test_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> None:
        assert request.full_url == binarized_mnist.SOURCE
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError) as error:
        registry.load(DataConfig("binarized_mnist", data_dir=str(tmp_path)))
    assert str(error.value) == (
        f"dataset 'binarized_mnist' could not be prepared in {tmp_path}/binarized_mnist/1.0.0 "
        "(<urlopen error Name or service not known>): its first use downloads it, so connect to a "
        "network and run again, copy a prepared binarized_mnist folder into --data_dir, or use "
        "--dataset=digits, which needs none"
    )


def test_network_lost_while_downloading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: urllib.request.Request, timeout: float) -> None:
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", Message(), None)

    def download(self: Any, urls: dict[str, str]) -> dict[str, str]:
        raise ConnectionError("connection reset")

    monkeypatch.setattr("urllib.request.urlopen", answer)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    with pytest.raises(UserError, match=r"\(connection reset\): its first use downloads it, so"):
        registry.load(DataConfig("binarized_mnist", data_dir=str(tmp_path)))
    assert not list((tmp_path / "binarized_mnist").iterdir())


def test_source_is_that_of_tfds() -> None:
    from tensorflow_datasets.datasets.binarized_mnist import binarized_mnist_dataset_builder

    assert binarized_mnist_dataset_builder._URL == binarized_mnist.SOURCE


def test_rows_that_do_not_divide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="28 rows .* choose 1, 2, 4, 7, 14, 28, or 0 for one pixel"):
        registry.load(DataConfig("binarized_mnist", data_dir=str(tmp_path), rows_per_step=3))
