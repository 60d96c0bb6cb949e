"""Whether two forms give the same: what differs is not timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LOSS_TOLERANCE = 1e-5
"""Of losses and bounds, relative."""
GRADIENT_TOLERANCE = 1e-3
"""Of gradients and generated frames, relative to the largest entry of the array."""


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs, in words; nothing if the results are equal up to rounding in float32.

    Args:
        expected: arrays by name. `loss` and `bound` are held to LOSS_TOLERANCE, the others to
            GRADIENT_TOLERANCE.
        found: the same of another form.
    """
    said = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    said += [f"{name} is not expected" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        a, b = (np.asarray(v[name], np.float64) for v in (expected, found))
        if a.shape != b.shape:
            said.append(f"{name} has the shape {b.shape} instead of {a.shape}")
            continue
        exact = name in ("loss", "bound")
        limit = LOSS_TOLERANCE if exact else GRADIENT_TOLERANCE
        size = np.abs(a) if exact else np.abs(a).max(initial=0.0)
        error = np.abs(a - b)
        if not (error <= limit * size).all():  # so that NaN differs
            largest = float(np.abs(a).max(initial=0.0))
            said.append(
                f"{name} differs by {error.max():.3g}, its largest entry being {largest:.3g}"
            )
    return said
