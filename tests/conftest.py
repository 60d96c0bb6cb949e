"""Settings of all tests: two logical CPUs, and no function that AutoGraph could not convert."""

import gc
import os
import sys

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


@pytest.fixture(scope="module", autouse=True)
def nothing_is_kept(request):
    """Models that tests of a module share go with it: each holds graphs, and what XLA compiled."""
    yield
    for name, module in list(sys.modules.items()):
        if name.startswith("tests."):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
    gc.collect()
    if log := os.environ.get("MEMORY_LOG"):
        with open("/proc/self/status") as status, open(log, "a") as file:
            resident = status.read().partition("VmRSS:")[2].split()[0]
            print(os.getpid(), int(resident) // 1024, request.module.__name__, file=file)
