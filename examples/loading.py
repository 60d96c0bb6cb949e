"""Loads a SavedModel, without the lines that TensorFlow prints at its start."""

import os
import sys

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
    found = tf.saved_model.load(folder).signatures
    if needed not in found:
        sys.exit(f"error: the model in {folder} has no signature {needed}: another kind of data")
    return found


def row_seeds(rows: int):
    """[rows, 2] int32: another one for each row."""
    return tf.stack([tf.zeros(rows, tf.int32), tf.range(rows)], axis=1)
