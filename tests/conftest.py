"""Settings of all tests: two logical CPUs, and no function that AutoGraph could not convert."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
tf.get_logger().setLevel("ERROR")


@pytest.fixture(autouse=True)
def fixed_seed():
    """The same initial weights in every run."""
    import keras

    keras.utils.set_random_seed(0)
