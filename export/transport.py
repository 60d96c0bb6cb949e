"""Requests to TensorFlow Serving, by gRPC or REST: deadlines, and few repetitions.

What is repeated is a request that the server was not there for, or too busy to take (UNAVAILABLE,
RESOURCE_EXHAUSTED), after a while that grows and that chance shortens. That is safe: a request
carries its seeds, so the same one gets the same answer. Nothing is waited for beyond the deadline.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zforcing_tf.errors import UserError

Arrays = dict[str, npt.NDArray[Any]]
Listing = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""As `signatures.listing` gives it; shapes are lists in which null is any size."""
Answer = TypeVar("Answer")

AGAIN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_LARGEST_MESSAGE = 2**30


class ServingError(UserError):
    """A server that did not answer, or refused.

    Attributes:
        status: name of the gRPC status, such as INVALID_ARGUMENT.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Transport(abc.ABC):
    """A model on a server.

    Args:
        server: its address.
        model: its name there.
        version: number of a version, or label of one such as stable; empty: the server's choice.
        deadline: seconds for a request, repetitions included.
        attempts: times that a request is sent, at most.
    """

    def __init__(
        self, server: str, model: str, version: str = "", deadline: float = 30.0, attempts: int = 5
    ) -> None:
        if version.isdecimal() and int(version) >= 2**63:
            raise UserError(f"--version={version} is no version: numbers end at 2^63 - 1")
        self.server, self.model, self.version = server, model, version
        self.deadline, self.attempts = deadline, attempts

    def predict(self, signature: str, inputs: Mapping[str, Any], listing: Listing) -> Arrays:
        """Answers of a signature.

        Raises:
            ServingError: none came, or the server refuses.
        """
        return self._patiently(
            lambda seconds: self._predict(signature, inputs, listing[signature], seconds)
        )

    def listing(self) -> Listing:
        """Inputs and outputs of the model's signatures; errors as of `predict`."""
        return self._patiently(self._listing)

    def close(self) -> None:  # noqa: B027
        """Lets connections go, where there are any."""

    @abc.abstractmethod
    def _predict(
        self, signature: str, inputs: Mapping[str, Any], specs: Any, seconds: float
    ) -> Arrays: ...

    @abc.abstractmethod
    def _listing(self, seconds: float) -> Listing: ...

    def _patiently(self, send: Callable[[float], Answer]) -> Answer:
        end, wait = time.monotonic() + self.deadline, _FIRST_WAIT
        for attempt in range(1, self.attempts + 1):
            left = end - time.monotonic()
            try:
                return send(max(left, 0.001))
            except ServingError as error:
                pause = random.uniform(0.5, 1.0) * wait
                wait = min(2 * wait, _LONGEST_WAIT)
                if error.status not in AGAIN or attempt == self.attempts:
                    raise
                if time.monotonic() + pause >= end:
                    raise
                time.sleep(pause)
        raise AssertionError("the loop returns or raises")

    def _error(self, status: str, message: str) -> ServingError:
        """An error in one sentence; of the model's own checks, theirs."""
        where = f"{self.model} on {self.server}"
        _, found, sentence = message.partition("assertion failed: [")
        if found:
            reason = sentence.partition("]\n")[0]
            # The operation closes what it opened; the sentence may end in a bracket of its own.
            if reason.count("]") > reason.count("["):
                reason = reason.removesuffix("]")
            return ServingError(status, f"{where} refuses the request: {reason}")
        reason = " ".join(message.split()) or "no reason given"
        if status in AGAIN or status == "DEADLINE_EXCEEDED":
            hint = "see that the server runs there, or give it more time with --deadline"
        elif status == "NOT_FOUND":
            hint = "see which models and versions the server has"
        else:
            hint = "see what the server logs"
        return ServingError(status, f"{where} gives no answer ({status}: {reason[:300]}): {hint}")


class Grpc(Transport):
    """By gRPC; needs tensorflow-serving-api, which imports TensorFlow."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise UserError(
                f"gRPC needs tensorflow-serving-api ({error}): run "
                "pip install 'zforcing-tf[serving]', or give --server=http://... for REST"
            ) from error
        sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
        options = [(name, _LARGEST_MESSAGE) for name in sizes]
        self._channel = grpc.insecure_channel(self.server, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._failure = grpc.RpcError

    def close(self) -> None:
        """Lets the connection go."""
        self._channel.close()

    def _predict(
        self, signature: str, inputs: Mapping[str, Any], specs: Any, seconds: float
    ) -> Arrays:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._address(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        answer = self._call(self._stub.Predict, request, seconds)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def _listing(self, seconds: float) -> Listing:
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        self._address(request.model_spec)
        request.metadata_field.append("signature_def")
        answer = self._call(self._stub.GetModelMetadata, request, seconds)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)

        def side(specs: Any) -> dict[str, Any]:
            return {
                name: {
                    "dtype": tf.as_dtype(spec.dtype).name,
                    "shape": [None if d.size < 0 else d.size for d in spec.tensor_shape.dim],
                }
                for name, spec in specs.items()
            }

        return {
            name: {"inputs": side(one.inputs), "outputs": side(one.outputs)}
            for name, one in found.signature_def.items()
        }

    def _address(self, spec: Any) -> None:
        spec.name = self.model
        if self.version.isdecimal():
            spec.version.value = int(self.version)
        elif self.version:
            spec.version_label = self.version

    def _call(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds)
        except self._failure as error:
            raise self._error(error.code().name, error.details() or "") from None


class Rest(Transport):
    """By REST, with what Python brings."""

    def _predict(
        self, signature: str, inputs: Mapping[str, Any], specs: Any, seconds: float
    ) -> Arrays:
        body = {
            "signature_name": signature,
            "inputs": {name: _to_json(value) for name, value in inputs.items()},
        }
        answer = self._call(":predict", json.dumps(body).encode(), seconds)
        with self._understood():
            found = answer["outputs"]
            if len(specs["outputs"]) == 1:  # the server leaves the name out
                found = {next(iter(specs["outputs"])): found}
            return {
                name: _from_json(found[name], spec["dtype"])
                for name, spec in specs["outputs"].items()
            }

    def _listing(self, seconds: float) -> Listing:
        answer = self._call("/metadata", None, seconds)
        with self._understood():
            return self._read_listing(answer["metadata"]["signature_def"]["signature_def"])

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = f"the answer is not that of TensorFlow Serving: {error!r}"
            raise self._error("INTERNAL", reason) from error

    def _read_listing(self, found: Mapping[str, Any]) -> Listing:

        def side(specs: Any) -> dict[str, Any]:
            return {
                name: {
                    "dtype": _DTYPES.get(spec["dtype"], spec["dtype"]),
                    "shape": [
                        None if int(d["size"]) < 0 else int(d["size"])
                        for d in spec["tensor_shape"].get("dim", ())
                    ],
                }
                for name, spec in specs.items()
            }

        return {
            name: {"inputs": side(one.get("inputs", {})), "outputs": side(one.get("outputs", {}))}
            for name, one in found.items()
        }

    def _call(self, method: str, body: bytes | None, seconds: float) -> Any:
        end = time.monotonic() + seconds
        place = ""
        model, version = (urllib.parse.quote(name, safe="") for name in (self.model, self.version))
        if version:
            place = f"/{'versions' if version.isdecimal() else 'labels'}/{version}"
        url = f"{self.server.rstrip('/')}/v1/models/{model}{place}{method}"
        try:
            with urllib.request.urlopen(url, data=body, timeout=seconds) as answer:
                return json.loads(_whole(answer, end))
        except urllib.error.HTTPError as error:
            text = ""
            with contextlib.suppress(OSError, http.client.HTTPException):
                text = _whole(error, end).decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = str(json.loads(text)["error"])
            raise self._error(_OF_HTTP.get(error.code, f"HTTP {error.code}"), text) from None
        except TimeoutError as error:
            raise self._error("DEADLINE_EXCEEDED", f"none within {seconds:.1f} s") from error
        except ConnectionError as error:  # one that is a fault of HTTP too: nothing was said
            raise self._error("UNAVAILABLE", str(error)) from error
        except http.client.InvalidURL as error:
            raise UserError(f"--server={self.server} is no address: {error}") from error
        except http.client.HTTPException as error:
            reason = f"it does not speak HTTP as it should: {error!r}"
            hint = ": is it the port of gRPC? Then give host:port without http://"
            raise self._error("INTERNAL", reason + hint) from error
        except OSError as error:
            cause: object = getattr(error, "reason", None) or error
            if isinstance(cause, TimeoutError):
                raise self._error("DEADLINE_EXCEEDED", f"none within {seconds:.1f} s") from error
            raise self._error("UNAVAILABLE", str(cause)) from error
        except ValueError as error:
            raise self._error("INTERNAL", f"the answer is no JSON: {error}") from error


def _whole(answer: Any, end: float) -> bytes:
    """All of an answer, however slowly it drips: until `end` of `time.monotonic`."""
    parts = []
    while part := answer.read1(1 << 16):
        parts.append(part)
        if time.monotonic() > end:
            raise TimeoutError
    if answer.length:  # what was announced and did not come
        raise http.client.IncompleteRead(b"".join(parts), answer.length)
    return b"".join(parts)


_DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_STRING": "string",
}


def _to_json(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "SO":
        return array.tolist()
    return [{"b64": base64.b64encode(one).decode()} for one in array.tolist()]


def _from_json(value: Any, dtype: str) -> npt.NDArray[Any]:
    if dtype != "string":
        return np.asarray(value, dtype)

    def text(one: Any) -> Any:
        if isinstance(one, list):
            return [text(part) for part in one]
        return base64.b64decode(one["b64"]) if isinstance(one, dict) else one.encode()

    return np.array(text(value), "S")


def connect(server: str, *arguments: Any, **more: Any) -> Transport:
    """REST for an address that begins with http:// or https://, else gRPC; see `Transport`."""
    if not server:
        raise UserError(
            "--server is empty; give host:port for gRPC, such as localhost:8500, or a URL for "
            "REST, such as http://localhost:8501"
        )
    kind = Rest if server.startswith(("http://", "https://")) else Grpc
    return kind(server, *arguments, **more)
