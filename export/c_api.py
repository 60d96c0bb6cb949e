"""Answers requests to a SavedModel through TensorFlow's C API, as a server does: no Python in it.

A script, run by `verify.py`; it imports no module of this package, nor TensorFlow's own:

    python -I c_api.py <saved_model> <folder> <library> <sys.path of the caller>

It reads `<folder>/requests.npz` as `bare_process.py` does, and `<folder>/tensors.json`, the tensors
of the graph behind each signature, and writes `<folder>/answers.npz` and, of requests that were
refused, `<folder>/errors.json` (`{number: [code, message]}`).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_ubyte, c_void_p
from typing import Any

LIBRARY = "libtensorflow_cc.so.2"
"""In the folder of the package tensorflow."""
_TYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64", 10: "bool"}
_CODES = {name: code for code, name in _TYPES.items()}
_STRING, _STRING_BYTES = 7, 24


class RequestError(Exception):
    """The model refuses.

    Attributes:
        code: of the status, 3 for INVALID_ARGUMENT.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


class Session:
    """A SavedModel, loaded by the library.

    Args:
        library: path of the shared library.
        saved_model: folder.
        tensors: `{signature: {"inputs": {name: tensor}, "outputs": {name: tensor}}}`, a tensor as
            "<operation>:<index>".
    """

    def __init__(self, library: str, saved_model: str, tensors: Mapping[str, Any]) -> None:
        self._tf = tf = ctypes.CDLL(library)
        for name in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_AllocateTensor"):
            getattr(tf, name).restype = c_void_p
        for name in ("TF_LoadSessionFromSavedModel", "TF_GraphOperationByName", "TF_TensorData"):
            getattr(tf, name).restype = c_void_p
        tf.TF_Message.restype = c_char_p
        tf.TF_Dim.restype = c_int64
        tf.TF_StringGetSize.restype = c_size_t
        tf.TF_StringGetDataPointer.restype = c_void_p
        self._status, self._graph = c_void_p(tf.TF_NewStatus()), c_void_p(tf.TF_NewGraph())
        options, tag = c_void_p(tf.TF_NewSessionOptions()), (c_char_p * 1)(b"serve")
        self._session = c_void_p(
            tf.TF_LoadSessionFromSavedModel(
                options, None, saved_model.encode(), tag, 1, self._graph, None, self._status
            )
        )
        self._check()
        self._tensors = tensors

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a signature answers, arrays by name.

        Raises:
            RequestError: it refuses.
        """
        tf, places = self._tf, self._tensors[signature]
        names = list(places["outputs"])
        feeds = [self._place(places["inputs"][name]) for name in inputs]
        fetches = [self._place(places["outputs"][name]) for name in names]
        given = [self._tensor(value) for value in inputs.values()]
        found = (c_void_p * len(names))()
        try:
            tf.TF_SessionRun(
                self._session,
                None,
                (_Output * len(feeds))(*feeds),
                (c_void_p * len(given))(*given),
                len(given),
                (_Output * len(fetches))(*fetches),
                found,
                len(names),
                None,
                0,
                None,
                self._status,
            )
            self._check()
            return {name: self._array(found[k] or 0) for k, name in enumerate(names)}
        finally:
            for tensor in (*given, *found):
                if tensor:
                    tf.TF_DeleteTensor(c_void_p(tensor))

    def _check(self) -> None:
        if code := self._tf.TF_GetCode(self._status):
            raise RequestError(code, self._tf.TF_Message(self._status).decode(errors="replace"))

    def _place(self, tensor: str) -> _Output:
        name, _, index = tensor.rpartition(":")
        operation = self._tf.TF_GraphOperationByName(self._graph, name.encode())
        return _Output(operation, int(index))

    def _tensor(self, value: Any) -> int:
        import numpy as np

        tf, value = self._tf, np.ascontiguousarray(value)
        shape = (c_int64 * value.ndim)(*value.shape)
        if value.dtype.kind == "S":
            size = _STRING_BYTES * value.size
            tensor: int = tf.TF_AllocateTensor(_STRING, shape, value.ndim, c_size_t(size))
            place = tf.TF_TensorData(c_void_p(tensor))
            for number, text in enumerate(value.reshape(-1).tolist()):
                at = c_void_p(place + number * _STRING_BYTES)
                tf.TF_StringInit(at)
                tf.TF_StringCopy(at, c_char_p(text), c_size_t(len(text)))
            return tensor
        code = _CODES[value.dtype.name]
        tensor = tf.TF_AllocateTensor(code, shape, value.ndim, c_size_t(value.nbytes))
        if value.nbytes:
            ctypes.memmove(tf.TF_TensorData(c_void_p(tensor)), value.ctypes.data, value.nbytes)
        return tensor

    def _array(self, tensor: int) -> Any:
        import numpy as np

        tf, at = self._tf, c_void_p(tensor)
        shape = [tf.TF_Dim(at, axis) for axis in range(tf.TF_NumDims(at))]
        code, place = tf.TF_TensorType(at), tf.TF_TensorData(at)
        count = int(np.prod(shape, dtype=np.int64))
        if code == _STRING:
            strings = []
            for number in range(count):
                one = c_void_p(place + number * _STRING_BYTES)
                size = tf.TF_StringGetSize(one)
                strings.append(ctypes.string_at(tf.TF_StringGetDataPointer(one), size))
            return np.array(strings, "S").reshape(shape)
        array = np.empty(shape, _TYPES[code])
        if array.nbytes:
            source = ctypes.cast(place, POINTER(c_ubyte * array.nbytes))
            ctypes.memmove(array.ctypes.data, byref(source.contents), array.nbytes)
        return array


def main(saved_model: str, folder: str, library: str, search_path: str) -> None:
    """Does what the module says."""
    sys.path += [place for place in search_path.split(os.pathsep) if place not in sys.path]
    import numpy as np

    with open(os.path.join(folder, "tensors.json"), encoding="utf-8") as file:
        session = Session(library, saved_model, json.load(file))
    requests: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    with np.load(os.path.join(folder, "requests.npz")) as arrays:
        for key in arrays:
            number, signature, name = key.split(".")
            requests[number, signature][name] = arrays[key]
    answers: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for (number, signature), inputs in requests.items():
        try:
            found = session.run(signature, inputs)
        except RequestError as error:
            errors[number] = [error.code, str(error)]
            continue
        answers |= {f"{number}.{name}": value for name, value in found.items()}
    if "tensorflow" in sys.modules:
        raise ImportError("TensorFlow's Python was imported")
    np.savez(os.path.join(folder, "answers.npz"), **answers)
    with open(os.path.join(folder, "errors.json"), "w", encoding="utf-8") as file:
        json.dump(errors, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
