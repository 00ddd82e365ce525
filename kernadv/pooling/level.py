"""Empirical-Bayes level: how far to trust a prompt's own past against the mean over prompts."""

from __future__ import annotations

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.pooling._base import Pooled

#: Share of the sums that is kept from one step to the next.
KEEP = 0.95
#: Groups with a past that a batch needs before it says something about the spread over prompts.
FEWEST = 8


class EmpiricalBayesLevel(Pooled):
    """Shrinks the estimates of H windows to a prior mean,

        V = (n_eff Vhat + kappa mu) / (n_eff + kappa),   kappa = sigma^2 / tau^2.

    tau^2, the variance of the values over prompts that a window can see, is the cross moment over prompts of past estimate
    and new reward: given the value their noise is independent, so no noise has to be subtracted.  sigma^2 is what is left of
    the variance of the rewards.

    Parameters
    ----------
    windows : int
        Number H of windows.

    References
    ----------
    Efron and Morris (1975); Kleinman (1973) for proportions.
    """

    STATE = ("cross", "seen", "spread")

    def __init__(self, windows: int) -> None:
        self.cross = np.zeros(windows)
        self.seen = np.zeros(windows)
        self.spread = np.zeros(2)  # discounted sums of the variance of the rewards, and of ones

    def kappa(self) -> FloatArray:
        """Rollouts that the prior mean is worth; 1 before anything was learned.  # (H,)"""
        total = self.spread[0] / self.spread[1] if self.spread[1] > 0 else 0.0
        known = self.seen > 0
        if total <= 0 or not known.any():
            return np.ones(len(self.seen))
        tau2 = np.clip(self.cross / np.where(known, self.seen, 1.0), 0.02 * total, 0.9 * total)
        return np.where(known, np.maximum(total - tau2, 0.02 * total) / tau2, 1.0)

    def shrink(self, value: FloatArray, n_eff: FloatArray, defined: BoolArray, prior: FloatArray) -> FloatArray:
        """The estimates shrunk to the prior mean of each group, which is the estimate of an empty window.

        Parameters
        ----------
        value, n_eff, defined : (B, H)
        prior : (B,)
        """
        mu = prior[:, None]
        kappa = self.kappa()
        own = np.where(defined, value, mu)
        return np.asarray(np.where(defined, (n_eff * own + kappa * mu) / (n_eff + kappa), mu))

    def learn(
        self,
        value: FloatArray,
        defined: BoolArray,
        prior: FloatArray,
        reward: FloatArray,
        variance: float,
        *,
        new: bool,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        value, defined : (B, H)
            Past estimates of the groups.
        prior, reward : (B,)
            Prior mean and mean reward of the groups.
        variance : float
            Variance of the batch's rewards about the prior mean.
        new : bool
            The batch is of a later step than all before.
        """
        some = defined.any(1)
        if some.sum() < FEWEST:
            return
        if new:
            self.cross *= KEEP
            self.seen *= KEEP
            self.spread *= KEEP
        y = (reward - prior)[some]
        y = y - y.mean()
        x = np.where(defined, value - prior[:, None], 0.0)[some]
        x = np.where(defined[some], x - x.mean(0), 0.0)
        count = defined[some].sum(0)
        self.cross += np.where(count > 0, (x * y[:, None]).sum(0) / np.maximum(count, 1), 0.0)
        self.seen += count > 0
        self.spread += variance, 1.0
