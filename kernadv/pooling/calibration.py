"""How far predictions were off, by where in the range of the rewards they lay; for intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._typing import FloatArray
from kernadv.pooling._base import GroupSums, PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace

#: Share of the sums that is kept from one step to the next.
KEEP = 0.98
#: Places, as shares of the range.
KNOTS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
#: Prior at each knot: so many traces without a residual.
TRUST = 100.0


class Calibration(PoolPiece):
    """The mean residual of the rewards as a function of the prediction.

    A prediction is shared between the two `KNOTS` around it, more to the nearer one; beyond the last knot it counts there
    alone.  The shift of a later prediction is interpolated in the same way.  It corrects predictions that run ahead to 0 or
    1, which their own variance does not show.
    """

    sums: Array  # (2, K): discounted, of the residuals and of the traces

    def __init__(self, xp: ArrayNamespace = NUMPY) -> None:
        super().__init__(xp, sums=(2, len(KNOTS)))
        slope = 1.0 / np.diff(KNOTS)
        self._knots = xp.array(KNOTS)
        self._before, self._after = xp.array([0.0, *-slope]), xp.array([*slope, 0.0])

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `PoolPiece.sound`: no residual is larger than the range."""
        residual, traces = arrays["sums"]
        return bool((abs(residual) <= traces * (1.0 + 1e-9)).all())

    def shift(self, predicted: Array) -> Array:
        """How much higher than such predictions the rewards were, as a share of the range.  # (B,)"""
        residual, traces = self.sums
        return self._near(predicted) @ (residual / (traces + TRUST))

    def learn(self, predicted: Array, batch: GroupSums, each: Any, *, new: Any) -> None:
        """Add a batch.

        Parameters
        ----------
        predicted : (B,)
            As shares of the range.
        batch : GroupSums of B groups
            In shares of the range.
        each : float
            Traces that a unit of weight counts.
        new : 1 or 0
            Whether it is of a later step than all before.
        """
        w = batch.w
        self.keep(KEEP**new)
        self.sums += each * self.xp.stack([batch.wz - w * predicted, w]) @ self._near(predicted)

    def carry(self, factor: Any) -> None:
        """After the range grew: shares of it are smaller by this factor, and as much is forgotten, as the places moved."""
        self.keep(factor)
        self.sums[0] *= factor

    def _near(self, share: Array) -> Array:
        """How near each share is to each knot; they sum to 1.  # (B, K)"""
        off = share[:, None] - self._knots
        return self.xp.between(1.0 - self.xp.maximum(off * self._after, off * self._before), 0.0, 1.0)
