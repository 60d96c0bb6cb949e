"""Arrays in npz and npy files that users bring.

No array is ever unpickled: that would run whatever it holds.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zforcing_tf.errors import UserError

_NPY = b"\x93NUMPY"
_PICKLED = (
    "which is never unpickled, as that could run anything: save plain arrays of numbers with "
    "numpy.savez"
)


class ArrayFile:
    """The arrays of an npz file, each read when it is asked for; or the one of an npy file.

    Args:
      path: file.
      what: what is expected, for errors, such as "an npz file with the array x".

    Attributes:
      path: file.
      names: of its arrays; of an npy file "" alone.

    Raises:
      UserError: the file cannot be read, is no such file, or is pickled.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                begins = file.read(len(_NPY))
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): give {what}") from error
        self._single = begins == _NPY
        if begins[:1] == b"\x80":
            raise UserError(f"{path} is a pickled file, {_PICKLED}")
        if not self._single and not zipfile.is_zipfile(path):
            raise UserError(f"{path} is neither an npz nor an npy file, or is cut off: give {what}")
        self.names: tuple[str, ...] = ("",)
        if not self._single:
            with self._damage_named(), path.open("rb") as file:
                self.names = tuple(np.load(file, allow_pickle=False).files)

    def read(self, name: str) -> npt.NDArray[Any]:
        """One array.

        Raises:
          UserError: it is damaged, or pickled.
        """
        array: npt.NDArray[Any]
        with self._damage_named():
            try:
                if self._single:
                    array = np.lib.format.open_memmap(self.path, mode="r")
                else:
                    with self.path.open("rb") as file:
                        array = np.load(file, allow_pickle=False)[name]
            except ValueError as error:
                if "allow_pickle" not in str(error) and "Python objects" not in str(error):
                    raise
                raise UserError(f"{self.where(name)} is pickled, {_PICKLED}") from None
            if not isinstance(array, np.ndarray):  # another file of the zip
                raise UserError(f"{self.where(name)} is no array: save it anew with numpy.savez")
        return array

    def where(self, name: str) -> str:
        """An array in a sentence."""
        return f"array {name!r} of {self.path}" if name else f"the array of {self.path}"

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of zipfile, zlib or numpy: whatever a damaged file leads to
            raise UserError(f"{self.path} is damaged ({error}): copy or make it anew") from error
