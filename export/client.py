r"""Asks a model on TensorFlow Serving: scores, samples, continuations, streams.

  python -m export.client --server=localhost:8500 --model=speech --task=score --input=recordings \
    --sample_rate=16000
  python -m export.client --server=http://localhost:8501 --model=digits --task=generate --count=4
  python -m export.client --server=localhost:8500 --model=digits --task=stream --input=long.npy

As a library: `Client(connect("localhost:8500", "digits")).score(sequences)`. A server's address is
host:port for gRPC, or a URL for REST, which needs nothing but Python.

  --task=signatures   what the model answers
  --task=score        the elbo of each sequence, nats, and of each step with --output
  --task=generate     --count sequences of --num_steps steps
  --task=continue     --num_steps steps after each sequence
  --task=stream       log p of each frame given those before it, frame by frame

--input is an npz or npy file of arrays (x [N, T, D] with lengths, or [T, D] for a stream), text (a
sentence a line), or a recording or folder of recordings, which are brought to the model's
--sample_rate; what comes back goes into --output, an npz file, and a table to the screen. Takes as
long as the server does; progress on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import flags

from zforcing_tf import programs
from zforcing_tf.errors import UserError

from .limits import MOST_FRAMES
from .transport import Arrays, Listing, Transport, connect

MOST_ROWS = 64
"""Sequences of a request."""
_SHARE = 8


def bucket(steps: int) -> int:
    """The length to which so many steps are padded: one eighth longer at most, and few of them."""
    unit = max(1, (1 << max(0, steps.bit_length() - 1)) // _SHARE)
    return -(-steps // unit) * unit


class Client:
    """A model on a server.

    Args:
        transport: to it.
        most_rows: sequences of a request.
    """

    def __init__(self, transport: Transport, most_rows: int = MOST_ROWS) -> None:
        self.transport, self._most_rows = transport, most_rows
        self._listing: Listing | None = None

    @property
    def listing(self) -> Listing:
        """Inputs and outputs of the model's signatures, asked for once."""
        if self._listing is None:
            self._listing = self.transport.listing()
        return self._listing

    def ask(self, signature: str, **inputs: Any) -> Arrays:
        """One request.

        Raises:
            UserError: the model has no such signature or inputs.
            ServingError: no answer.
        """
        specs = self._inputs(signature)
        if specs.keys() != inputs.keys():
            raise _other_inputs(signature, specs, inputs)
        typed = {name: _typed(name, value, specs[name]["dtype"]) for name, value in inputs.items()}
        for name, value in typed.items():
            wanted = specs[name]["shape"]
            fits = len(wanted) == value.ndim and all(
                size in (None, given) for size, given in zip(wanted, value.shape, strict=True)
            )
            if not fits:
                shown = ["?" if size is None else size for size in wanted]
                raise UserError(
                    f"{signature} takes {name} of shape [{', '.join(map(str, shown))}], not "
                    f"{list(value.shape)}"
                )
        return self.transport.predict(signature, typed, self.listing)

    def score(
        self, sequences: Sequence[Any], seed: int = 0, signature: str = "score"
    ) -> Iterator[tuple[int, Arrays]]:
        """Scores of sequences, each with its index, in order of length.

        Args:
            sequences: arrays [T, D], or [T] symbols; of `score_text` texts, of `score_audio`
                samples [N].
            seed: with a sequence's index determines its noise: batches change nothing.
            signature: `score`, or another with the same inputs and an answer for each sequence.
        """
        for index, inputs in self._batches(sequences, signature):
            seeds = np.stack([np.full(len(index), seed), index], axis=1)
            answer = self.ask(signature, **inputs, seed=seeds)
            for row, number in enumerate(index.tolist()):
                yield number, {name: value[row] for name, value in answer.items()}

    def generate(
        self,
        num_steps: int,
        count: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        prefixes: Sequence[Any] | None = None,
        kind: str = "",
    ) -> Iterator[tuple[int, Arrays]]:
        """Samples, or continuations of prefixes, each with its index.

        Args:
            num_steps: steps of each (samples of recordings).
            count: how many, without prefixes.
            seed: with the index determines the noise.
            temperature: 1 samples, 0 takes modes.
            prefixes: as the sequences of `score`.
            kind: "", or `_text` or `_audio` for the signatures of these.
        """
        wish = {"": "num_steps", "_text": "num_steps", "_audio": "num_samples"}[kind]
        most = self._rows_to_generate(num_steps, kind)
        if prefixes is None:
            signature = f"generate{kind}"
            numbers = np.arange(count)
            batches: Any = ((numbers[k : k + most], {}) for k in range(0, count, most))
        else:
            signature = f"continue{kind}"
            wish = "num_wanted" if kind == "_audio" else wish
            batches = self._batches(prefixes, signature, most)
        for index, inputs in batches:
            rows = len(index)
            asked = {
                wish: np.full(rows, num_steps),
                "seed": np.stack([np.full(rows, seed), index], axis=1),
                "temperature": np.full(rows, temperature),
            }
            answer = self.ask(signature, **inputs, **asked)
            for row, number in enumerate(index.tolist()):
                yield number, {name: value[row] for name, value in answer.items()}

    def stream(
        self, frames: Iterable[Any], seed: int = 0, temperature: float = 1.0
    ) -> Iterator[Arrays]:
        """What `step` says of each frame of one sequence; the state is kept here.

        Args:
            frames: [D] each, or symbols.
            seed: of the noise.
            temperature: of `x_sample`.
        """
        state = self.ask("initial_state", session=np.zeros(1))
        constant = {"seed": np.array([[seed, 0]]), "temperature": np.array([temperature])}
        for frame in frames:
            answer = self.ask("step", x=np.asarray(frame)[np.newaxis], **constant, **state)
            state = {name: value for name, value in answer.items() if name in state}
            yield {name: value[0] for name, value in answer.items() if name not in state}

    def _inputs(self, signature: str) -> dict[str, dict[str, Any]]:
        """What a signature takes; UserError if the model has none of that name."""
        if signature not in self.listing:
            raise UserError(
                f"{self.transport.model} has no signature {signature!r}, but "
                f"{', '.join(sorted(self.listing))}"
            )
        return self.listing[signature]["inputs"]

    def _rows_to_generate(self, num_steps: int, kind: str) -> int:
        """Rows of a request for so many steps (samples of recordings) each."""
        frame = 1
        if kind == "_audio" and "generate" in self.listing:
            frame = self.listing["generate"]["outputs"]["x"]["shape"][-1]
        steps = -(-num_steps // frame)
        return max(1, min(self._most_rows, MOST_FRAMES // max(1, steps)))

    def _batches(
        self, sequences: Sequence[Any], signature: str, rows: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, Any]]]:
        """Indices, and inputs but those of chance: sequences of similar length together."""
        rows = self._most_rows if rows is None else rows
        if signature.endswith("_text"):
            for start in range(0, len(sequences), rows):
                some = sequences[start : start + rows]
                yield np.arange(start, start + len(some)), {"text": [one.encode() for one in some]}
            return
        lengths = np.array([len(one) for one in sequences], np.int64)
        if not lengths.all():
            empty = int(np.argmin(lengths))
            raise UserError(f"sequence {empty} has no steps: leave it out")
        names = ("samples", "num_samples") if signature.endswith("_audio") else ("x", "lengths")
        specs = self._inputs(signature)
        if names[0] not in specs:
            raise _other_inputs(signature, specs, names)
        dtype = specs[names[0]]["dtype"]
        buckets = np.array([bucket(int(length)) for length in lengths], np.int64)
        for size in np.unique(buckets):
            inside = np.flatnonzero(buckets == size)
            for start in range(0, len(inside), rows):
                index = inside[start : start + rows]
                some = [_typed(f"sequence {k}", sequences[k], dtype) for k in index]
                x = np.zeros((len(some), size, *some[0].shape[1:]), dtype)
                for number, row, one in zip(index, x, some, strict=True):
                    if one.shape[1:] != row.shape[1:]:
                        raise UserError(
                            f"sequence {number} has frames of shape {list(one.shape[1:])}, others "
                            f"{list(row.shape[1:])}: give sequences of one kind"
                        )
                    row[: len(one)] = one
                yield index, dict(zip(names, (x, lengths[index]), strict=True))


def _other_inputs(signature: str, specs: Iterable[str], given: Iterable[str]) -> UserError:
    return UserError(f"{signature} takes {', '.join(sorted(specs))}, not {sorted(given)}")


def _typed(name: str, value: Any, dtype: str) -> npt.NDArray[Any]:
    """An array of a signature's dtype; numbers that it cannot hold are refused."""
    if dtype == "string":
        return np.array(value, "S")
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unlike lengths
        raise UserError(f"{name} is no array of one shape: give numbers [T, D] or [T]") from None
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name} holds {array.dtype}: give numbers")
    with np.errstate(invalid="ignore"):  # of what is no number, which the comparison finds
        typed = array.astype(dtype)
    if np.dtype(dtype).kind == "i" and not np.array_equal(typed, array):
        raise UserError(f"{name} must hold whole numbers of {dtype}")
    return typed


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_string("server", "", "host:port for gRPC, or a URL for REST.")
    flags.DEFINE_string("model", "", "Name of the model on the server.")
    flags.DEFINE_string("version", "", "Number or label of a version; empty: the server's choice.")
    flags.DEFINE_enum(
        "task",
        "signatures",
        ["signatures", "score", "generate", "continue", "stream"],
        "What to ask for.",
    )
    flags.DEFINE_string("input", "", "Arrays, text, or recordings; see above.")
    flags.DEFINE_integer(
        "sample_rate",
        0,
        "Of a model of sound, in hertz: recordings are brought to it.",
        lower_bound=0,
    )
    flags.DEFINE_string("output", "", "Npz file that takes all that comes back.")
    flags.DEFINE_integer("num_steps", 0, "Steps (samples of recordings) of what is generated.")
    flags.DEFINE_integer("count", 1, "Sequences to generate.", lower_bound=1)
    flags.DEFINE_float("temperature", 1.0, "1 samples, 0 takes modes.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**31 - 1)
    flags.DEFINE_float("deadline", 30.0, "Seconds for a request, repetitions included.", 0.001)
    flags.DEFINE_integer("attempts", 5, "Times that a request is sent, at most.", lower_bound=1)
    flags.DEFINE_integer("batch_size", MOST_ROWS, "Sequences of a request.", lower_bound=1)


def main() -> None:
    """Runs the program."""
    from . import client_files

    given = flags.FLAGS
    if not given.model:
        raise UserError("--model is empty; give the name of the model on the server")
    if given.output:
        client_files.check_output(Path(given.output))
    more = {"deadline": given.deadline, "attempts": given.attempts}
    transport = connect(given.server, given.model, given.version, **more)
    try:
        _do(Client(transport, given.batch_size), client_files, given)
    finally:
        transport.close()


def _do(client: Client, files: Any, given: Any) -> None:
    if given.task == "signatures":
        print(files.signatures(client.listing))
        return
    if given.task in ("generate", "continue") and given.num_steps < 1:
        raise UserError(f"--task={given.task} needs --num_steps: give 1 or more")
    if given.task == "generate":
        kind = next((k for k in ("_text", "_audio") if f"generate{k}" in client.listing), "")
        sequences, total = None, given.count
    else:
        if not given.input:
            raise UserError(f"--task={given.task} needs --input: give a file")
        one = given.task == "stream"
        sequences, kind = files.read(Path(given.input), one, given.sample_rate)
        total = len(sequences)
    chance = {"seed": given.seed}
    if given.task == "stream":
        answers: Any = enumerate(client.stream(sequences or (), given.seed, given.temperature))
    elif given.task == "score":
        answers = client.score(sequences or (), **chance, signature=f"score{kind}")
    else:
        wish = {**chance, "temperature": given.temperature, "prefixes": sequences, "kind": kind}
        answers = client.generate(given.num_steps, given.count, **wish)
    found: dict[int, Arrays] = {}
    for number, answer in answers:
        found[number] = answer
        if sys.stderr.isatty():
            print(f"\r{len(found)} of {total}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    ordered = [found[number] for number in sorted(found)]
    print(files.table(ordered))
    if given.output:
        files.write(Path(given.output), ordered)
        print(given.output)


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
