"""Mu-law companding of sound: levels where the ear hears, and where speech has its mass.

    y = sign(x) log(1 + mu |x|) / log(1 + mu)        mu = 2^bits - 1

maps [-1, 1] to itself and stretches what is close to zero. Telephony takes mu = 255 (ITU-T G.711);
speech at 16 bits takes mu = 65,535, as in Havtorn et al. 2022 (arXiv 2202.12707). Nothing is
rounded here: the levels of the companded sound are those of the emission.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def mu_law(x: Floats, bits: int) -> Floats:
    """Companded samples.

    Args:
      x: any shape, within [-1, 1].
      bits: base-2 logarithm of mu + 1.

    Returns:
      Like x, within [-1, 1], in its dtype.
    """
    wide, mu = np.asarray(x, np.float64), 2**bits - 1
    y = np.sign(wide) * np.log1p(mu * np.abs(wide)) / np.log1p(mu)
    return y.astype(x.dtype)


def inverse_mu_law(y: Floats, bits: int) -> Floats:
    """The inverse of `mu_law`: samples from companded ones, with the same arguments."""
    wide, mu = np.asarray(y, np.float64), 2**bits - 1
    x = np.sign(wide) * np.expm1(np.abs(wide) * np.log1p(mu)) / mu
    return x.astype(y.dtype)
