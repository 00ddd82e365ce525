"""The common level: how far the policy as a whole has moved, judged from the batch's other prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kernadv._typing import FloatArray
from kernadv.pooling._base import PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace

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

    def expected(self) -> Any:
        """The level expected before a batch is seen: that of the last one, as for any random walk."""
        return self._weights(self.evidence) @ self.mean

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
        mean, _, evidence = self._updated(score, information, elapsed)
        return (self._weights(self.evidence + evidence) * mean).sum(1)

    def starting(self, right: Array, rollouts: Array) -> tuple[Array, Array]:
        """Mean and variance of the level after the first rollouts, of different prompts, `right` of them with reward 1."""
        a, b = right + START, rollouts - right + START
        return self.xp.log(a / b), 1.0 / a + 1.0 / b

    def begin(self, right: Any, rollouts: Any, first: Any) -> None:
        """Set the level as in `starting`, if `first`."""
        for part, start in zip((self.mean, self.variance), self.starting(right, rollouts), strict=True):
            part[:] = self.xp.where(first, start, part)

    def learn(self, score: Any, information: Any, elapsed: Any, *, new: Any) -> None:
        """Learn from one batch; new: 1 at a later step, else 0."""
        mean, variance, evidence = self._updated(score.reshape(1), information.reshape(1), elapsed)
        self.mean[:], self.variance[:] = mean[0], variance[0]
        self.evidence *= KEEP**new
        self.evidence += evidence[0]
        self.evidence -= self.evidence.max()

    def carry(self, mean: Array, factor: Array) -> None:
        """Replace the levels by those on another scale, on which the variances are factor^2 times as large."""
        self.mean[:] = mean
        self.variance *= factor * factor

    def _updated(self, score: Array, information: Array, elapsed: Any) -> tuple[Array, Array, Array]:
        """Mean, variance and log-likelihood of each filter after each batch.  # (B, J) each"""
        xp = self.xp
        u, i = score[:, None], information[:, None]
        variance = self.variance + self._steps * xp.between(elapsed, 0.0, LONGEST)
        surprise = u - i * (self.mean - self.expected())
        spread = 1.0 + variance * i
        square = xp.where(i > 0, surprise**2 / xp.where(i > 0, i, 1.0), 0.0)
        evidence = -0.5 * (xp.log(spread) + square / spread)
        return self.mean + variance * surprise / spread, variance / spread, evidence

    def _weights(self, evidence: Array) -> Array:
        """Over the last axis; they sum to 1."""
        xp = self.xp
        evidence = evidence + self._odds
        raw = xp.exp(evidence - xp.amax(evidence, -1, keepdims=True))
        return raw / raw.sum(-1)[..., None]
