"""Empirical-Bayes level: how far to trust a prompt's own past against the mean over prompts."""

from __future__ import annotations

from typing import Any

from kernadv.pooling._base import Pooled
from kernadv.pooling._library import NUMPY, Array, Library

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
    lib : Library

    References
    ----------
    Efron and Morris (1975); Kleinman (1973) for proportions.
    """

    cross: Array  # (H,): discounted sums of the cross moments
    seen: Array  # (H,): and of ones
    spread: Array  # discounted sums of the variance of the rewards, and of ones

    positive = ("seen", "spread")

    def __init__(self, windows: int, lib: Library = NUMPY) -> None:
        super().__init__(lib, cross=windows, seen=windows, spread=2)

    def kappa(self) -> Array:
        """Rollouts that the prior mean is worth; 1 before anything was learned.  # (H,)"""
        total = self.lib.ratio(self.spread[0], self.spread[1])
        known = (self.seen > 0) & (total > 0)
        tau2 = self.lib.ratio(self.cross, self.seen).clip(0.02 * total, 0.9 * total)
        return self.lib.ratio((total - tau2).clip(0.02 * total), tau2 * known, 1.0)

    def shrink(self, value: Array, n_eff: Array, defined: Array, prior: Array, kappa: Array | None = None) -> Array:
        """The estimates shrunk to the prior mean of each group, which is the estimate of an empty window.

        Parameters
        ----------
        value, n_eff, defined : (B, H)
        prior : (B,)
        kappa : (H,), optional
            As `kappa` has it, which is the default.
        """
        mu, where = prior[:, None], self.lib.xp.where
        kappa = self.kappa() if kappa is None else kappa
        own = where(defined, value, mu)
        return where(defined, (n_eff * own + kappa * mu) / (n_eff + kappa), mu)

    def learn(
        self,
        value: Array,
        defined: Array,
        prior: Array,
        reward: Array,
        variance: Any,
        *,
        new: Any,
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
        new : 1 or 0
            Whether the batch is of a later step than all before.
        """
        xp, number = self.lib.xp, self.lib.number
        some = defined.any(1)
        groups, count = number(some).sum(), number(defined).sum(0)
        enough = number(groups >= FEWEST)
        y = (reward - prior) * some
        y = (y - self.lib.ratio(y.sum(), groups)) * some
        x = xp.where(defined, value - prior[:, None], 0.0)
        x = (x - self.lib.ratio(x.sum(0), groups)) * defined
        self.keep(KEEP ** (new * enough))
        self.cross += self.lib.ratio(y @ x, count) * enough
        self.seen += number(count > 0) * enough
        self.spread += xp.stack([variance * enough, enough])
