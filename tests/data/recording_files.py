"""Small recordings for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

soundfile = pytest.importorskip("soundfile")


def noise(count: int, seed: int = 0) -> npt.NDArray[np.int16]:
    """Samples of deviation 3,000, always the same of a seed."""
    samples = np.random.RandomState(seed).standard_normal(count) * 3000
    return np.asarray(samples, np.int16)


def write(path: Path, samples: npt.NDArray[Any], sample_rate: int = 16000, **settings: Any) -> Path:
    """A recording in the container that its suffix says, unless the settings say another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples.dtype == np.int16 and settings.get("subtype") in ("FLOAT", "DOUBLE"):
        samples = samples / 32768
    soundfile.write(path, samples, sample_rate, **settings)
    return path


def write_sphere(
    path: Path,
    samples: npt.NDArray[np.int16],
    sample_rate: int = 16000,
    byte_order: str = "01",
    promised: int | None = None,
    coding: str = "",
) -> Path:
    """A NIST SPHERE file with the fields that those of TIMIT have.

    `promised` is the number of samples that the header says, if it is not that of the samples.
    """
    fields = [
        "database_id -s5 TIMIT",
        "database_version -s3 1.0",
        f"utterance_id -s{len(path.name)} {path.name}",
        "channel_count -i 1",
        f"sample_count -i {len(samples) if promised is None else promised}",
        f"sample_rate -i {sample_rate}",
        f"sample_min -i {samples.min(initial=0)}",
        f"sample_max -i {samples.max(initial=0)}",
        "sample_n_bytes -i 2",
        f"sample_byte_format -s2 {byte_order}",
        "sample_sig_bits -i 16",
        *([f"sample_coding -s{len(coding)} {coding}"] if coding else []),
        "end_head",
    ]
    header = "\n".join(["NIST_1A", "   1024", *fields, ""]).encode().ljust(1024)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + samples.astype("<i2" if byte_order == "01" else ">i2").tobytes())
    return path


def cut(path: Path, share: float) -> Path:
    """The same file, but only the first part of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
