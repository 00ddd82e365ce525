"""Strength: how many rollouts of today's policy a prediction from the past is worth."""

from __future__ import annotations

from typing import Any

from kernadv.pooling._base import Batched, Pooled
from kernadv.pooling._library import NUMPY, Array, Library

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

    product: Array  # (CLASSES,) each
    expected: Array  # what the products would be under the model
    square: Array
    count: Array

    positive = ("expected", "square", "count")

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, product=CLASSES, expected=CLASSES, square=CLASSES, count=CLASSES)
        self._edges = lib.array([2.0 ** (k - 0.5) for k in range(1, CLASSES - 1)])

    def rollouts(self, n_eff: Array, most: Array, kappa: Any) -> Array:
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
        seen = self.square.sum()
        unit = self.lib.xp.where(seen > 0, self.lib.ratio(seen, self.count.sum()), 1.0)
        model = 1.0 / (n_eff + kappa + 1.0)
        k = self._class(n_eff)
        start = TRUST * unit * model
        share = model * (self.product[k] + start) / (self.expected[k] + start)
        without = (self.product[0] + TRUST * unit / (kappa + 1.0)) / (self.square[0] + TRUST * unit)
        prior = (1.0 / without.clip(1e-3) - 1.0).clip(0.0)
        share = share.clip(1.0 / (most + prior + 1.0)).clip(None, 1.0)
        return (1.0 / share - 1.0).clip(1e-3)

    def fade(self, new: Any = 1.0) -> None:
        """A later step begins, if `new` is 1 and not 0."""
        self.keep(KEEP**new)

    def learn(self, value: Array, n_eff: Array, kappa: Any, batch: Batched) -> None:
        """Add the pairs of traces of each group; n_eff and kappa as in `rollouts`."""
        square = batch.squares(value)
        product = self.lib.ratio((batch.wz - batch.w * value) ** 2 - square, batch.n - 1.0)
        self._add(n_eff, kappa, product, square, batch.n, batch.n > 1)

    def learn_visits(self, value: Array, n_eff: Array, kappa: Any, now: Batched, before: Array) -> None:
        """Add the pairs of a group's single trace and the prompt's visit before.

        Parameters
        ----------
        value, n_eff : (B,)
            Prediction from what came before both visits.
        kappa : float
        now : Batched
            Groups of several traces are left out.
        before : (B,)
            Mean of w (z - value) at the visit before.
        """
        residual = now.wz - now.w * value
        self._add(n_eff, kappa, residual * before, now.squares(value), now.n, now.n == 1)

    def _add(self, n_eff: Array, kappa: Any, product: Array, square: Array, count: Array, rows: Array) -> None:
        parts = (product, square / (n_eff + kappa + 1.0), square, count)
        sums = self.lib.class_sums(self._class(n_eff), tuple(part * rows for part in parts), CLASSES)
        self._state += sums.reshape(-1)

    def _class(self, n_eff: Array) -> Array:
        """0 without a past, then by factors of two.  # (B,)"""
        return self.lib.xp.searchsorted(self._edges, n_eff, side="right") + (n_eff > 0)
