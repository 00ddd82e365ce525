"""How far predictions were off, by where in the range of the rewards they lay; for intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.pooling._base import GroupSums, PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._words import add, get, least, most, over, put, read, where, word
from kernadv.typing import FloatArray

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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> from kernadv.pooling import Calibration, GroupSums
    >>> calibration = Calibration()
    >>> groups = Groups(np.arange(100), np.ones(100, int), np.full(100, 4), np.full(100, 3.0), np.full(100, 3.0))
    >>> calibration.learn(np.full(100, 0.5), GroupSums.of(groups), 1.0, new=1)  # .5 was predicted, 3 of 4 were right
    >>> bool(0.15 < calibration.shift(np.array([0.5]))[0] < 0.25)
    True
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
        out = self.xp.empty(len(predicted))
        asked = predicted, self._knots, self._before, self._after, self._state
        self.xp.rows(shifted, (len(predicted), len(KNOTS)), asked, (out,))
        return out

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
        asked = predicted, batch.w, batch.wz, self._knots, self._before, self._after
        found = self.xp.rows(residuals, (len(predicted), len(KNOTS)), asked, (), sums=2 * len(KNOTS))
        self.xp.rows(blended, (2 * len(KNOTS),), (found, each, new), (self._state,))

    def carry(self, lower: Any, upper: Any) -> None:
        """After the range grew: the old one is the part from lower to upper, so that shares are smaller.

        As much of the state is forgotten, as the places moved.
        """
        self.xp.rows(faded, (2 * len(KNOTS),), (lower, upper), (self._state,))


@word
def near(share, k, knots, before, after):
    """How near a share is to knot k; over the knots that sums to 1."""
    off = share - read(knots, k)
    return most(least(1.0 - most(off * read(after, k), off * read(before, k)), 1.0), 0.0)


@word
def shifted(i, mine, N, K, predicted, knots, before, after, state, out):
    """As of `Calibration.shift`, of prediction i."""
    share = get(predicted, i, mine)
    shift = 0.0 * share
    for k in range(K):
        shift = shift + near(share, k, knots, before, after) * (read(state, k) / (read(state, K + k) + TRUST))
    put(out, i, shift, mine)


@word
def residuals(i, mine, N, K, predicted, w, wz, knots, before, after, sums):
    """What group i adds to the state, a unit of weight counting as one trace.  sums: (2, K)"""
    share, weight = get(predicted, i, mine), get(w, i, mine)
    residual = get(wz, i, mine) - weight * share
    for k in range(K):
        part = near(share, k, knots, before, after)
        add(sums, k, part * residual)
        add(sums, K + k, part * weight)


@word
def blended(i, mine, N, found, each, new, state):
    """Place i of the state after a batch, in place."""
    keep = where(read(new, 0) > 0.0, KEEP, 1.0)
    put(state, i, keep * get(state, i, mine) + read(each, 0) * get(found, i, mine), mine)


@word
def faded(i, mine, N, lower, upper, state):
    """Place i of the state in a larger range, in place."""
    share = read(upper, 0) - read(lower, 0)
    put(state, i, get(state, i, mine) * share * where(2 * i < N, share, 1.0), mine)


@over(shifted)
def _shifted(N, K, predicted, knots, before, after, state, out):
    for i in range(N):
        shifted(i, True, N, K, predicted, knots, before, after, state, out)


@over(residuals)
def _residuals(N, K, predicted, w, wz, knots, before, after, sums):
    for i in range(N):
        residuals(i, True, N, K, predicted, w, wz, knots, before, after, sums)


@over(blended)
def _blended(N, found, each, new, state):
    for i in range(N):
        blended(i, True, N, found, each, new, state)


@over(faded)
def _faded(N, lower, upper, state):
    for i in range(N):
        faded(i, True, N, lower, upper, state)
