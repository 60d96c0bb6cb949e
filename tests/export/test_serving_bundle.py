"""The configuration files for TensorFlow Serving: readable by its messages, and of one piece."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config import model_server_config_pb2

from export import warmup
from export.client import MOST_ROWS, Client
from export.transport import ServingError, connect
from tests.export.served import request, served

FOLDER = Path(__file__).resolve().parents[2] / "export" / "serving"
SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER") or shutil.which("tensorflow_model_server")


def messages() -> Any:
    """`BatchingParameters` and `MonitoringConfig`, which tensorflow-serving-api does not bring.

    Their fields are those of session_bundle_config.proto and monitoring_config.proto of the server.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(
        name="of_the_server.proto", package="of_the_server", syntax="proto3"
    )
    file.dependency.append(wrappers.DESCRIPTOR.name)

    def message(name: str, *fields: tuple[str, int, str, int]) -> None:
        own = file.message_type.add(name=name)
        for number, (field, kind, of, label) in enumerate(fields, start=1):
            own.field.add(name=field, number=number, type=kind, type_name=of or None, label=label)

    number, text = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
    message(
        "BatchingParameters",
        ("max_batch_size", kinds.TYPE_MESSAGE, number, one),
        ("batch_timeout_micros", kinds.TYPE_MESSAGE, number, one),
        ("max_enqueued_batches", kinds.TYPE_MESSAGE, number, one),
        ("num_batch_threads", kinds.TYPE_MESSAGE, number, one),
        ("thread_pool_name", kinds.TYPE_MESSAGE, text, one),
        ("allowed_batch_sizes", kinds.TYPE_INT64, "", many),
        ("pad_variable_length_inputs", kinds.TYPE_BOOL, "", one),
    )
    message(
        "PrometheusConfig",
        ("enable", kinds.TYPE_BOOL, "", one),
        ("path", kinds.TYPE_STRING, "", one),
    )
    message(
        "MonitoringConfig",
        ("prometheus_config", kinds.TYPE_MESSAGE, ".of_the_server.PrometheusConfig", one),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"of_the_server.{name}")
    )()


def parsed(file: str, message: Any) -> Any:
    return text_format.Parse((FOLDER / file).read_text(), message)


def models() -> Any:
    found = parsed("models.config", model_server_config_pb2.ModelServerConfig())
    (model,) = found.model_config_list.config
    return model


def compose() -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
    return dict(found["services"]["model-server"])


def kubernetes() -> tuple[dict[str, Any], dict[str, Any]]:
    deployment, service = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    return deployment, service


def test_two_versions_have_labels() -> None:
    model = models()
    assert (model.name, model.base_path) == ("zforcing", "/models/zforcing")
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) == versions and len(versions) == 2


def test_batches_are_those_that_are_warmed_up() -> None:
    found = parsed("batching.config", messages()("BatchingParameters"))
    assert tuple(found.allowed_batch_sizes) == warmup.ROWS
    assert found.max_batch_size.value == max(warmup.ROWS) == MOST_ROWS
    assert not found.pad_variable_length_inputs


def test_metrics_are_where_they_are_looked_for() -> None:
    found = parsed("monitoring.config", messages()("MonitoringConfig")).prometheus_config
    annotations = kubernetes()[0]["spec"]["template"]["metadata"]["annotations"]
    assert found.enable and annotations["prometheus.io/path"] == found.path
    assert annotations["prometheus.io/port"] == "8501"


def test_both_ways_to_run_it_run_the_same_server() -> None:
    deployment, service = kubernetes()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == compose()["command"]
    assert container["command"] == compose()["entrypoint"]
    image, _, tag = container["image"].partition(":")
    assert compose()["image"] == f"{image}:${{SERVING_TAG:-{tag}}}" and tag != "latest"
    flags = dict(arg.removeprefix("--").split("=") for arg in container["args"])
    for flag in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        assert (FOLDER / Path(flags[flag]).name).is_file()
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])}
    assert {p["targetPort"]: p["port"] for p in service["spec"]["ports"]} == ports
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/zforcing", "port": "rest"}
    assert {"cpu", "memory"} == set(container["resources"]["limits"])
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@pytest.mark.server
@pytest.mark.skipif(
    SERVER is None, reason="no tensorflow_model_server on the PATH or in TENSORFLOW_MODEL_SERVER"
)
def test_a_real_server_answers(tmp_path: Path) -> None:
    """With the batching and the monitoring of the bundle."""
    base = tmp_path / "zforcing"
    shutil.copytree(served().path, base / "1")
    ports = free_port(), free_port()
    command = [
        str(SERVER), f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--model_name=zforcing",
        f"--model_base_path={base}", "--enable_batching=true",
        f"--batching_parameters_file={FOLDER / 'batching.config'}",
        f"--monitoring_config_file={FOLDER / 'monitoring.config'}",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            for address in (f"localhost:{ports[0]}", f"http://localhost:{ports[1]}"):
                asked = Client(connect(address, "zforcing"))
                for _ in range(60):
                    try:
                        assert asked.listing
                        break
                    except ServingError:
                        time.sleep(1)
                right = request(served())
                answer = asked.ask("score", **right)
                expected = served().ask("score", **right)
                np.testing.assert_allclose(answer["elbo"], expected["elbo"], rtol=1e-5)
                with pytest.raises(ServingError, match="lengths\\[0\\] is 6; x has 5 steps"):
                    asked.ask("score", **{**right, "lengths": right["lengths"] + 1})
        finally:
            process.terminate()
