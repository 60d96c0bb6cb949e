"""The client against a server that answers, refuses, waits, and fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.client import Client, bucket
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
    assert server[0].requests == 0


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
