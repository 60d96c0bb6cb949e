"""A server that answers as TensorFlow Serving does, from a SavedModel through a TF1 session.

It is built on the service's own stubs, listens by gRPC and REST, and fails on demand.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODEL = "small"


class Fault(NamedTuple):
    """What goes wrong with a request."""

    status: str = ""
    """Name of the status that it gets; empty: none."""
    delay: float = 0.0
    """Seconds before that, or before the answer."""


class Refusal(Exception):
    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class ModelServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Attributes: faults, of the next requests in their order; and requests, how many came."""

    def __init__(self, path: Path) -> None:
        self.faults: list[Fault] = []
        self.requests = 0
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session()
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signatures = dict(meta.signature_def.items())
        self.signatures.pop("__saved_model_init_op", None)

    def predict(self, model: Any, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        if self.faults:
            fault = self.faults.pop(0)
            time.sleep(fault.delay)
            if fault.status:
                raise Refusal(fault.status, "as it was told")
        if model != MODEL:
            raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({model})")
        spec = self.signatures[signature]
        feeds = {spec.inputs[name].name: value for name, value in inputs.items()}
        try:
            return self._session.run({k: v.name for k, v in spec.outputs.items()}, feeds)
        except tf.errors.InvalidArgumentError as error:
            raise Refusal("INVALID_ARGUMENT", error.message) from error

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            found = self.predict(request.model_spec.name, request.model_spec.signature_name, inputs)
        except Refusal as error:
            context.abort(grpc.StatusCode[error.status], str(error))
        answer = predict_pb2.PredictResponse()
        for name, value in found.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_spec.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(self.definitions())
        return answer

    def definitions(self) -> Any:
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, one in self.signatures.items():
            found.signature_def[name].CopyFrom(one)
        return found


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    codes = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}
    codes |= {"RESOURCE_EXHAUSTED": 429, "INTERNAL": 500}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, code: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:  # noqa: N802
            assert self.path == f"/v1/models/{MODEL}/metadata"
            found = json_format.MessageToDict(
                server.definitions(), preserving_proto_field_name=True
            )
            self._answer(200, {"metadata": {"signature_def": found}})

        def do_POST(self) -> None:  # noqa: N802
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature = asked["signature_name"]
            specs = server.signatures[signature].inputs
            inputs = {
                name: np.array(
                    [base64.b64decode(v["b64"]) for v in value]
                    if specs[name].dtype == tf.string.as_datatype_enum
                    else value,
                    tf.as_dtype(specs[name].dtype).as_numpy_dtype,
                )
                for name, value in asked["inputs"].items()
            }
            model = self.path.removeprefix("/v1/models/").removesuffix(":predict")
            try:
                found = server.predict(model, signature, inputs)
            except Refusal as error:
                self._answer(codes[error.status], {"error": str(error)})
                return

            def plain(value: Any) -> Any:
                if isinstance(value, bytes):
                    return {"b64": base64.b64encode(value).decode()}
                return [plain(v) for v in value] if isinstance(value, list) else value

            outputs: Any = {name: plain(value.tolist()) for name, value in found.items()}
            self._answer(200, {"outputs": outputs if len(outputs) > 1 else [*outputs.values()][0]})

    return Handler


@contextmanager
def running(path: Path) -> Iterator[tuple[ModelServer, str, str]]:
    """The server of a SavedModel, and its addresses for gRPC and REST."""
    server = ModelServer(path)
    stub = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(server, stub)
    port = stub.add_insecure_port("localhost:0")
    stub.start()
    rest = ThreadingHTTPServer(("localhost", 0), _handler(server))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    try:
        yield server, f"localhost:{port}", f"http://localhost:{rest.server_address[1]}"
    finally:
        rest.shutdown()
        rest.server_close()
        stub.stop(None)
