"""MNIST from files: the same draw from each kind of file, and what is refused."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests import builder_case
from zforcing_tf.config import DataConfig
from zforcing_tf.data import mnist, registry
from zforcing_tf.errors import UserError

COUNTS = (5, 2, 3)
Images = npt.NDArray[np.uint8]


def grey(count: int, seed: int) -> Images:
    return np.random.RandomState(seed).randint(0, 256, (count, 28, 28)).astype(np.uint8)


TRAIN, TEST = grey(7, 10), grey(3, 11)


def save_npz(path: Path, **arrays: npt.NDArray[Any]) -> Path:
    np.savez(path, **{"x_train": TRAIN, "x_test": TEST, **arrays})  # type: ignore[arg-type]
    return path


def idx(images: Images) -> bytes:
    return b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes() + images.tobytes()


def save_idx(folder: Path, mark: str = "-") -> Path:
    """One file as it is, one compressed."""
    folder.mkdir()
    (folder / f"train-images{mark}idx3-ubyte").write_bytes(idx(TRAIN))
    (folder / f"t10k-images{mark}idx3-ubyte.gz").write_bytes(gzip.compress(idx(TEST)))
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "COUNTS", COUNTS)


def config(path: Path, **settings: Any) -> DataConfig:
    data_dir = os.fspath(path.parent / "prepared")
    return DataConfig("mnist", manual_dir=os.fspath(path), data_dir=data_dir, **settings)


def drawn() -> list[Images]:
    """What the module says."""
    return [
        (np.random.RandomState(seed).random_sample(images.shape) * 255 < images).astype(np.uint8)
        for seed, images in enumerate((TRAIN[:5], TRAIN[5:], TEST))
    ]


class StaticMnistBuilderTest(builder_case.BuilderCase):
    """The tests that TensorFlow Datasets asks of every builder, on small files."""

    DATASET_CLASS = mnist.StaticMnist
    SPLITS = {"train": 5, "validation": 2, "test": 3}

    @classmethod
    def write_examples(cls, folder: Path) -> None:
        save_npz(folder / "mnist.npz")
        manual = mnist.StaticMnist.BUILDER_CONFIGS
        cls.addClassCleanup(setattr, mnist.StaticMnist, "BUILDER_CONFIGS", manual)
        small = mnist.StaticMnistConfig(name="manual", counts=COUNTS)
        mnist.StaticMnist.BUILDER_CONFIGS = [small]


def test_published_counts() -> None:
    assert mnist.StaticMnistConfig(name="any").counts == (50000, 10000, 10000)


@pytest.mark.parametrize(("rows", "steps", "size"), [(0, 784, 1), (1, 28, 28), (14, 2, 392)])
def test_exact_frames(tmp_path: Path, rows: int, steps: int, size: int) -> None:
    dataset = registry.load(config(save_npz(tmp_path / "mnist.npz"), rows_per_step=rows))
    assert dataset.spec.to_json() == {
        "name": "mnist",
        "kind": "binary",
        "frame_size": size,
        "max_length": steps,
        "image_shape": [28, 28],
    }
    for split, images in zip(dataset.splits, drawn(), strict=True):
        x, lengths = split.padded(np.arange(split.num_sequences))
        assert lengths.tolist() == [steps] * len(images)
        np.testing.assert_array_equal(x, images.reshape(-1, steps, size))
        assert x.dtype == np.float32


@pytest.mark.parametrize("mark", ["-", "."])
def test_original_files(tmp_path: Path, mark: str) -> None:
    dataset = registry.load(config(save_idx(tmp_path / "files", mark)))
    for split, images in zip(dataset.splits, drawn(), strict=True):
        np.testing.assert_array_equal(split.values.reshape(-1, 28, 28), images)


def test_black_and_white_are_certain(tmp_path: Path) -> None:
    """And a pixel of any grey value is 1 as often as it says."""
    train = np.zeros((7, 28, 28), np.uint8)
    train[:, :14] = 255
    test = np.full((3, 28, 28), 51, np.uint8)
    path = save_npz(tmp_path / "mnist.npz", x_train=train, x_test=test)
    dataset = registry.load(config(path))
    np.testing.assert_array_equal(dataset.train.values.reshape(-1, 28, 28), train[:5] // 255)
    # 2,352 pixels of probability 1/5: the standard deviation of the mean is 0.008.
    assert abs(dataset.test.values.mean() - 0.2) < 0.035


def test_folder_with_npz(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    save_npz(tmp_path / "files" / "mnist.npz")
    dataset = registry.load(config(tmp_path / "files"))
    np.testing.assert_array_equal(dataset.test.values.reshape(-1, 28, 28), drawn()[2])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": TRAIN[:6]},
            r"'x_train' of .*npz is uint8 of shape \[6, 28, 28\], not uint8 o",
        ),
        (
            {"x_test": grey(4, 0)},
            r"\[4, 28, 28\], not uint8 of shape \[3, 28, 28\]: give mnist.npz",
        ),
        ({"x_train": TRAIN.reshape(7, 784)}, r"is uint8 of shape \[7, 784\], not uint8 of shape "),
        ({"x_train": TRAIN / 255}, r"is float64 of shape \[7, 28, 28\], not uint8"),
        ({"x_test": np.array([None])}, "'x_test' of .* is pickled, which is never unpickled, as "),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.load(config(save_npz(tmp_path / "mnist.npz", **arrays)))
    assert not list((tmp_path / "prepared").glob("static_mnist/[!.]*/*"))


def test_wrong_npz(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=TRAIN)
    with pytest.raises(UserError, match=f"{path} lacks the array x_test: give mnist.npz with"):
        registry.load(config(path))
    save_npz(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=f"{path} is neither an npz nor an npy file, or is cut off"):
        registry.load(config(path))
    save_npz(path)
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is damaged .*: copy or make it anew"):
        registry.load(config(path))
    path.write_bytes(pickle.dumps({"x_train": 1}))
    with pytest.raises(UserError, match=f"{path} is a pickled file, which is never unpickled"):
        registry.load(config(path))


def test_wrong_original_files(tmp_path: Path) -> None:
    folder = save_idx(tmp_path / "files")
    train, test = folder / "train-images-idx3-ubyte", folder / "t10k-images-idx3-ubyte.gz"
    train.write_bytes(idx(TRAIN[:6]))
    with pytest.raises(UserError, match=rf"{train} is uint8 of shape \[6, 28, 28\], not uint8 of"):
        registry.load(config(folder))
    train.write_bytes(idx(TRAIN)[:-1])
    with pytest.raises(UserError, match=f"{train} has 5503 bytes, which is not what its beginning"):
        registry.load(config(folder))
    train.write_bytes(b"\0\0\x08\x01" + bytes(12))
    with pytest.raises(UserError, match=f"{train} does not begin as a file of images in the idx"):
        registry.load(config(folder))
    train.write_bytes(idx(TRAIN))
    test.write_bytes(test.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{test} cannot be read .*: copy it anew"):
        registry.load(config(folder))
    test.unlink()
    with pytest.raises(UserError, match="holds neither mnist.npz nor t10k-images-idx3-ubyte: give"):
        registry.load(config(folder))


def test_nothing_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dataset=mnist needs --manual_dir: give mnist.npz with"):
        registry.load(DataConfig("mnist"))
    with pytest.raises(UserError, match="28 rows .* choose 1, 2, 4, 7, 14, 28, or 0 for one pixel"):
        registry.load(config(tmp_path, rows_per_step=3))
