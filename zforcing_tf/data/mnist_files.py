"""Images of MNIST in the files in which they are handed around."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.plain_arrays import ArrayFile
from zforcing_tf.errors import UserError

WHAT = (
    "mnist.npz with the arrays x_train and x_test, or a folder with train-images-idx3-ubyte and "
    "t10k-images-idx3-ubyte, as they are or with .gz"
)
IMAGE_SHAPE = (28, 28)

_IDX = {"train": "train-images", "test": "t10k-images"}
_IDX_BEGINS = b"\0\0\x08\x03"  # bytes, in three dimensions

Images = npt.NDArray[np.uint8]
"""Grey values [N, 28, 28]."""


def image_files(path: Path) -> dict[str, Path]:
    """The files that hold the images for training and testing; an npz file holds both.

    Raises:
      UserError: a file is missing.
    """
    if not path.is_dir():
        return {part: path for part in _IDX}
    archive = path / "mnist.npz"
    if archive.is_file():
        return {part: archive for part in _IDX}
    found = {}
    for part, name in _IDX.items():
        names = [f"{name}{mark}idx3-ubyte{end}" for mark in "-." for end in ("", ".gz")]
        files = [file for name in names if (file := path / name).is_file()]
        if not files:
            raise UserError(f"{path} holds neither mnist.npz nor {names[0]}: give {WHAT}")
        found[part] = files[0]
    return found


def read_images(path: Path, part: str, count: int) -> Images:
    """The images for training or testing.

    Args:
      path: one of the files of `image_files`.
      part: "train" or "test".
      count: images that there must be.

    Raises:
      UserError: the file is damaged, or holds something else.
    """
    if path.suffix.lower() == ".npz":
        file, name = ArrayFile(path, WHAT), f"x_{part}"
        if name not in file.names:
            raise UserError(f"{path} lacks the array {name}: give {WHAT}")
        images, where = file.read(name), file.where(name)
    else:
        images, where = _read_idx(path), str(path)
    if images.shape != (count, *IMAGE_SHAPE) or images.dtype != np.uint8:
        raise UserError(
            f"{where} is {images.dtype} of shape {list(images.shape)}, not uint8 of shape "
            f"{[count, *IMAGE_SHAPE]}: give {WHAT}"
        )
    return images


def _read_idx(path: Path) -> Images:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): copy it anew") from error
    if content[:4] != _IDX_BEGINS:
        raise UserError(f"{path} does not begin as a file of images in the idx format: give {WHAT}")
    whole = len(content) >= 16
    shape = np.frombuffer(content[4:16], ">u4").tolist() if whole else []
    if not whole or len(content) != 16 + int(np.prod(shape, dtype=np.int64)):
        raise UserError(
            f"{path} has {len(content)} bytes, which is not what its beginning says: copy it anew"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)
