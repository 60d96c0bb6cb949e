"""Whether the training step waits for its data: milliseconds a batch, against those a step.

Data sets that can be had here are read as they are; numbers of the sizes of real data stand for
those that users bring, in memory or, for sound, in a file of samples.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forms import Row
from benchmarks.sections import Settings
from benchmarks.workers import Worker, serve

BATCH_SIZE = 32
MNIST_SIZES = {"train": 50_000, "validation": 10_000, "test": 10_000}
PIECES = {"chunk_length": 40}
CASES: dict[str, dict[str, Any]] = {
    "digits": {},
    "linear_gaussian": {},
    "linear_gaussian, dealt out by length": {"bucket_batches": 8},
    "binarized_mnist": {},
    "sound in a file, pieces of 40": PIECES,
    "sound in a file, state carried": {**PIECES, "carry_state": True},
    "words, dealt out by length": {"bucket_batches": 8},
    "music, pieces of 100, state carried": {"chunk_length": 100, "carry_state": True},
}
"""Settings of each kind of data."""


def rows(settings: Settings) -> list[Row]:
    """One row for each kind of data."""
    names = ("digits",) if settings.configs == ("tiny",) else tuple(CASES)
    found: list[Row] = []
    for name in names:
        worker = Worker("benchmarks.inputs", name)
        answers = [worker.ask() for _ in range(min(settings.repeats, 3))]
        row = {key: statistics.median(a[key] for a in answers) for key in answers[0]}
        row["share_of_step"] = row["batch_ms"] / row["step_ms"]
        found.append({"dataset": name, **worker.ready, **row})
        worker.close()
    return found


def load(name: str, folder: str) -> Any:
    """A dataset; numbers as many and as large as those of real data stand for what users bring."""
    from zforcing_tf import config as configuration
    from zforcing_tf.data import images, registry
    from zforcing_tf.data.description import Sound
    from zforcing_tf.data.spec import Dataset, DataSpec, Split

    rng = np.random.default_rng(0)
    kind = name.partition(",")[0]
    if kind in ("digits", "linear_gaussian"):
        return registry.load(configuration.DataConfig(dataset=kind, data_dir=folder))
    if kind == "binarized_mnist":
        pictures = {
            split: rng.integers(0, 2, (count, 28, 28), dtype=np.uint8)
            for split, count in MNIST_SIZES.items()
        }
        return images.image_dataset(name, pictures, images.steps_per_image(name, (28, 28), 2))
    if kind == "words":
        lengths = rng.integers(5, 50, 50_000).astype(np.int32)
        values = rng.integers(0, 16_000, int(lengths.sum())).astype(np.int32)
        spec = DataSpec("words", "symbol", 16_000, 50)
        return Dataset(spec, *(Split(n, values, lengths) for n in ("train", "validation", "test")))
    if kind == "music":
        lengths = rng.integers(100, 1_000, 500).astype(np.int32)
        values = (rng.random((int(lengths.sum()), 88)) < 0.04).astype(np.float32)
        spec = DataSpec("music", "binary", 88, 1_000)
        return Dataset(spec, *(Split(n, values, lengths) for n in ("train", "validation", "test")))
    lengths = rng.integers(200, 1_200, 600).astype(np.int32)  # 1.5 hours, 170 MB
    path = Path(folder) / "samples.npy"
    np.save(path, rng.integers(-3_000, 3_000, (int(lengths.sum()), 200)).astype(np.int16))
    mapped, sound = np.load(path, mmap_mode="r"), Sound(16_000, 0.0, 0.05)
    splits = (
        Split(n, mapped, lengths, sound.frames, (-2.0, 2.0))
        for n in ("train", "validation", "test")
    )
    return Dataset(DataSpec("sound", "real", 200, 1_200, sound=sound), *splits)


def main() -> None:
    """A worker: times an epoch's batches, and as many training steps as show their time."""
    import sys

    import tensorflow as tf

    from zforcing_tf import config as configuration
    from zforcing_tf.data.feed import Feed
    from zforcing_tf.training.fit import compiled_model

    name = sys.argv[1]
    own = dict(CASES[name])
    run = configuration.RunConfig(
        batch_size=BATCH_SIZE, bucket_batches=own.pop("bucket_batches", 0)
    )
    config = configuration.ExperimentConfig(data=configuration.DataConfig(**own), run=run)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        data = load(name, folder)
        load_s = time.perf_counter() - start
        model = compiled_model(config, data.spec)
        step = tf.function(model.train_step, autograph=False, reduce_retracing=True)
        feed = Feed(data.train, config.data, config.run)
        epochs = iter(range(10**6))

        def timed(_: str) -> dict[str, float]:
            batches = feed.batches(next(epochs))
            kept = list(batches.take(10))
            start, count = time.perf_counter(), 0
            for _batch in batches.take(500):
                count += 1
            batch_ms = 1e3 * (time.perf_counter() - start) / count
            step(kept[0])["loss"].numpy()
            start = time.perf_counter()
            for batch in kept:
                step(batch)["loss"].numpy()
            return {
                "batch_ms": batch_ms,
                "step_ms": 1e3 * (time.perf_counter() - start) / len(kept),
            }

        timed("")
        serve({"load_s": load_s, "batch": BATCH_SIZE}, {"time": timed})


if __name__ == "__main__":
    main()
