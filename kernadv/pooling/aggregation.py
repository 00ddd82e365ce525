"""From the predictions of several windows to one: the best one so far, a mean by past loss, or a least-squares fit.

All read past losses only.  A score is the prequential loss of a window: the squared distance of its history-only prediction
from the rewards that then arrive, pooled over prompts, discounted over steps, and for all windows on the same visits.  Its
mean is the risk plus a constant, even when the policy reacts to the estimates (the noise is a martingale difference).

References
----------
Dawid (1984), prequential analysis; Hart (1994), time series cross-validation; Wolpert (1992) and Breiman (1996), stacking.
"""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.pooling._base import Pooled

#: Share of the scores that is kept from one step to the next.
KEEP = 0.97
#: Losses this close, in squared units of the pool's rewards, are equal.
ROUNDING = 1e-12


class Argmin(Pooled):
    """The prediction with the smallest discounted prequential loss.

    Parameters
    ----------
    columns : int
        Number J of predictions.
    """

    STATE: tuple[str, ...] = ("loss", "square", "weight")

    def __init__(self, columns: int) -> None:
        self.loss = np.zeros(columns)  # discounted sums of weight x (loss - loss of the last column)
        self.square = np.zeros(columns)  # of the squares of the groups' differences
        self.weight = np.zeros(1)

    @property
    def best(self) -> int:
        """Index of the prediction with the smallest loss so far; the last of those that are equal but for rounding."""
        near = self.loss <= self.loss.min() + ROUNDING * (self.weight[0] + np.ptp(self.loss))
        return int(np.flatnonzero(near).max())

    def combine(self, f: FloatArray, prior: FloatArray) -> FloatArray:
        """One prediction a group.  f: (B, J); prior: (B,) -> (B,)"""
        return np.asarray(prior + (f - prior[:, None]) @ self.coefficients())

    def coefficients(self) -> FloatArray:
        """Weights of the predictions.  # (J,)"""
        return np.asarray(np.eye(len(self.loss))[self.best])

    def learn(
        self, f: FloatArray, prior: FloatArray, reward: FloatArray, weight: FloatArray, noise: float, *, new: bool
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        f : (B, J)
            Predictions of the groups with a past.
        prior, reward, weight : (B,)
            Prior mean, mean reward and weight (number of traces) of the groups.
        noise : float
            Variance of one reward.
        new : bool
            The batch is of a later step than all before.
        """
        if new:
            self.loss *= KEEP
            self.square *= KEEP
            self.weight *= KEEP
        error = (f - reward[:, None]) ** 2
        excess = weight[:, None] * (error - error[:, -1:])
        self.loss += excess.sum(0)
        self.square += (excess * excess).sum(0)
        self.weight += weight.sum()


class OneStandardError(Argmin):
    """The widest window whose loss is within one standard error of the smallest; predictions are in order of width."""

    def coefficients(self) -> FloatArray:
        """Weights of the predictions.  # (J,)"""
        best = self.best
        error = np.sqrt(self.square[best])
        near = np.flatnonzero(self.loss <= self.loss[best] + error)
        return np.asarray(np.eye(len(self.loss))[int(near.max()) if len(near) else best])


class ExponentialWeights(Argmin):
    """A mean of all predictions, each weighted by ``exp(-loss / (2 sigma^2))``, its likelihood under normal noise."""

    STATE = (*Argmin.STATE, "noise")

    def __init__(self, columns: int) -> None:
        super().__init__(columns)
        self.noise = np.zeros(1)

    def coefficients(self) -> FloatArray:
        """Weights of the predictions.  # (J,)"""
        if self.noise[0] <= 0:
            return np.asarray(np.eye(len(self.loss))[self.best])
        w = np.exp(-(self.loss - self.loss.min()) / (2.0 * self.noise[0]))
        return np.asarray(w / w.sum())

    def learn(
        self, f: FloatArray, prior: FloatArray, reward: FloatArray, weight: FloatArray, noise: float, *, new: bool
    ) -> None:
        """As `Argmin.learn`."""
        super().learn(f, prior, reward, weight, noise, new=new)
        self.noise[0] = noise


class Stacking(Argmin):
    """A least-squares fit of the arriving rewards on all predictions, pooled over prompts, with a ridge toward the best one.

    ``c = argmin sum_t forget^age sum w (y - X c)^2 + lambda |c - e_best|^2`` with X and y centred within each batch, since
    the level is the drift's business, and lambda = `ridge` times the mean diagonal of X'X plus `damping` noise variances,
    which matters only while little was seen.

    Parameters
    ----------
    columns : int
    forget, ridge, damping : float
    """

    STATE = (*Argmin.STATE, "gram", "cross", "noise")

    def __init__(self, columns: int, forget: float = 0.97, ridge: float = 0.01, damping: float = 3.0) -> None:
        super().__init__(columns)
        self.forget, self.ridge, self.damping = forget, ridge, damping
        self.gram = np.zeros((columns, columns))
        self.cross = np.zeros(columns)
        self.noise = np.zeros(1)

    def coefficients(self) -> FloatArray:
        """Weights of the predictions.  # (J,)"""
        start = super().coefficients()
        trace = np.trace(self.gram) / len(start)
        penalty = self.ridge * trace + self.damping * self.noise[0]
        if trace <= 0 or penalty <= 0:
            return start
        system = self.gram + penalty * np.eye(len(start))
        return np.asarray(np.linalg.solve(system, self.cross + penalty * start))

    def learn(
        self, f: FloatArray, prior: FloatArray, reward: FloatArray, weight: FloatArray, noise: float, *, new: bool
    ) -> None:
        """As `Argmin.learn`."""
        super().learn(f, prior, reward, weight, noise, new=new)
        if new:
            self.gram *= self.forget
            self.cross *= self.forget
        self.noise[0] = noise
        x, y = f - prior[:, None], reward - prior
        total = (
            weight.sum() + weight.mean()
        )  # one more group at the prior mean: a batch of one group still says something
        x = x - (weight @ x) / total
        y = y - (weight @ y) / total
        self.gram += (x * weight[:, None]).T @ x
        self.cross += (weight * y) @ x


AGGREGATIONS: dict[str, type[Argmin]] = {
    "stacking": Stacking,
    "argmin": Argmin,
    "one_se": OneStandardError,
    "exponential_weights": ExponentialWeights,
}
