"""Nadaraya-Watson: the locally weighted mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernadv.moments import Moments
from kernadv.smoothers._base import Estimate

#: Windows whose weights add up to less are empty: squares of such weights underflow.
UNDERFLOW = 1e-140


def nadaraya_watson(moments: Moments, xp: Any = np) -> Estimate:
    """``V = t0 / s0``: the weighted mean of the responses in the window.

    Parameters
    ----------
    moments : Moments of arrays of one shape
    xp : module
        Of the arrays: numpy, or torch for tensors.

    Returns
    -------
    Estimate of arrays of that shape

    References
    ----------
    Nadaraya (1964); Watson (1964).  Kish (1965) for n_eff.
    """
    defined = moments.s0 > UNDERFLOW
    s0 = xp.where(defined, moments.s0, 1.0)
    q0 = xp.where(defined, moments.q0, 1.0)
    value = xp.where(defined, moments.t0 / s0, math.nan)
    n_eff = xp.where(defined, s0 * s0 / q0, 0.0)
    variance = residual_variance(moments, s0, n_eff, xp) / xp.where(defined, n_eff, 1.0)
    return Estimate(value, variance, n_eff, defined)


def residual_variance(moments: Moments, s0: Any, kish: Any, xp: Any = np) -> Any:
    """Unbiased weighted variance about the weighted mean, ``(r0/s0 - V^2) n_eff / (n_eff - 1)``; NaN for n_eff <= 1."""
    several = kish > 1.0 + 1e-9
    mean = moments.t0 / s0
    spread = xp.clip(moments.r0 / s0 - mean * mean, 0.0, None)
    return xp.where(several, spread * kish / xp.where(several, kish - 1.0, 1.0), math.nan)
