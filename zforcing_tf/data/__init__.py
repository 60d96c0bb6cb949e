"""Data: named datasets, held in memory as sequences of frames, and the batches made of them.

`registry.load` gives a `spec.Dataset`; `pipeline` turns its splits into padded batches. Importing
this package imports neither TensorFlow nor TensorFlow Datasets.
"""
