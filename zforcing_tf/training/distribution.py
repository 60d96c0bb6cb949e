"""From flags to a `tf.distribute` strategy, and what single workers of several do.

With `--distribution_strategy=multi_worker_mirrored` the same command runs once for each worker,
told apart by the variable TF_CONFIG. All take each step together; the first, the chief, writes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.errors import UserError

_MIRRORED: dict[str, Callable[[], tf.distribute.CrossDeviceOps]] = {
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical_copy": tf.distribute.HierarchicalCopyAllReduce,
    "reduction_to_one": tf.distribute.ReductionToOneDevice,
}
_COLLECTIVE = tf.distribute.experimental.CommunicationImplementation
_EXAMPLE = (
    'such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Worker:
    """One of the processes that train a model together."""

    index: int = 0
    count: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether it is the one that writes."""
        return self.index == 0


_ONLY_WORKER = Worker()
_Found = TypeVar("_Found")


def worker_of(run: RunConfig, environment: Mapping[str, str] = os.environ) -> Worker:
    """Which worker this process is.

    Raises:
        UserError: several are asked for, and TF_CONFIG does not say which one this is.
    """
    if run.distribution_strategy != "multi_worker_mirrored":
        return _ONLY_WORKER
    try:
        config = json.loads(environment["TF_CONFIG"])
        cluster, task = config["cluster"], config["task"]
        unknown = sorted(set(cluster) - {"chief", "worker"})
        if unknown:
            raise ValueError(
                f"its cluster has {', '.join(unknown)}, where only chief and worker go"
            )
        places = [
            (kind, i) for kind in ("chief", "worker") for i in range(len(cluster.get(kind, [])))
        ]
        place = (task["type"], int(task["index"]))
        if place not in places:
            raise ValueError(f"its cluster has no {place[0]} {place[1]}")
        index = places.index(place)
    except KeyError as error:
        what = "is not set" if error.args[0] == "TF_CONFIG" else f"has no {error.args[0]!r}"
        raise UserError(_wrong(what)) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(_wrong(f"cannot be used ({error})")) from error
    return Worker(index, len(places))


def _wrong(what: str) -> str:
    return (
        f"--distribution_strategy=multi_worker_mirrored, but TF_CONFIG {what}; set it in each "
        f"process, {_EXAMPLE}, or try workers on one machine with "
        "benchmarks/launch_local_workers.py"
    )


def strategy(run: RunConfig) -> tf.distribute.Strategy:
    """The strategy of `--distribution_strategy` and the flags beside it.

    `mirrored` takes all GPUs, or the first `--num_gpus`; without a GPU all logical CPUs. To be
    asked for first, before TensorFlow computes anything and sets up its devices for that.

    Raises:
        UserError: more GPUs asked for than there are, cuDNN without any, wrong addresses.
    """
    _split_cpu(run.num_logical_devices)
    if run.distribution_strategy == "multi_worker_mirrored":
        worker_of(run)
        _hide_gpus(run.num_gpus)
        made = _multi_worker(run.all_reduce_alg)
        _check_gpus(run)
        return made
    _check_gpus(run)
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus[: run.num_gpus or None]]
    if run.distribution_strategy == "off":
        return tf.distribute.get_strategy()
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    if run.distribution_strategy == "one_device":
        return tf.distribute.OneDeviceStrategy((devices or cpus)[0])
    return _mirrored(tuple(devices or cpus), run.all_reduce_alg)


def _split_cpu(count: int) -> None:
    """Makes so many devices of the CPU; 0 leaves it alone."""
    if not count:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    known = tf.config.get_logical_device_configuration(cpu)
    if known is not None and len(known) == count:
        return
    try:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError as error:
        raise UserError(
            f"--num_logical_devices={count} comes too late: TensorFlow has started in this process "
            f"with {len(tf.config.list_logical_devices('CPU'))}"
        ) from error


def _hide_gpus(wanted: int) -> None:
    """A worker of several takes all that it sees."""
    gpus = tf.config.list_physical_devices("GPU")
    if wanted and wanted < len(gpus):
        tf.config.set_visible_devices(gpus[:wanted], "GPU")


def _check_gpus(run: RunConfig) -> None:
    gpus = tf.config.list_logical_devices("GPU")
    if run.num_gpus > len(gpus):
        raise UserError(
            f"--num_gpus={run.num_gpus}, but TensorFlow sees {len(gpus)}; "
            "give a smaller number, or see that the GPU build and its drivers are installed"
        )
    if run.cudnn_encoder and not gpus:
        raise UserError("--cudnn_encoder needs a GPU, and TensorFlow sees none: leave it out")


@functools.cache
def _mirrored(devices: tuple[str, ...], algorithm: str) -> tf.distribute.Strategy:
    """One for each set of devices: TensorFlow confuses the collectives of two."""
    if algorithm not in ("auto", *_MIRRORED):
        raise UserError(
            f"--all_reduce_alg={algorithm} is for --distribution_strategy=multi_worker_mirrored; "
            f"with mirrored give auto, {', '.join(_MIRRORED)}"
        )
    made = _MIRRORED.get(algorithm)
    return tf.distribute.MirroredStrategy(devices, made() if made else None)


@functools.cache
def _multi_worker(algorithm: str) -> tf.distribute.Strategy:
    if algorithm not in ("auto", "ring", "nccl"):
        raise UserError(
            f"--all_reduce_alg={algorithm} is for --distribution_strategy=mirrored; "
            "with several workers give auto, ring, nccl"
        )
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=_COLLECTIVE[algorithm.upper()]
    )
    # TensorFlow waits for an hour, and says nothing.
    print("waiting until all workers of TF_CONFIG have started", file=sys.stderr, flush=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(
            f"the workers of TF_CONFIG cannot be brought together ({first_line(error)}); see that "
            "each address is right and free, and that all workers have been started"
        ) from error


_LOST = re.compile(
    r"collective ops? (is|are|has been) aborted|heartbeat|coordination service|barrier|"
    r"socket closed|connection (reset|refused|closed)|recv buf error|connect to peer|broken pipe"
)


_TRACE = ("Graph execution error:", "Detected at", 'File "', "Stack trace", "[[", "<stack")


def first_line(error: Exception) -> str:
    """Of the message of TensorFlow, which is long."""
    return next(iter(_telling_lines(error)), repr(error)[:80])


def _telling_lines(error: Exception) -> list[str]:
    """Without the trace of the graph that TensorFlow puts in front, and where it happened."""
    message = re.sub(r"\{\{.*?\}\}", "", str(getattr(error, "message", error)))  # of nodes
    lines = (line.strip() for line in message.splitlines())
    return [line for line in lines if line and not line.startswith(_TRACE)]


def is_lost_worker(error: Exception) -> bool:
    """Whether an error of TensorFlow says that another worker is gone.

    The class says it, or, where that is a general one, the words; devices have "worker" in their
    names, so that the word alone says nothing.
    """
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    general = (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.FailedPreconditionError)
    said = "\n".join(_telling_lines(error)).lower()
    return isinstance(error, lost) or (isinstance(error, general) and bool(_LOST.search(said)))


class Team:
    """All workers, for what is not a step of training.

    Args:
        strategy: of the training; by default the one that holds now.
        worker: this one.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, worker: Worker = _ONLY_WORKER
    ) -> None:
        self.worker = worker
        self._strategy = strategy or tf.distribute.get_strategy()

    @property
    def shares(self) -> list[tuple[int, int]]:
        """Which parts of each batch the replicas of this process take, as (part, parts).

        Replicas of one process alone share out whole batches among themselves.
        """
        if self.worker.count == 1:
            return [(0, 1)]
        replicas = self._strategy.num_replicas_in_sync
        local = replicas // self.worker.count
        return [(self.worker.index * local + i, replicas) for i in range(local)]

    @property
    def num_replicas(self) -> int:
        """Of all processes."""
        return int(self._strategy.num_replicas_in_sync)

    @property
    def replicas(self) -> list[int]:
        """Which of them are of this process."""
        local = self.num_replicas // self.worker.count
        return list(range(self.worker.index * local, (self.worker.index + 1) * local))

    def local_parts(self, variable: Any) -> tuple[Any, ...]:
        """What a variable is on each replica of this process."""
        parts = self._strategy.experimental_local_results(variable)
        return tuple(parts) if len(parts) == len(self.replicas) else (variable,)

    def distributed(self, batches: tf.data.Dataset) -> Any:
        """Batches for Keras, of `shares`."""
        if self.worker.count == 1:
            return batches
        return self._strategy.distribute_datasets_from_function(lambda _: batches)

    def share(self, count: int) -> npt.NDArray[np.int64]:
        """Which of so many things this worker is to do."""
        return np.arange(self.worker.index, count, self.worker.count)

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum of what all workers give, float64; each must call it as often, in one order."""
        values = np.asarray(values, np.float64)
        if self.worker.count == 1:
            return values
        local = self._strategy.num_replicas_in_sync // self.worker.count

        def add() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce("SUM", tf.constant(values))

        total = self._strategy.run(tf.function(add, autograph=False))
        found = self._strategy.experimental_local_results(total)[0].numpy() / local
        return np.asarray(found, np.float64)

    def each(self, number: int) -> list[int]:
        """What each worker gives, below 2^53."""
        numbers = np.zeros(self.worker.count)
        numbers[self.worker.index] = number
        return [int(n) for n in self.sum(numbers)]

    def together(self, task: Callable[[], _Found]) -> _Found:
        """Does something that may fail for the user's reasons, on each worker.

        Raises:
            UserError: it failed here; or on another worker, which says why itself.
        """
        found = problem = None
        try:
            found = task()
        except UserError as error:
            problem = error
        failed = self.each(problem is not None)
        if problem is not None:
            raise problem
        if any(failed):
            raise UserError(
                f"worker {failed.index(1)} of {self.worker.count} (counted from 0) cannot go on, "
                "and says itself why: mend that, and start all of them again"
            )
        return found  # type: ignore[return-value]

    def agree(self, number: int, what: str) -> None:
        """UserError unless all workers have the same number."""
        if len(set(self.each(number))) > 1:
            raise UserError(
                f"workers differ in {what}, which is {number} here: --run_dir must be a folder "
                "that all of them see, and each must be given the same command"
            )


ALONE = Team()
