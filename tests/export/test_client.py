"""The client against a server that answers, refuses, waits, and fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import checks, client_files
from export.client import MOST_FRAMES, Client, bucket
from export.transport import ServingError, connect
from tests import model_factory
from tests.export import test_text
from tests.export.model_server import MODEL, Fault, ModelServer, running
from tests.export.served import SEED, served
from zforcing_tf.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ModelServer, str, str]]:
    with running(served().path) as found:
        yield found


@pytest.fixture(params=["grpc", "rest"])
def address(request: pytest.FixtureRequest, server: tuple[ModelServer, str, str]) -> Iterator[str]:
    server[0].faults.clear()
    server[0].requests = 0
    yield server[1] if request.param == "grpc" else server[2]


def client(address: str, **more: Any) -> Client:
    return Client(connect(address, MODEL, **more), most_rows=3)


def sequences() -> list[np.ndarray]:
    x = model_factory.frames("bernoulli", 9, 13)
    return [x[k, : 1 + (5 * k) % 13] for k in range(9)]


def test_the_listing_is_the_exported_one(address: str) -> None:
    found = client(address).listing
    assert found == served().listing


def test_scores_are_those_of_each_sequence_alone(address: str) -> None:
    given = sequences()
    found = dict(client(address).score(given, seed=7))
    assert sorted(found) == list(range(9))
    for number, x in enumerate(given):
        alone = served().ask(
            "score",
            x=x[np.newaxis],
            lengths=np.array([len(x)], np.int32),
            seed=np.array([[7, number]], np.int32),
        )
        np.testing.assert_allclose(found[number]["elbo"], alone["elbo"][0], rtol=1e-5)
        steps = found[number]["log_prob_per_step"]
        np.testing.assert_allclose(steps[: len(x)], alone["log_prob_per_step"][0], rtol=1e-4)
        assert not steps[len(x) :].any()


def test_samples_and_continuations(address: str) -> None:
    model = served().model
    seeds = np.stack([np.full(4, 7), np.arange(4)], axis=1).astype(np.int32)
    found = dict(client(address).generate(6, count=4, seed=7))
    expected = model.generate(6, seed=seeds).numpy()
    np.testing.assert_array_equal([found[k]["x"] for k in range(4)], expected)
    given = sequences()[:4]
    longer = dict(client(address).generate(5, seed=7, prefixes=given))
    for number, x in enumerate(given):
        own = model.generate(5, seed=seeds[number : number + 1], prefix=x[np.newaxis])[0]
        np.testing.assert_array_equal(longer[number]["x"], own)


def test_a_stream_keeps_its_state(address: str) -> None:
    frames = served().model.generate(5, seed=SEED[:1] * [[1, 0]]).numpy()[0]
    said = list(client(address).stream(frames, seed=int(SEED[0, 0])))
    assert len(said) == 5 and set(said[0]) == {"log_prob", "x_mean", "x_sample"}
    for t in range(4):
        np.testing.assert_array_equal(said[t]["x_sample"], frames[t + 1])


def test_a_refusal_is_one_sentence_and_final(server: Any, address: str) -> None:
    x = [np.full((3, 3), 7, np.float32)]
    with pytest.raises(ServingError) as caught:
        list(client(address).score(x))
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "refuses the request: x[0, 0] holds a number outside of 0 to 1" in str(caught.value)
    assert "\n" not in str(caught.value) and server[0].requests == 1
    assert len(list(client(address).score(sequences()))) == 9  # the server goes on


@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_what_a_busy_server_did_not_take_is_sent_again(
    server: Any, address: str, status: str
) -> None:
    asked = client(address)
    expected = dict(asked.score(sequences()[:1]))
    server[0].requests = 0
    server[0].faults[:] = [Fault(status), Fault(status)]
    found = dict(asked.score(sequences()[:1]))
    np.testing.assert_array_equal(found[0]["elbo"], expected[0]["elbo"])
    assert server[0].requests == 3


def test_it_is_not_sent_for_ever(server: Any, address: str) -> None:
    server[0].faults[:] = [Fault("UNAVAILABLE")] * 9
    asked = client(address, attempts=3)
    with pytest.raises(ServingError, match="UNAVAILABLE: as it was told"):
        list(asked.score(sequences()[:1]))
    assert server[0].requests == 3


def test_what_the_server_cannot_do_is_not_sent_again(server: Any, address: str) -> None:
    server[0].faults[:] = [Fault("INTERNAL")]
    with pytest.raises(ServingError, match="INTERNAL: as it was told"):
        list(client(address).score(sequences()[:1]))
    assert server[0].requests == 1


def test_nothing_is_waited_for_beyond_the_deadline(server: Any, address: str) -> None:
    asked = client(address, deadline=0.5)
    assert asked.listing
    server[0].faults[:] = [Fault(delay=3.0)]
    start = time.monotonic()
    with pytest.raises(ServingError) as caught:
        list(asked.score(sequences()[:1]))
    assert caught.value.status == "DEADLINE_EXCEEDED" and time.monotonic() - start < 2
    server[0].faults[:] = [Fault("UNAVAILABLE")] * 99
    start = time.monotonic()
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        list(client(address, deadline=1.0, attempts=99).score(sequences()[:1]))
    assert time.monotonic() - start < 2
    server[0].faults.clear()
    time.sleep(3.0)  # until the slow one is done


@pytest.mark.parametrize("address", ["localhost:1", "http://localhost:1"])
def test_no_server_at_all(address: str) -> None:
    with pytest.raises(ServingError) as caught:
        print(client(address, deadline=1.0, attempts=2).listing)
    assert caught.value.status == "UNAVAILABLE"
    assert f"small on {address} gives no answer" in str(caught.value)


def test_a_server_that_dies_in_between() -> None:
    with running(served().path) as (_, address, _rest):
        asked = client(address, deadline=2.0, attempts=2)
        answers = asked.stream(sequences()[8])
        next(answers)
    with pytest.raises(ServingError):
        next(answers)


def test_wrong_requests_are_found_before_they_are_sent(server: Any, address: str) -> None:
    asked = client(address)
    with pytest.raises(UserError, match="small has no signature 'guess', but continue, encode"):
        asked.ask("guess")
    with pytest.raises(UserError, match="score takes lengths, seed, x, not \\['x'\\]"):
        asked.ask("score", x=np.zeros((1, 2, 3)))
    with pytest.raises(UserError, match="lengths must hold whole numbers of int32"):
        asked.ask("score", x=np.zeros((1, 2, 3)), lengths=[1.5], seed=[[0, 1]])
    with pytest.raises(UserError, match="sequence 1 has no steps"):
        list(asked.score([np.zeros((2, 3)), np.zeros((0, 3))]))
    with pytest.raises(UserError, match=r"score takes x of shape \[\?, \?, 3\], not \[1, 2, 4\]"):
        list(asked.score([np.zeros((2, 4))]))
    with pytest.raises(UserError, match=r"sequence 1 has frames of shape \[2\], others \[3\]"):
        list(asked.score([np.zeros((2, 3)), np.zeros((2, 2))]))
    with pytest.raises(UserError, match="sequence 0 holds complex128: give numbers"):
        list(asked.score([np.zeros((2, 3), np.complex128)]))
    with pytest.raises(UserError, match="sequence 0 is no array of one shape"):
        list(asked.score([[[1, 2, 3], [4, 5]]]))
    assert server[0].requests == 0


def test_a_sequence_keeps_its_fractions_beside_whole_numbers() -> None:
    with running(served("gaussian", "rnn").path) as (_, address, _):
        asked = client(address)
        whole, fractions = np.array([[1, 0, 2]]), np.array([[0.7, 0.2, 0.1]])
        together = dict(asked.score([whole, fractions]))
        seed = np.array([[0, 1]])
        alone = asked.ask("score", x=fractions[None], lengths=[1], seed=seed)
        np.testing.assert_allclose(together[1]["elbo"], alone["elbo"][0], rtol=1e-6)


def test_as_many_rows_as_a_request_may_generate(server: Any, address: str) -> None:
    assert MOST_FRAMES == checks.MOST_FRAMES
    asked = Client(connect(address, MODEL, deadline=120.0))
    asked.listing  # noqa: B018
    server[0].requests = 0
    found = dict(asked.generate(40_000, count=3))
    assert sorted(found) == [0, 1, 2] and server[0].requests == 2


@contextmanager
def answering(answer: bytes, pause: float = 0.0) -> Iterator[str]:
    """A server that says the same to all, byte by byte if there is a pause."""
    with closing(socket.create_server(("localhost", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    connection.recv(1 << 16)
                    for part in [answer] if not pause else map(bytes, zip(answer)):
                        connection.sendall(part)
                        time.sleep(pause)
                    connection.close()
                except OSError:  # somebody has gone
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://localhost:{listener.getsockname()[1]}"


def http_answer(body: object) -> bytes:
    said = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00", "is it the port of gRPC?"),
        (http_answer({"metadata": 3}), "the answer is not that of TensorFlow Serving"),
        (http_answer([]), "the answer is not that of TensorFlow Serving"),
        (http_answer({"metadata": {}})[:-3], "it does not speak HTTP as it should"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhat", "the answer is no JSON"),
    ],
)
def test_what_is_no_model_server(answer: bytes, reason: str) -> None:
    with answering(answer) as address, pytest.raises(ServingError) as caught:
        connect(address, MODEL, attempts=1).listing()
    assert caught.value.status == "INTERNAL" and reason in str(caught.value)


def test_an_answer_that_drips_ends_with_the_deadline() -> None:
    began = time.monotonic()
    drips = answering(http_answer({"metadata": "x" * 999}), 0.01)
    with drips as address, pytest.raises(ServingError) as caught:
        connect(address, MODEL, deadline=1.0).listing()
    assert caught.value.status == "DEADLINE_EXCEEDED" and time.monotonic() - began < 4


def test_addresses_and_versions_that_cannot_be() -> None:
    with pytest.raises(UserError, match="--server=http://localhost:abc is no address"):
        connect("http://localhost:abc", MODEL).listing()
    with pytest.raises(UserError, match="--version=9{20} is no version"):
        connect("localhost:1", MODEL, "9" * 20)


def test_a_sentence_may_end_in_a_bracket(server: Any, address: str) -> None:
    transport = connect(address, MODEL)
    for said in ("give 0 to 1: [3 0 ... 0]", "give 0 to 1"):
        error = transport._error("INVALID_ARGUMENT", f"assertion failed: [{said}]\n\t [[...]]")
        assert str(error).endswith(f"refuses the request: {said}")


X = np.zeros((3, 4, 2))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": X}, "has no array 'x' but y: call the sequences x"),
        ({"x": np.array(["a", "b"])}, "holds <U1: give numbers"),
        ({"x": np.float32(3)}, "has the shape []: give [N, T, D] or [N, T]"),
        ({"x": X[:, 0, 0]}, "has the shape [3]: give [N, T, D] or [N, T]"),
        ({"x": X[:0]}, "is empty: give sequences"),
        ({"x": X, "lengths": np.array([4, -1, 2])}, "lengths[1] in {} is -1: give 1 to 4"),
        ({"x": X, "lengths": np.array([4, 1, 5])}, "lengths[2] in {} is 5: give 1 to 4"),
        ({"x": X, "lengths": np.array([4, 2.7, 1])}, "lengths in {} is float64 of shape [3]"),
        ({"x": X, "lengths": np.array([[4, 2, 1]])}, "lengths in {} is int64 of shape [1, 3]"),
        ({"x": X, "lengths": np.array(3)}, "lengths in {} is int64 of shape []"),
    ],
)
def test_arrays_that_are_no_sequences(tmp_path: Path, arrays: Any, sentence: str) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError) as caught:
        client_files.read(path)
    assert sentence.format(path) in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("left", [0, 1, 60, -40])
def test_arrays_that_are_cut_off(tmp_path: Path, left: int) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match="cannot be read"):
        client_files.read(path)


def test_what_a_stream_cannot_take(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a\n")
    for path in (tmp_path, tmp_path / "lines.txt"):
        with pytest.raises(UserError, match="is no array: a stream takes an npz or npy file"):
            client_files.read(path, one=True)


def test_recordings_are_brought_to_the_rate_of_the_model(tmp_path: Path) -> None:
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 16000, np.zeros(1600, np.int16))
    with pytest.raises(UserError, match="recordings need --sample_rate, that of the model"):
        client_files.read(tmp_path)
    (samples,), kind = client_files.read(tmp_path, sample_rate=8000)
    assert (kind, len(samples)) == ("_audio", 800)


def test_where_answers_cannot_go(tmp_path: Path) -> None:
    for name, sentence in [
        ("scores.csv", "is no npz file: give a name that ends in .npz"),
        ("no/scores.npz", "no is no folder to write into"),
    ]:
        with pytest.raises(UserError, match=sentence):
            client_files.check_output(tmp_path / name)
    client_files.check_output(tmp_path / "scores.npz")
    client_files.write(tmp_path / "scores.npz", [{"elbo": np.float32(1)}])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_texts_go_through_rest_and_grpc() -> None:
    _, signatures, path = test_text.served("words")
    assert signatures
    with running(path) as (_, *addresses):
        found = []
        for address in addresses:
            asked = client(address)
            found.append(dict(asked.score(test_text.TEXTS, signature="score_text")))
            said = dict(asked.generate(6, prefixes=test_text.TEXTS, kind="_text"))
            assert all(isinstance(one["text"], bytes) for one in said.values())
        for number, one in found[0].items():
            assert one["num_tokens"] == found[1][number]["num_tokens"]
            np.testing.assert_allclose(one["elbo"], found[1][number]["elbo"], rtol=1e-6)


def test_few_lengths_and_little_padding() -> None:
    sizes = {bucket(n) for n in range(1, 5000)}
    assert len(sizes) < 100
    assert all(n <= bucket(n) <= n * 9 / 8 + 1 for n in range(1, 5000))


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export.client", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_program(server: Any, tmp_path: Path) -> None:
    x = model_factory.frames("bernoulli", 5, 6)
    np.savez(tmp_path / "some.npz", x=x, lengths=np.array([6, 2, 3, 1, 5]))
    common = [f"--server={server[2]}", f"--model={MODEL}"]
    done = program(tmp_path, *common)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("continue") and "score_iwae" not in done.stdout
    done = program(
        tmp_path, *common, "--task=score", "--input=some.npz", "--output=scores.npz", "--seed=3"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["elbo"]
    with np.load(tmp_path / "scores.npz") as arrays:
        assert arrays["elbo"].shape == (5,) and arrays["kl_per_step"].shape[0] == 5
    np.save(tmp_path / "long.npy", x[0])
    done = program(tmp_path, *common, "--task=stream", "--input=long.npy")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 7)
    done = program(tmp_path, *common, "--task=generate", "--num_steps=4", "--count=2")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--model is empty; give the name of the model on the server"),
        (["--model=m"], "--server is empty; give host:port for gRPC, such as localhost:8500, or a"),
        (["--model=m", "--server=http://localhost:1", "--task=score"], "--task=score needs --inp"),
        (["--model=m", "--server=http://localhost:1", "--task=score", "--input=no.npz"],
         "--input=no.npz does not exist: give a file or folder"),
        (["--model=m", "--server=http://localhost:1", "--task=continue"],
         "--task=continue needs --num_steps: give 1 or more"),
        (["--model=m", "--server=http://localhost:1", "--attempts=1"],
         "m on http://localhost:1 gives no answer (UNAVAILABLE: "),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = program(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sentence}") and done.stderr.count("\n") == 1
