"""Pooled slope: the drift of each prompt, shrunk to the drift that the prompts share."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.pooling._base import Pooled, Scale, Windowed

#: Share of the sums that is kept from one step to the next.
KEEP = 0.7
#: Sums of squares of the lags (steps^2) below which a window has no slope.
FLAT = 1e-6


class PooledSlope(Pooled):
    """Local linear estimates whose slopes are shrunk to a pooled one,

        Vhat - b centre,   b = (Sxy + R b0 v) / (Sxx + R),

    with b0 v the pooled slope: b0 is shared and v is the variance of a reward at the value, so prompts near 0 or 1 move
    less, as on the logit scale.  R = sigma^2 / Var(slopes), the reliability, is by moments with the noise subtracted.

    Parameters
    ----------
    windows : int
        Number H of windows.

    References
    ----------
    Seifert and Gasser (1996), ridge local regression; Ruppert, Wand and Carroll (2003), chapter 4.
    """

    STATE = ("sums",)

    def __init__(self, windows: int) -> None:
        self.sums = np.zeros((6, windows))

    def extrapolate(self, past: Windowed, level: FloatArray, scale: Scale) -> FloatArray:
        """The windows' estimates moved along their slopes to the query, inside the range of the rewards.

        Parameters
        ----------
        past : Windowed
        level : (B, H)
            Estimates without slope, shrunk; they say where between 0 and 1 a prompt is.
        scale : Scale

        Returns
        -------
        (B, H), NaN where the window is empty
        """
        v = scale.variance(level)
        slope, ridge = _pooled(self.sums)
        b = (past.sxy + ridge * slope * v) / (past.sxx + ridge)
        return scale.clip(past.value - b * past.centre)

    def of(self, past: Windowed, level: FloatArray, scale: Scale, h: int) -> tuple[float, float]:
        """Slope of the first prompt in window h, and ``1 / (Sxx + R)``, what its own Sxy weighs in it."""
        v = scale.variance(level)
        slope, ridge = _pooled(self.sums)
        pull = 1.0 / (past.sxx[0, h] + ridge[h])
        return float(pull * (past.sxy[0, h] + ridge[h] * slope[h] * v[0, h])), float(pull)

    def learn(self, past: Windowed, level: FloatArray, scale: Scale, *, new: bool) -> None:
        """Add the pasts of a batch; arguments as in `extrapolate`."""
        if new:
            self.sums *= KEEP
        self.sums += _sums(past, scale.variance(level))


def _sums(past: Windowed, v: FloatArray) -> FloatArray:
    """Sums over the prompts of sxy v, sxx v^2, sxy^2 / sxx, sxx, v and 1, where there is a slope.  # (6, H)"""
    has = past.sxx > FLAT
    sxx = np.where(has, past.sxx, 1.0)
    parts = (past.sxy * v, sxx * v * v, past.sxy**2 / sxx, sxx, v, np.ones_like(v))
    return np.stack([np.where(has, part, 0.0).sum(0) for part in parts])


def _pooled(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pooled slope b0 and ridge R of each window.  # (H,), (H,)"""
    xy, xx, own, weight, noise, count = sums
    known = xx > 0
    slope = np.where(known, xy / np.where(known, xx, 1.0), 0.0)
    w = np.where(known, weight, 1.0)
    spread = (own - 2.0 * slope * xy + slope * slope * xx - noise) / w  # of the slopes about the pooled one
    sigma2 = noise / np.maximum(count, 1.0)
    return slope, np.where(known, sigma2 / np.maximum(spread, 1e-7 * np.maximum(sigma2, 1e-300)), 1e9)
