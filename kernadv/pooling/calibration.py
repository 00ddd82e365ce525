"""Calibration: how far predictions turned out to be off, where they are near the ends and on the whole; for intervals."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray, IntArray
from kernadv.pooling._base import Batched, Pooled, Scale

#: Share of the sums that is kept from one step to the next.
KEEP = 0.99
#: Bins of a prediction's place in the range of the rewards.
EDGES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98])
BINS = len(EDGES) + 1
#: Rollouts that no shift is worth in a bin.
TRUST_SHIFT = 50.0
#: Rollouts that the strength as it is is worth on the whole, times (nu + 1)^2: the noise of a product is v, whatever nu.
TRUST_RATIO = 100.0
#: Least variance of a reward in the model, relative to the squared range.
LEAST = 0.01
#: Limits of the ratio of errors.
RATIO = (0.5, 3.0)
#: Fewest rollouts that a prediction is worth.
FEWEST = 0.05


class Calibration(Pooled):
    """Centre and number of rollouts of the posterior of a value, from a prediction p that is said to be worth nu rollouts.

    The centre is p plus the mean residual of the rewards in p's bin, so that a prediction that runs ahead to 0 or 1 does not
    stand for certainty.  The number of rollouts is that of a mean squared error ``r v / (nu + 1)``, with v the variance of a
    reward: r is the mean of products of two residuals of one prompt relative to their model, as in `Strength`, but over all
    prompts, weighing each by its own v.  Everything is in shares of the range of the rewards.
    """

    STATE = ("residual", "traces", "product", "expected", "variance", "paired")

    def __init__(self) -> None:
        self.residual, self.traces = np.zeros(BINS), np.zeros(BINS)
        self.product, self.expected, self.variance, self.paired = (np.zeros(1) for _ in range(4))

    def centre(self, value: FloatArray, scale: Scale) -> FloatArray:
        """Where the values of such predictions are on average, between 0 and 1.

        Parameters
        ----------
        value : (B,)
        scale : Scale
            Its range must not be empty.
        """
        p = scale.share(value)
        shift = self.residual / (self.traces + TRUST_SHIFT)
        return np.asarray(np.clip(p + shift[_bin(p)], 0.0, 1.0))

    def rollouts(self, nu: FloatArray) -> FloatArray:
        """Rollouts by which the errors are as large as they were.  # (B,)"""
        return np.asarray(np.maximum((nu + 1.0) / self.ratio - 1.0, FEWEST))

    @property
    def ratio(self) -> float:
        """Mean squared error relative to the one that the strength stands for."""
        if self.paired[0] <= 0:
            return 1.0
        start = TRUST_RATIO * self.variance[0] ** 2 / self.expected[0] / self.paired[0]
        return float(np.clip((self.product[0] + start) / (self.expected[0] + start), *RATIO))

    def fade(self) -> None:
        """A later step begins."""
        for name in self.STATE:
            setattr(self, name, getattr(self, name) * KEEP)

    def learn(self, value: FloatArray, nu: FloatArray, batch: Batched, scale: Scale) -> None:
        """Add the residuals of all traces, and the pairs of traces of each group.

        Parameters
        ----------
        value, nu : (B,)
            Predictions, and what they are said to be worth.
        batch : Batched
            Traces of weight 1.
        scale : Scale
        """
        inside = batch.moved(scale.low, 1.0 / (scale.high - scale.low))
        centre = self.centre(value, scale)
        several = batch.n > 1
        residual = inside.wz - inside.n * centre
        product = (residual**2 - inside.squares(centre))[several] / (batch.n[several] - 1.0)
        self._add(product, centre[several], nu[several], batch.n[several])
        p = scale.share(value)
        self.residual = self.residual + np.bincount(_bin(p), inside.wz - inside.n * p, BINS)
        self.traces = self.traces + np.bincount(_bin(p), inside.n, BINS)

    def learn_visits(self, value: FloatArray, nu: FloatArray, now: Batched, before: FloatArray, scale: Scale) -> None:
        """Add the pairs of a group's single trace and the prompt's visit before; call it before `learn`.

        Parameters
        ----------
        value, nu : (B,)
            Prediction from what came before both visits, and what it is said to be worth.
        now : Batched
        before : (B,)
            Mean reward of the visit before.
        scale : Scale
        """
        centre = self.centre(value, scale)
        self._add((scale.share(now.wz) - centre) * (scale.share(before) - centre), centre, nu, now.n)

    def _add(self, product: FloatArray, centre: FloatArray, nu: FloatArray, count: FloatArray) -> None:
        variance = count * np.maximum(centre * (1.0 - centre), LEAST)
        self.product = self.product + product.sum()
        self.expected = self.expected + (variance / (nu + 1.0)).sum()
        self.variance = self.variance + variance.sum()
        self.paired = self.paired + count.sum()


def _bin(p: FloatArray) -> IntArray:
    return np.asarray(np.searchsorted(EDGES, p, side="right"), np.int64)
