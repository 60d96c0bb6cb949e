"""Sound as files that play: wav with samples of 16 bits, one channel."""

from __future__ import annotations

import os
import wave

import numpy as np
import numpy.typing as npt


def write_wav(
    path: str | os.PathLike[str], samples: npt.NDArray[np.int16], sample_rate: int
) -> None:
    """Writes samples [n] int16."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
