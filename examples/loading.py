"""Loads a SavedModel, without the lines that TensorFlow prints at its start."""

import os
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# At its start TensorFlow says, before any setting of logs is heard, that there is no GPU.
_stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import tensorflow as tf

    tf.config.list_physical_devices()
finally:
    os.dup2(_stderr, 2)


def signatures(folder: str, needed: str):
    """What an exported version answers; `needed` must be among it."""
    if not tf.saved_model.contains_saved_model(folder):
        sys.exit(f"error: no SavedModel in {folder}; python -m export.saved_model writes one")
    try:
        found = tf.saved_model.load(folder).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        sys.exit(f"error: the SavedModel in {folder} cannot be loaded: {reason(error)}")
    if needed not in found:
        sys.exit(f"error: the model in {folder} has no signature {needed}: another kind of data")
    return found


def reason(error: Exception) -> str:
    """The first line of what went wrong; of the model's own checks, their sentence."""
    message = str(error) or type(error).__name__
    return message.rpartition("assertion failed: ")[2].splitlines()[0]


def load_array(source: str):
    """A npy file, or the arrays of an npz file by name."""
    try:
        found = np.load(source, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else dict(found)
    except Exception as error:  # of zipfile, zlib, numpy: whatever a damaged file leads to
        sys.exit(f"error: {source} cannot be read: {reason(error)}")


def save_array(target: str, array):
    """A npy file, whatever its name."""
    with open(target, "wb") as file:
        np.save(file, array)


def check_target(target: str):
    """Ends here where the file could not be written: before the work, not after it."""
    folder = os.path.dirname(os.path.abspath(target))
    if os.path.isdir(target) or not os.access(folder, os.W_OK):
        sys.exit(f"error: {target} cannot be written: give a file in a folder that is there")


def row_seeds(rows: int):
    """[rows, 2] int32: another one for each row."""
    return tf.stack([tf.zeros(rows, tf.int32), tf.range(rows)], axis=1)
