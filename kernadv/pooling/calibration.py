"""How far predictions were off, by their place in the range of the rewards; for intervals."""

from __future__ import annotations

from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import Batched, Pooled
from kernadv.pooling._library import NUMPY, Array, Library

#: Share of the sums that is kept from one step to the next.
KEEP = 0.98
#: Places, as shares of the range.
KNOTS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
#: Traces without a residual that are assumed at each knot beside those seen.
TRUST = 100.0


class Calibration(Pooled):
    """The mean residual of the rewards as a function of what was predicted for them.

    A prediction counts at the two `KNOTS` around it, the nearer the more, or at the one beyond which it lies; so does the
    shift of a later one.  Predictions that run ahead to 0 or 1 are seen by that, which their own variance cannot tell.
    """

    residual: Array  # (K,): discounted sums of the residuals
    traces: Array  # (K,): and of ones

    positive = ("traces",)

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, residual=len(KNOTS), traces=len(KNOTS))
        knots = lib.array(KNOTS)
        self._start, self._length = knots[:-1], knots[1:] - knots[:-1]

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `Pooled.sound`: no residual is larger than the range."""
        return super().sound(arrays) and bool((abs(arrays["residual"]) <= arrays["traces"] * (1.0 + 1e-9)).all())

    def shift(self, predicted: Array) -> Array:
        """How much higher than such predictions the rewards were, as a share of the range.  # (B,)"""
        return self._near(predicted) @ (self.residual / (self.traces + TRUST))

    def learn(self, predicted: Array, batch: Batched, each: Any, *, new: Any) -> None:
        """Add a batch.

        Parameters
        ----------
        predicted : (B,)
            As shares of the range.
        batch : Batched of B groups
            In shares of the range.
        each : float
            Traces that a unit of weight counts.
        new : 1 or 0
            Whether it is of a later step than all before.
        """
        near = self._near(predicted)
        self.keep(KEEP**new)
        self.residual += (each * (batch.wz - batch.w * predicted)) @ near
        self.traces += (each * batch.w) @ near

    def carry(self, factor: Any) -> None:
        """The range of the rewards grew: shares of it are that much smaller, and as much is forgotten, as places moved."""
        self.residual *= factor * factor
        self.traces *= factor

    def _near(self, share: Array) -> Array:
        """How near each share is to each knot; they sum to 1.  # (B, K)"""
        xp = self.lib.xp
        beyond = ((share[:, None] - self._start) / self._length).clip(0.0, 1.0)
        none = xp.zeros_like(beyond[:, :1])
        return xp.concatenate([none + 1.0, beyond], axis=1) - xp.concatenate([beyond, none], axis=1)
