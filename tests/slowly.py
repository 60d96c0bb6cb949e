"""Which cases of a test are left to `make slow`."""

from __future__ import annotations

from typing import Any

import pytest


def slow_unless(soon: bool, *values: Any, **named: Any) -> Any:
    """A case for `pytest.mark.parametrize`, which `make test` runs if it is `soon`."""
    return pytest.param(*values, marks=() if soon else pytest.mark.slow, **named)
