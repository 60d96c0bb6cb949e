"""From flags to a strategy."""

from __future__ import annotations

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
