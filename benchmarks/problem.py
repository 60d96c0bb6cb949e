"""The problem that all forms solve: sizes, weights, a batch and noise, as arrays with names.

It needs NumPy only, so that programs of other libraries can read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]

AUXILIARY_WEIGHT = BACKWARD_WEIGHT = 0.1
CLIP_NORM, LEARNING_RATE, BETA_1, BETA_2, EPSILON = 100.0, 1e-3, 0.9, 0.999, 1e-5


class Sizes(NamedTuple):
    """Widths of frames D, embedding E, recurrent networks H, small networks M, latent Z."""

    D: int
    E: int
    H: int
    M: int
    Z: int
    T: int
    """Steps."""
    B: int
    """Sequences in a batch."""


CONFIGS = {
    "tiny": Sizes(D=3, E=5, H=8, M=6, Z=4, T=7, B=2),
    "small": Sizes(D=88, E=128, H=256, M=128, Z=32, T=100, B=16),
    "timit": Sizes(D=200, E=512, H=1024, M=512, Z=256, T=40, B=32),
}
FEWEST_GFLOP = {"small": 9.6, "timit": 124.0}
"""Products of one step of training: [n, a] x [a, b] takes 2nab forward and twice that backward, and
linear maps that follow each other (embedding or code, then gates) count as the one product that
they are."""


def weight_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """All weights by name, matrices as [in, out], gates in the order i, f, g, o.

    `embedding` serves the core and the backward network; `core.input` meets e(x), `core.code_input`
    meets code(z) = z `core.code` + `core.code_bias`; `posterior.kernel_1` meets [h, b]. The
    emissions give [mean, log variance].
    """
    gates = 4 * s.H
    return {
        "embedding.table": (s.D, s.E),
        "embedding.bias": (s.E,),
        "core.input": (s.E, gates),
        "core.recurrent": (s.H, gates),
        "core.bias": (gates,),
        "core.code": (s.Z, s.M),
        "core.code_bias": (s.M,),
        "core.code_input": (s.M, gates),
        "posterior.kernel_1": (2 * s.H, s.M),
        "posterior.bias_1": (s.M,),
        "posterior.kernel_2": (s.M, 2 * s.Z),
        "posterior.bias_2": (2 * s.Z,),
        "backward.input": (s.E, gates),
        "backward.recurrent": (s.H, gates),
        "backward.bias": (gates,),
        "prior.kernel_1": (s.H, s.M),
        "prior.bias_1": (s.M,),
        "prior.kernel_2": (s.M, 2 * s.Z),
        "prior.bias_2": (2 * s.Z,),
        "emission.kernel": (s.H, 2 * s.D),
        "emission.bias": (2 * s.D,),
        "auxiliary.kernel_1": (s.Z, s.M),
        "auxiliary.bias_1": (s.M,),
        "auxiliary.kernel_2": (s.M, 2 * s.H),
        "auxiliary.bias_2": (2 * s.H,),
        "backward_emission.kernel": (s.H, 2 * s.D),
        "backward_emission.bias": (2 * s.D,),
    }


def weights(s: Sizes, seed: int = 0) -> Arrays:
    """First weights: U(-1/sqrt(H), 1/sqrt(H)); biases too, so that none is left out unseen."""
    rng = np.random.default_rng(seed)
    limit = s.H**-0.5
    return {
        name: rng.uniform(-limit, limit, shape).astype(np.float32)
        for name, shape in weight_shapes(s).items()
    }


def batch(s: Sizes, seed: int = 1) -> npt.NDArray[np.float32]:
    """Frames [B, T, D], standard normal."""
    return np.random.default_rng(seed).normal(size=(s.B, s.T, s.D)).astype(np.float32)


class Problem(NamedTuple):
    """What a form computes with."""

    weights: Arrays
    x: npt.NDArray[np.float32]
    """[B, T, D]"""
    noise: npt.NDArray[np.float32]
    """Standard normal, of the latents, [T, B, Z]."""

    def save(self, path: str | Path) -> None:
        """Writes the file that `load` reads."""
        np.savez(path, x=self.x, noise=self.noise, **self.weights)

    @classmethod
    def load(cls, path: str | Path) -> Problem:
        """Reads what `save` wrote."""
        with np.load(path) as found:
            arrays = {name: found[name] for name in found.files}
        x, noise = arrays.pop("x"), arrays.pop("noise")
        return cls(arrays, x, noise)

    @property
    def sizes(self) -> Sizes:
        """Sizes, from the shapes."""
        batch_size, steps, frame = self.x.shape
        w = self.weights
        return Sizes(
            D=frame,
            E=w["embedding.table"].shape[1],
            H=w["core.recurrent"].shape[0],
            M=w["core.code"].shape[1],
            Z=self.noise.shape[2],
            T=steps,
            B=batch_size,
        )
