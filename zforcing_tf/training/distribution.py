"""From flags to a `tf.distribute` strategy."""

from __future__ import annotations

import functools

import tensorflow as tf

from zforcing_tf.config import RunConfig
from zforcing_tf.errors import UserError


def strategy(run: RunConfig) -> tf.distribute.Strategy:
    """The strategy of `--distribution_strategy` and `--num_gpus`.

    `mirrored` takes all GPUs, or the first `--num_gpus`; without a GPU all logical CPUs.

    Raises:
        UserError: more GPUs asked for than there are, or cuDNN without any.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if run.num_gpus > len(gpus):
        raise UserError(
            f"--num_gpus={run.num_gpus}, but TensorFlow sees {len(gpus)}; "
            "give a smaller number, or see that the GPU build and its drivers are installed"
        )
    if run.cudnn_encoder and not gpus:
        raise UserError("--cudnn_encoder needs a GPU, and TensorFlow sees none: leave it out")
    devices = [device.name for device in gpus[: run.num_gpus or None]]
    if run.distribution_strategy == "off":
        return tf.distribute.get_strategy()
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    if run.distribution_strategy == "one_device":
        return tf.distribute.OneDeviceStrategy((devices or cpus)[0])
    return _mirrored(tuple(devices or cpus))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for each set of devices: TensorFlow confuses the collectives of two."""
    return tf.distribute.MirroredStrategy(devices)
