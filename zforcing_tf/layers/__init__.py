"""Keras layers, one for each role of the model."""
