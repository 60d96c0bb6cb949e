"""From flags to a strategy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.errors import UserError
from zforcing_tf.training import distribution


def test_all_cpus_without_a_gpu():
    strategy = distribution.strategy(RunConfig(distribution_strategy="mirrored"))
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU")) == 2


def test_one_mirrored_strategy_for_all_that_ask():
    """TensorFlow confuses the collectives of two on the same devices."""
    run = RunConfig(distribution_strategy="mirrored")
    assert distribution.strategy(run) is distribution.strategy(run)


def test_off_and_one_device():
    off, one = (
        distribution.strategy(RunConfig(distribution_strategy=name))
        for name in ("off", "one_device")
    )
    assert off is tf.distribute.get_strategy()
    assert isinstance(one, tf.distribute.OneDeviceStrategy)


def test_more_gpus_than_there_are():
    run = RunConfig(num_gpus=99, distribution_strategy="mirrored")
    with pytest.raises(UserError, match="--num_gpus=99"):
        distribution.strategy(run)


CLUSTER = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
MULTI = RunConfig(distribution_strategy="multi_worker_mirrored")


def test_workers_are_told_apart_by_tf_config():
    environment = {"TF_CONFIG": json.dumps(CLUSTER)}
    worker = distribution.worker_of(MULTI, environment)
    assert (worker.index, worker.count, worker.is_chief) == (1, 2, False)
    with_chief = {"cluster": {"chief": ["c:1"], **CLUSTER["cluster"]}, "task": CLUSTER["task"]}
    worker = distribution.worker_of(MULTI, {"TF_CONFIG": json.dumps(with_chief)})
    assert (worker.index, worker.count) == (2, 3)
    with_chief["task"] = {"type": "chief", "index": 0}
    assert distribution.worker_of(MULTI, {"TF_CONFIG": json.dumps(with_chief)}).is_chief
    assert distribution.worker_of(RunConfig(), environment).count == 1  # not asked for


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "is not set"),
        ({"TF_CONFIG": "worker"}, "cannot be used (Expecting value"),
        ({"TF_CONFIG": "[]"}, "cannot be used (list indices"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "has no 'task'"),
        ({"TF_CONFIG": json.dumps(CLUSTER | {"task": {"type": "worker", "index": 2}})},
         "cannot be used (its cluster has no worker 2)"),
        ({"TF_CONFIG": json.dumps(CLUSTER | {"cluster": {"worker": ["a:1"], "ps": ["b:1"]}})},
         "cannot be used (its cluster has ps"),
    ],
)  # fmt: skip
def test_a_wrong_tf_config_is_named(environment, words):
    with pytest.raises(UserError) as caught:
        distribution.worker_of(MULTI, environment)
    assert f"but TF_CONFIG {words}" in str(caught.value)
    assert "such as {" in str(caught.value)


def test_an_all_reduce_of_another_strategy_is_refused():
    with pytest.raises(UserError, match="--all_reduce_alg=ring is for --distribution_strategy=mul"):
        distribution.strategy(RunConfig(distribution_strategy="mirrored", all_reduce_alg="ring"))
    copied = RunConfig(distribution_strategy="mirrored", all_reduce_alg="hierarchical_copy")
    assert distribution.strategy(copied).num_replicas_in_sync == 2


def test_logical_devices_after_the_start_are_refused():
    same = RunConfig(distribution_strategy="mirrored", num_logical_devices=2)
    assert distribution.strategy(same).num_replicas_in_sync == 2
    with pytest.raises(UserError, match="--num_logical_devices=3 comes too late: .* with 2$"):
        distribution.strategy(RunConfig(distribution_strategy="mirrored", num_logical_devices=3))


def test_a_team_of_one():
    team = distribution.Team()
    assert team.shares == [(0, 1)] and team.share(3).tolist() == [0, 1, 2]
    assert team.sum([1.5, 2]).tolist() == [1.5, 2]
    team.agree(7, "anything")
    assert team.each(2**53) == [2**53]
    assert team.together(lambda: "found") == "found"

    def fail():
        raise UserError("wrong here")

    with pytest.raises(UserError, match="^wrong here$"):
        team.together(fail)


class OneOfThree(distribution.Team):
    """A worker of three, the others of which give what they are told to."""

    def __init__(self, others):
        super().__init__(worker=distribution.Worker(1, 3))
        self._others = others

    def sum(self, values):
        total = np.array([self._others[0], 0, self._others[1]], float)
        return total + np.asarray(values, float)


def test_numbers_of_workers_are_compared_exactly():
    """A corpus of hundreds of hours has a hundred million frames."""
    for number in (0, 86_400_017, 2**52 + 1):
        OneOfThree([number, number]).agree(number, "the number of frames")
        with pytest.raises(UserError, match="workers differ in the number of frames, which is"):
            OneOfThree([number, number + 1]).agree(number, "the number of frames")


def test_what_fails_on_one_worker_ends_all_with_a_sentence():
    with pytest.raises(UserError, match=r"^worker 2 of 3 \(counted from 0\) cannot go on"):
        OneOfThree([0, 1]).together(lambda: "found")
    assert OneOfThree([0, 0]).together(lambda: "found") == "found"


TRACE = (
    "Graph execution error:\n\nDetected at node CollectiveReduceV2 defined at (most recent call "
    'last):\n  File "<frozen runpy>", line 198, in heartbeat\n\n'
)
PLACE = " [[node ... /job:worker/replica:0/task:1/device:CPU:0]]\nDetected at node collective.py"


@pytest.mark.parametrize(
    ("kind", "message", "lost"),
    [
        (tf.errors.UnavailableError, "Connection reset by peer", True),
        (tf.errors.CancelledError, "RPC cancelled", True),
        (tf.errors.InternalError, "Collective ops is aborted by: ...", True),
        (tf.errors.ResourceExhaustedError, "OOM when allocating tensor on /job:worker", False),
        (tf.errors.InvalidArgumentError, "assertion failed: lengths must be", False),
        (tf.errors.InternalError, "cuDNN launch failure", False),
        (tf.errors.InternalError, f"{TRACE}Collective ops is aborted by: Gloo ...", True),
        (tf.errors.InternalError, f"{TRACE}cuDNN launch failure", False),
        (tf.errors.UnknownError, "OSError: worker.npz: Input/output error", False),
    ],
)
def test_which_errors_say_that_a_worker_is_lost(kind, message, lost):
    error = kind(None, None, message + PLACE)
    assert distribution.is_lost_worker(error) == lost
    assert distribution.first_line(error) == f"{message}{PLACE}".removeprefix(TRACE).split("\n")[0]
