"""From a run directory to a SavedModel that TensorFlow alone loads.

Depends on `zforcing_tf`, never the reverse. Installed, this package is `zforcing_tf.export`.
"""
