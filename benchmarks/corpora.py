"""Memory of the pipeline on corpora larger than memory: what a process holds, over their size.

  python benchmarks/corpora.py [--gib=1,8,48] [--batches=500] [--prepared_gib=1,4]

16-bit samples in frames of 200, in recordings of 1,000 frames, cut into pieces of 40 or with the
state carried, batches of 32. The files are sparse: they take no disk, and are read as any other.
`own MiB` is the largest memory that belongs to the process (RssAnon of /proc/self/status, Linux);
pages of the file that are in memory besides are given back when the system needs them.

`prepared` rows prepare a data set of arrays of float32 from nothing, [100, 200] each: the time, and
the largest memory meanwhile. They write three times their size to disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.run import table
from benchmarks.workers import Worker, serve

FRAME_SIZE, RECORDING, PIECE, BATCH_SIZE = 200, 1_000, 40, 32


def own_mib() -> float:
    """Memory of this process that no file backs, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(found.split()[1]) / 1024


def read(gib: float, carry_state: bool, num_batches: int) -> dict[str, float]:
    """Reads batches of a corpus of so many GiB in this process."""
    from zforcing_tf.config import DataConfig, RunConfig
    from zforcing_tf.data.description import Sound
    from zforcing_tf.data.feed import Feed
    from zforcing_tf.data.spec import Split
    from zforcing_tf.data.stored import mapped

    recordings = max(int(gib * 2**30 / (2 * FRAME_SIZE * RECORDING)), BATCH_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npy"
        shape = (recordings * RECORDING, FRAME_SIZE)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=shape)
        sound = Sound(16_000, 0.0, 0.05)
        lengths = np.full(recordings, RECORDING, np.int32)
        split = Split("train", mapped(path), lengths, sound.frames, (-2.0, 2.0))
        data = DataConfig(chunk_length=PIECE, carry_state=carry_state)
        feed = Feed(split, data, RunConfig(batch_size=BATCH_SIZE))
        start, held, moments = time.perf_counter(), [], []
        for _batch in feed.batches(0).take(num_batches):
            moments.append(time.perf_counter())
            held.append(own_mib())
        batch_ms = 1e3 * (moments[-1] - moments[0]) / max(len(moments) - 1, 1)
    return {"load_s": moments[0] - start, "batch_ms": batch_ms, "own_mib": max(held)}


def prepare(gib: float) -> dict[str, float]:
    """Prepares a data set of so many GiB in this process."""
    from zforcing_tf.config import DataConfig
    from zforcing_tf.data import registry

    held: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            held.append(own_mib())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npy"
        shape = (int(gib * 2**30 / (4 * 100 * FRAME_SIZE)), 100, FRAME_SIZE)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        config = DataConfig("array", manual_dir=str(path), data_dir=folder)
        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        registry.load(config)
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return {"load_s": seconds, "own_mib": max(held)}


def main() -> None:
    """Prints the table, or serves as the worker of one of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", default="1,8,48", help="sizes of corpora, GiB")
    parser.add_argument("--batches", type=int, default=500, help="batches that are read of each")
    parser.add_argument("--prepared_gib", default="1,4", help="sizes of prepared data sets, GiB")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        gib, carried = arguments.worker.split(":")
        if carried == "prepared":
            return serve(prepare(float(gib)), {})
        return serve(read(float(gib), carried == "carried", arguments.batches), {})
    rows = []
    for carried in ("pieces", "carried", "prepared"):
        sizes = arguments.prepared_gib if carried == "prepared" else arguments.gib
        for gib in map(float, sizes.split(",")):
            flags = f"--worker={gib}:{carried}", f"--batches={arguments.batches}"
            worker = Worker("benchmarks.corpora", *flags)
            rows.append({"dataset": carried, "gib": gib, **worker.ready})
            worker.close()
    print(table(rows))
    return None


if __name__ == "__main__":
    main()
