"""Pooled slope: the drift of each prompt, shrunk to the drift that the prompts share."""

from __future__ import annotations

from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import Pooled, Scale, Windowed
from kernadv.pooling._library import NUMPY, Array, Library

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
    lib : Library

    References
    ----------
    Seifert and Gasser (1996), ridge local regression; Ruppert, Wand and Carroll (2003), chapter 4.
    """

    sums: Array  # (6, H): see `learn`

    def __init__(self, windows: int, lib: Library = NUMPY) -> None:
        super().__init__(lib, sums=(6, windows))

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `Pooled.sound`."""
        return bool((arrays["sums"][1:] >= 0).all())

    def extrapolate(self, past: Windowed, level: Array, scale: Scale) -> Array:
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
        slope, ridge = self._pooled()
        b = (past.sxy + ridge * slope * v) / (past.sxx + ridge)
        return scale.clip(past.value - b * past.centre)

    def of(self, past: Windowed, level: Array, scale: Scale, h: int) -> tuple[float, float]:
        """Slope of the first prompt in window h, and ``1 / (Sxx + R)``, what its own Sxy weighs in it."""
        v = scale.variance(level)
        slope, ridge = self._pooled()
        pull = 1.0 / (past.sxx[0, h] + ridge[h])
        return float(pull * (past.sxy[0, h] + ridge[h] * slope[h] * v[0, h])), float(pull)

    def learn(self, past: Windowed, level: Array, scale: Scale, rows: Array | None = None, *, new: Any) -> None:
        """Add the pasts of a batch, of all groups or of some `rows`; other arguments as in `extrapolate`."""
        v, where = scale.variance(level), self.lib.xp.where
        has = past.sxx > FLAT if rows is None else (past.sxx > FLAT) & rows[:, None]
        sxx = where(has, past.sxx, 1.0)
        parts = (past.sxy * v, sxx * v * v, past.sxy**2 / sxx, sxx, v)
        sums = [where(has, part, 0.0).sum(0) for part in parts]
        self.sums *= KEEP**new
        self.sums += self.lib.xp.stack([*sums, self.lib.number(has).sum(0)])

    def _pooled(self) -> tuple[Array, Array]:
        """Pooled slope b0 and ridge R of each window.  # (H,), (H,)"""
        xy, xx, own, weight, noise, count = self.sums
        known = xx > 0
        slope = self.lib.ratio(xy, xx)
        spread = (own - 2.0 * slope * xy + slope * slope * xx - noise) / (
            weight * known + ~known
        )  # about the pooled one
        sigma2 = noise / count.clip(1.0)
        ridge = sigma2 / self.lib.xp.maximum(spread, 1e-7 * sigma2.clip(1e-300))
        return slope, self.lib.xp.where(known, ridge, 1e9)
