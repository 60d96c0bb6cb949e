"""Latency and throughput of a SavedModel: through the C++ loader of a server, and a TF1 session.

  python benchmarks/serving.py --threads=1

exports a Z-Forcing model of random weights (`--recurrent_size=256`, frames of 200 numbers,
sequences of `--steps=100`), and asks `score` and `step` with 1 and with 64 rows: through the C API
(`export/c_api.py`), the same with signatures that XLA compiled (`--enable_xla` of an export),
through a session of TensorFlow 1 in Python, and the Python model itself, whose time is what the
model costs. p50 and p99 in milliseconds, requests a second of one client that
waits for each answer; the time to load; the size on disk. Takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
ROWS = (1, 64)

Ask = Callable[[str, dict[str, Any]], Any]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recurrent_size", type=int, default=256)
    parser.add_argument("--frame_size", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=200, help="of requests with one row")
    parser.add_argument("--threads", type=int, default=1, help="cores that are used")
    parser.add_argument("--json", default="", help="file that takes the numbers too")
    parser.add_argument("--loader", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loader:
        _child(arguments)
        return
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        _parent(arguments, Path(folder))


def _parent(arguments: argparse.Namespace, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for loader in _LOADERS:
        # A process each, for its memory; the first one exports.
        command = [sys.executable, __file__, f"--loader={loader}", f"--folder={folder}"]
        command += [
            f"--{name}={getattr(arguments, name)}"
            for name in ("recurrent_size", "frame_size", "steps", "rounds", "threads")
        ]
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: arguments.threads]))
        done = subprocess.run(
            ["taskset", "-c", cores, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{loader} failed: {done.stderr[-2000:]}")
        rows += json.loads(done.stdout.splitlines()[-1])
    _print(arguments, rows, _size(folder / "model"))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2))


def _print(arguments: argparse.Namespace, rows: list[dict[str, Any]], size: int) -> None:
    print(
        f"Z-Forcing, H {arguments.recurrent_size}, frames of {arguments.frame_size} numbers, "
        f"sequences of {arguments.steps}, {arguments.threads} core(s); "
        f"{size / 2**20:.1f} MiB on disk"
    )
    print(
        "signature  rows  through         p50 ms   p99 ms  requests/s   over the model  load s  MiB"
    )
    for row in sorted(rows, key=lambda row: (row["signature"], row["rows"])):
        model = next(
            other["p50"]
            for other in rows
            if other["loader"] == "python model"
            and (other["signature"], other["rows"]) == (row["signature"], row["rows"])
        )
        print(
            f"{row['signature']:9s} {row['rows']:5d}  {row['loader']:13s} {row['p50']:8.2f} "
            f"{row['p99']:8.2f} {1e3 / row['p50']:11.1f} {row['p50'] / model:16.2f} "
            f"{row['load_seconds']:7.2f} {row['peak_mib']:4.0f}"
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _child(arguments: argparse.Namespace) -> None:
    import resource

    folder, found = Path(arguments.folder), []
    start = time.monotonic()
    ask = _LOADERS[arguments.loader](arguments, folder)
    loading = time.monotonic() - start
    rng = np.random.default_rng(0)
    for rows in ROWS:
        for signature, inputs in _requests(arguments, ask, rng, rows).items():
            rounds = max(10, arguments.rounds // (1 if rows == 1 else 8))
            for _ in range(3):
                ask(signature, inputs)
            seconds = []
            for _ in range(rounds):
                begin = time.perf_counter()
                ask(signature, inputs)
                seconds.append(time.perf_counter() - begin)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            found.append(
                {
                    "loader": arguments.loader,
                    "signature": signature,
                    "rows": rows,
                    "p50": 1e3 * float(np.percentile(seconds, 50)),
                    "p99": 1e3 * float(np.percentile(seconds, 99)),
                    "load_seconds": loading,
                    "peak_mib": peak,
                }
            )
    print(json.dumps(found))


def _requests(
    arguments: argparse.Namespace, ask: Ask, rng: np.random.Generator, rows: int
) -> dict[str, dict[str, Any]]:
    seed = rng.integers(0, 2**31 - 1, (rows, 2)).astype(np.int32)
    x = rng.normal(size=(rows, arguments.steps, arguments.frame_size)).astype(np.float32)
    state = ask("initial_state", {"session": np.arange(rows, dtype=np.int64)})
    stream = {"x": x[:, 0], "seed": seed, "temperature": np.ones(rows, np.float32)}
    after = ask("step", {**stream, **state})  # the first frame of a stream costs two
    state = {name: np.asarray(after[name]) for name in state}
    return {
        "score": {"x": x, "lengths": np.full(rows, arguments.steps, np.int32), "seed": seed},
        "step": {**stream, **state},
    }


def _python_model(arguments: argparse.Namespace, folder: Path) -> Ask:
    """Exports too. Its signatures are the graphs that were traced, which no file went between."""
    import tensorflow as tf

    from export.endpoint import Wanted
    from export.saved_model import write_model
    from export.signatures import serving_module
    from export.verify import graph_tensors
    from zforcing_tf import ExperimentConfig, ModelConfig, models
    from zforcing_tf.data.spec import DataSpec

    size = arguments.recurrent_size
    sizes = {"recurrent_size": size, "embedding_size": size, "hidden_size": size}
    config = ExperimentConfig(model=ModelConfig(model="zforcing", latent_size=64, **sizes))
    spec = DataSpec("noise", "real", arguments.frame_size, arguments.steps)
    model = models.build(config, spec)
    signatures = {}
    for name in ("compiled", "model"):
        module, signatures = serving_module(model, Wanted(compiled=name == "compiled"))
        write_model(module, signatures, folder / name)
        tensors = json.dumps(graph_tensors(str(folder / name)))
        (folder / f"{name}.json").write_text(tensors)

    def ask(signature: str, inputs: dict[str, Any]) -> Any:
        answers = signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    return ask


def _session(arguments: argparse.Namespace, folder: Path) -> Ask:
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder / "model"))
    calls: dict[str, Any] = {}

    def ask(signature: str, inputs: dict[str, Any]) -> Any:
        spec = meta.signature_def[signature]
        if signature not in calls:  # as a server, which prepares a call once
            names = list(spec.outputs)
            fetches = [session.graph.get_tensor_by_name(spec.outputs[n].name) for n in names]
            feeds = [session.graph.get_tensor_by_name(spec.inputs[n].name) for n in inputs]
            calls[signature] = (names, session.make_callable(fetches, feeds))
        names, call = calls[signature]
        return dict(zip(names, call(*inputs.values()), strict=True))

    return ask


def _c_api(arguments: argparse.Namespace, folder: Path, name: str = "model") -> Ask:
    from importlib import util

    from export.c_api import LIBRARY, Session

    spec = util.find_spec("tensorflow")
    assert spec is not None and spec.submodule_search_locations is not None
    library = Path(spec.submodule_search_locations[0], LIBRARY)
    tensors = json.loads((folder / f"{name}.json").read_text())
    return Session(str(library), str(folder / name), tensors).run


def _compiled(arguments: argparse.Namespace, folder: Path) -> Ask:
    return _c_api(arguments, folder, "compiled")


_LOADERS: dict[str, Callable[[argparse.Namespace, Path], Ask]] = {
    "python model": _python_model,
    "session": _session,
    "C API": _c_api,
    "C API, XLA": _compiled,
}


if __name__ == "__main__":
    main()
