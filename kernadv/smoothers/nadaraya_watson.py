"""Nadaraya-Watson: the locally weighted mean."""

from __future__ import annotations

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.moments import Moments
from kernadv.smoothers._base import Estimate

#: Windows whose weights add up to less are empty: squares of such weights underflow.
UNDERFLOW = 1e-140


def nadaraya_watson(moments: Moments) -> Estimate:
    """``V = t0 / s0``: the weighted mean of the responses in the window.

    Parameters
    ----------
    moments : Moments of numpy arrays of one shape

    Returns
    -------
    Estimate of arrays of that shape

    References
    ----------
    Nadaraya (1964); Watson (1964).  Kish (1965) for n_eff.
    """
    defined = moments.s0 > UNDERFLOW
    s0 = np.where(defined, moments.s0, 1.0)
    q0 = np.where(defined, moments.q0, 1.0)
    value = np.where(defined, moments.t0 / s0, np.nan)
    n_eff = np.where(defined, s0 * s0 / q0, 0.0)
    return Estimate(value, residual_variance(moments, s0, n_eff) / np.where(defined, n_eff, 1.0), n_eff, defined)


def residual_variance(moments: Moments, s0: FloatArray, kish: FloatArray) -> FloatArray:
    """Unbiased weighted variance about the weighted mean, ``(r0/s0 - V^2) n_eff / (n_eff - 1)``; NaN for n_eff <= 1."""
    several: BoolArray = kish > 1.0 + 1e-9
    mean = moments.t0 / s0
    spread = np.maximum(moments.r0 / s0 - mean * mean, 0.0)
    result: FloatArray = np.where(several, spread * kish / np.where(several, kish - 1.0, 1.0), np.nan)
    return result
