"""Measurements of speed and memory: `run.py` prints all of them."""
