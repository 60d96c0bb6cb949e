"""Limits that the model's own checks and the client, which needs no TensorFlow, both know."""

MOST_FRAMES = 100_000
"""Frames that one request may generate, rows times longest: a slip must not fill the memory."""
