"""Whether the training step waits for its data: milliseconds a batch, against those a step."""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.forms import Row
from benchmarks.sections import Settings
from benchmarks.workers import Worker, serve

BATCH_SIZE = 32
MNIST_SIZES = {"train": 50_000, "validation": 10_000, "test": 10_000}


def rows(settings: Settings) -> list[Row]:
    """One row for each dataset that can be had here."""
    from zforcing_tf.data import registry

    names = ("digits",) if settings.configs == ("tiny",) else registry.dataset_names()
    found: list[Row] = []
    for name in names:
        worker = Worker("benchmarks.inputs", name)
        if "unavailable" in worker.ready:
            found.append({"dataset": name, "refused": worker.ready["unavailable"]})
        else:
            answers = [worker.ask() for _ in range(min(settings.repeats, 3))]
            row = {key: statistics.median(a[key] for a in answers) for key in answers[0]}
            row["share_of_step"] = row["batch_ms"] / row["step_ms"]
            found.append({"dataset": name, **worker.ready, **row})
        worker.close()
    return found


def load(name: str, folder: str) -> Any:
    """A dataset; pictures as many and as large as those of MNIST stand for what is downloaded."""
    from zforcing_tf import config as configuration
    from zforcing_tf.data import images, registry

    config = configuration.DataConfig(dataset=name, data_dir=folder)
    if name != "binarized_mnist":
        return registry.load(config)
    rng = np.random.default_rng(0)
    pictures = {
        split: rng.integers(0, 2, (count, 28, 28), dtype=np.uint8)
        for split, count in MNIST_SIZES.items()
    }
    return images.image_dataset(name, pictures, images.steps_per_image(name, (28, 28), 2))


def main() -> None:
    """A worker: times an epoch's batches, and as many training steps as show their time."""
    import sys

    import tensorflow as tf

    from zforcing_tf import config as configuration
    from zforcing_tf.data import pipeline
    from zforcing_tf.errors import UserError
    from zforcing_tf.training.fit import compiled_model

    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            data = load(name, folder)
        except UserError as error:
            return serve({"unavailable": str(error)}, {})
        load_s = time.perf_counter() - start
    config = configuration.ExperimentConfig(
        data=configuration.DataConfig(dataset=name),
        run=configuration.RunConfig(batch_size=BATCH_SIZE),
    )
    model = compiled_model(config, data.spec)
    step = tf.function(model.train_step, autograph=False, reduce_retracing=True)
    gathered = pipeline.gather(data.train)
    epochs = iter(range(10**6))

    def timed(_: str) -> dict[str, float]:
        batches = pipeline.training_batches(
            data.train, BATCH_SIZE, seed=0, epoch=next(epochs), gathered=gathered
        )
        kept = list(batches.take(10))
        start, count = time.perf_counter(), 0
        for _batch in batches:
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
