"""The common level: how far the policy as a whole has moved, judged from the batch's other prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernadv.pooling._base import PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.pooling._words import exp, get, least, log, most, over, put, read, where, word
from kernadv.pooling.beliefs import carried
from kernadv.typing import FloatArray

#: Prior for the first batch: so many rollouts at either end of the range.
START = 0.5
#: Share of the evidence that is kept from one step to the next.
KEEP = 0.98
#: Prior odds of a level that does not move, against each that does.
STILL = 10.0
#: Steps over which the level moves at most.
LONGEST = 1e12


class CommonLevel(PoolPiece):
    """A level on the logit scale that moves by a random walk.  J Kalman filters follow it, one for each speed; their mean is
    weighted by how well they predicted the batches.

    A batch shows the level as a score u, the sum of its groups' derivatives of the log-likelihood at the expected level, and
    their information i: as one normal observation of variance 1 / i.

    Parameters
    ----------
    walks : sequence of float
        Standard deviation of a step.
    xp : ArrayNamespace

    References
    ----------
    Harvey (1989), Forecasting, structural time series models and the Kalman filter, section 2.3; West and Harrison (1997),
    chapter 12, for several models at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.pooling import CommonLevel
    >>> level = CommonLevel((0.0, 0.1))
    >>> level.begin(30.0, 40.0)  # 30 of the first 40 rollouts were right
    >>> (1 / (1 + np.exp(-level.expected()))).round(2)
    array([0.74])
    """

    mean: Array  # (J,) each
    variance: Array
    evidence: Array

    def __init__(self, walks: Sequence[float], xp: ArrayNamespace = NUMPY) -> None:
        super().__init__(xp, mean=len(walks), variance=len(walks), evidence=len(walks))
        self.variance += 2.0 / START
        self._steps = xp.array(walks) ** 2
        self._odds = xp.array([0.0 if walk else math.log(STILL) for walk in walks])

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `PoolPiece.sound`."""
        return bool((arrays["variance"] >= 0).all() and (abs(arrays["mean"]) <= 1e6).all())

    def expected(self) -> Array:
        """The level expected before a batch is seen: that of the last one, as for any random walk.  # (1,)"""
        out = self.xp.empty(1)
        self.xp.rows(expected, (1, len(self._steps)), (self._state, self._odds), (out,))
        return out

    def shown(self, score: Array, information: Array, elapsed: Any) -> Array:
        """The level that each of B batches would show.

        Parameters
        ----------
        score, information : (B,)
            One of each batch.
        elapsed : float
            Steps since the last one was learned from.

        Returns
        -------
        (B,)
        """
        out = self.xp.empty(len(score))
        asked = score, information, elapsed, self._state, self._steps, self._odds
        self.xp.rows(shown, (len(score), len(self._steps)), asked, (out,))
        return out

    def starting(self, right: FloatArray, rollouts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the level after the first rollouts, of different prompts, `right` of them with reward 1."""
        a, b = right + START, rollouts - right + START
        return np.log(a / b), 1.0 / a + 1.0 / b

    def begin(self, right: Any, rollouts: Any) -> None:
        """Set the level as in `starting`."""
        self.mean[:], self.variance[:] = self.starting(right, rollouts)

    def learn(self, score: Any, information: Any, elapsed: Any, *, new: Any) -> None:
        """Learn from one batch; new: 1 at a later step, else 0."""
        after = self.xp.empty(len(self._state))
        asked = score, information, elapsed, new, self._state, self._steps, self._odds
        self.xp.rows(followed, (1, len(self._steps)), asked, (after,))
        self.become(after)

    def carry(self, lower: Any, upper: Any) -> None:
        """Place the levels in another range, of which the old one is the part from lower to upper."""
        after = self.xp.empty(len(self._state))
        self.xp.rows(moved, (1, len(self._steps)), (lower, upper, self._state), (after,))
        self.become(after)


# The state: mean, variance and evidence of the J filters.
@word
def expectation(J, state, odds):
    """Mean of the filters' means, by their weights."""
    top = read(state, 2 * J) + read(odds, 0)
    for j in range(1, J):
        top = most(top, read(state, 2 * J + j) + read(odds, j))
    total = 0.0 * top
    mean = 0.0 * top
    for j in range(J):
        weight = exp(read(state, 2 * J + j) + read(odds, j) - top)
        total = total + weight
        mean = mean + weight * read(state, j)
    return mean / total


@word
def filtered(j, J, score, information, gone, level, state, steps):
    """Mean, variance and log-likelihood of filter j after a batch.

    level: the expected one; gone: steps since the last batch
    """
    variance = read(state, J + j) + read(steps, j) * gone
    surprise = score - information * (read(state, j) - level)
    spread = 1.0 + variance * information
    square = where(information > 0.0, surprise * surprise / where(information > 0.0, information, 1.0), 0.0)
    fit = -0.5 * (log(spread) + square / spread)
    return read(state, j) + variance * surprise / spread, variance / spread, fit


@word
def expected(i, mine, N, J, state, odds, out):
    """As of `CommonLevel.expected`."""
    put(out, i, expectation(J, state, odds), mine)


@word
def shown(i, mine, N, J, score, information, elapsed, state, steps, odds, out):
    """As of `CommonLevel.shown`, of batch i."""
    u, told = get(score, i, mine), get(information, i, mine)
    gone, level = most(least(read(elapsed, 0), LONGEST), 0.0), expectation(J, state, odds)
    _, _, fit = filtered(0, J, u, told, gone, level, state, steps)
    top = fit + read(state, 2 * J) + read(odds, 0)
    for j in range(1, J):
        _, _, fit = filtered(j, J, u, told, gone, level, state, steps)
        top = most(top, fit + read(state, 2 * J + j) + read(odds, j))
    total = 0.0 * u
    mean = 0.0 * u
    for j in range(J):
        there, _, fit = filtered(j, J, u, told, gone, level, state, steps)
        weight = exp(fit + read(state, 2 * J + j) + read(odds, j) - top)
        total = total + weight
        mean = mean + weight * there
    put(out, i, mean / total, mine)


@word
def followed(i, mine, N, J, score, information, elapsed, new, state, steps, odds, out):
    """The state after a batch.  out: (3, J)"""
    u, told = read(score, 0), read(information, 0)
    gone, level = most(least(read(elapsed, 0), LONGEST), 0.0), expectation(J, state, odds)
    keep = where(read(new, 0) > 0.0, KEEP, 1.0)
    _, _, fit = filtered(0, J, u, told, gone, level, state, steps)
    top = keep * read(state, 2 * J) + fit
    for j in range(1, J):
        _, _, fit = filtered(j, J, u, told, gone, level, state, steps)
        top = most(top, keep * read(state, 2 * J + j) + fit)
    for j in range(J):
        mean, variance, fit = filtered(j, J, u, told, gone, level, state, steps)
        put(out, i + j, mean, mine)
        put(out, i + J + j, variance, mine)
        put(out, i + 2 * J + j, keep * read(state, 2 * J + j) + fit - top, mine)


@word
def moved(i, mine, N, J, lower, upper, state, out):
    """The state in another range, if it is another.  out: (3, J)"""
    low, high = read(lower, 0), read(upper, 0)
    other = most(low, 1.0 - high) > 0.0
    for j in range(J):
        mean, factor = carried(read(state, j), low, high)
        factor = where(other, factor, 1.0)
        put(out, i + j, where(other, mean, read(state, j)), mine)
        put(out, i + J + j, read(state, J + j) * factor * factor, mine)
        put(out, i + 2 * J + j, read(state, 2 * J + j), mine)


@over(expected)
def _expected(N, J, state, odds, out):
    for i in range(N):
        expected(i, True, N, J, state, odds, out)


@over(shown)
def _shown(N, J, score, information, elapsed, state, steps, odds, out):
    for i in range(N):
        shown(i, True, N, J, score, information, elapsed, state, steps, odds, out)


@over(followed)
def _followed(N, J, score, information, elapsed, new, state, steps, odds, out):
    for i in range(N):
        followed(i, True, N, J, score, information, elapsed, new, state, steps, odds, out)


@over(moved)
def _moved(N, J, lower, upper, state, out):
    for i in range(N):
        moved(i, True, N, J, lower, upper, state, out)
