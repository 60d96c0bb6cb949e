"""The same model in PyTorch and in JAX, written for these measurements."""
