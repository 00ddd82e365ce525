"""Strength: how many rollouts of today's policy a prediction from the past is worth."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray, IntArray
from kernadv.pooling._base import Batched, Pooled

#: Share of the sums that is kept from one step to the next.
KEEP = 0.97
#: Classes of the effective sample size: none, up to 1, 2, 4, ...
CLASSES = 12
#: Rollouts that the model is worth beside what was seen.
TRUST = 400.0


class Strength(Pooled):
    """The number nu of rollouts that a prediction p is worth, so that the value of a trace is the posterior mean

        V = (nu p + sum of the others' rewards) / (nu + G - 1).

    With m the mean squared error of p and v the mean squared residual of a reward from p, ``nu = v / m - 1``.  m is the mean
    of products of two residuals of one prompt: their noise is independent, so only the error of p is left.  What is learned,
    by classes of n_eff, is m relative to the model ``v / (n_eff + kappa + 1)``, which follows n_eff within a class; from
    pairs of traces of one group, and where a group is a single trace from that trace and the prompt's visit before.
    """

    STATE = ("product", "expected", "square", "count")

    def __init__(self) -> None:
        self.product = np.zeros(CLASSES)
        self.expected = np.zeros(CLASSES)  # what the products would be under the model
        self.square = np.zeros(CLASSES)
        self.count = np.zeros(CLASSES)

    def rollouts(self, n_eff: FloatArray, most: FloatArray, kappa: float) -> FloatArray:
        """nu of each prediction.

        Parameters
        ----------
        n_eff : (B,)
            Effective sample size of the prediction, 0 without a past.
        most : (B,)
            Rollouts of the prompt in the past; a prediction is worth no more than these and the prior.
        kappa : float
            Rollouts that the prior mean is worth, as the level's shrinkage has it.
        """
        unit = self.square.sum() / self.count.sum() if self.square.any() else 1.0
        model = 1.0 / (n_eff + kappa + 1.0)
        k = _class(n_eff)
        start = TRUST * unit * model
        share = model * (self.product[k] + start) / (self.expected[k] + start)
        without = (self.product[0] + TRUST * unit / (kappa + 1.0)) / (self.square[0] + TRUST * unit)
        prior = 1.0 / max(float(without), 1e-3) - 1.0
        share = np.clip(share, 1.0 / (most + max(prior, 0.0) + 1.0), 1.0)
        return np.asarray(np.maximum(1.0 / share - 1.0, 1e-3))

    def fade(self) -> None:
        """A later step begins."""
        for sums in (self.product, self.expected, self.square, self.count):
            sums *= KEEP

    def learn(self, value: FloatArray, n_eff: FloatArray, kappa: float, batch: Batched) -> None:
        """Add the pairs of traces of each group; n_eff and kappa as in `rollouts`."""
        several = batch.n > 1
        n = np.where(several, batch.n, 2.0)
        square = batch.squares(value)
        product = ((batch.wz - batch.w * value) ** 2 - square) / (n - 1.0)
        self._add(n_eff[several], kappa, product[several], square[several], batch.n[several])

    def learn_visits(
        self, value: FloatArray, n_eff: FloatArray, kappa: float, now: Batched, before: FloatArray
    ) -> None:
        """Add the pairs of a group's single trace and the prompt's visit before.

        Parameters
        ----------
        value, n_eff : (B,)
            Prediction from what came before both visits.
        kappa : float
        now : Batched
        before : (B,)
            Mean of w (z - value) at the visit before.
        """
        single = now.n == 1
        residual = now.wz - now.w * value
        self._add(n_eff[single], kappa, (residual * before)[single], now.squares(value)[single], now.n[single])

    def _add(self, n_eff: FloatArray, kappa: float, product: FloatArray, square: FloatArray, count: FloatArray) -> None:
        k = _class(n_eff)
        self.product += np.bincount(k, product, CLASSES)
        self.expected += np.bincount(k, square / (n_eff + kappa + 1.0), CLASSES)
        self.square += np.bincount(k, square, CLASSES)
        self.count += np.bincount(k, count, CLASSES)


def _class(n_eff: FloatArray) -> IntArray:
    """0 without a past, then by factors of two."""
    k = np.floor(np.log2(np.maximum(n_eff, 0.5)) + 1.5)
    return np.where(n_eff > 0, np.clip(k, 1, CLASSES - 1), 0).astype(np.int64)
