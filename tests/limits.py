"""Limits of the operating system on this process, for tests of what happens at them."""

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def limited(name: str, most: int) -> Iterator[None]:
    """The soft limit `resource.RLIMIT_<name>` within; skips the test where there are none."""
    resource = pytest.importorskip("resource")
    limit = getattr(resource, f"RLIMIT_{name}")
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(limit, (soft, hard))


def files_of_at_most(size: int) -> contextlib.AbstractContextManager[None]:
    """A disk, so to speak, on which files cannot grow further; TensorFlow's own meet it too."""
    return limited("FSIZE", size)
