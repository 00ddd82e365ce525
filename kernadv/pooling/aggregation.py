"""From the predictions of several windows to one: the best one so far, a mean by past loss, or a least-squares fit.

All read past losses only.  A score is the prequential loss of a window: the squared distance of its history-only prediction
from the rewards that then arrive, pooled over prompts, discounted over steps, and for all windows on the same visits.  Its
mean is the risk plus a constant, even when the policy reacts to the estimates (the noise is a martingale difference).

References
----------
Dawid (1984), prequential analysis; Hart (1994), time series cross-validation; Wolpert (1992) and Breiman (1996), stacking.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kernadv._typing import FloatArray
from kernadv.pooling._base import Pooled, is_gram
from kernadv.pooling._library import NUMPY, Array, Library

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
    lib : Library
    """

    loss: Array  # (J,): discounted sums of weight x (loss - loss of the last column)
    square: Array  # (J,): of the squares of the groups' differences
    weight: Array

    positive: ClassVar[tuple[str, ...]] = ("square", "weight")

    def __init__(self, columns: int, lib: Library = NUMPY, **shapes: int | tuple[int, ...]) -> None:
        super().__init__(lib, loss=columns, square=columns, weight=1, **shapes)
        self._index = lib.array(range(columns))

    @property
    def best(self) -> Any:
        """Index of the prediction with the smallest loss so far; the last of those that are equal but for rounding."""
        least = self.loss.min()
        return self._last(self.loss <= least + self._rounding(least))

    def _rounding(self, least: Any) -> Any:
        """Differences of losses that mean nothing."""
        return ROUNDING * (self.weight + (self.loss.max() - least))

    def _last(self, some: Any) -> Any:
        """Index of the last entry that is true; there is one."""
        return ((self._index + 1.0) * some).argmax()

    def _only(self, index: Any) -> Array:
        """1 at the index, 0 elsewhere.  # (J,)"""
        return self.lib.number(self._index == index)

    def combine(self, f: Array, prior: Array) -> Array:
        """One prediction a group.  f: (B, J); prior: (B,) -> (B,)"""
        return prior + (f - prior[:, None]) @ self.coefficients()

    def coefficients(self) -> Array:
        """Weights of the predictions.  # (J,)"""
        return self._only(self.best)

    def learn(self, f: Array, prior: Array, reward: Array, weight: Array, noise: Any, *, new: Any) -> None:
        """Add a batch.

        Parameters
        ----------
        f : (B, J)
            Predictions of the groups.
        prior, reward, weight : (B,)
            Prior mean, mean reward and weight (number of traces) of the groups; 0: without a past, not learned from.
        noise : float
            Variance of one reward.
        new : 1 or 0
            Whether the batch is of a later step than all before.
        """
        kept = KEEP ** (new * self.lib.number(weight.sum() > 0))
        self.loss *= kept
        self.square *= kept
        self.weight *= kept
        error = (f - reward[:, None]) ** 2
        excess = weight[:, None] * (error - error[:, -1:])
        self.loss += excess.sum(0)
        self.square += (excess * excess).sum(0)
        self.weight += weight.sum()


class OneStandardError(Argmin):
    """The widest window whose loss is within one standard error of the smallest; predictions are in order of width."""

    def coefficients(self) -> Array:
        """Weights of the predictions.  # (J,)"""
        best = self.best
        error = self.lib.at(self.square, best) ** 0.5
        most = self.lib.at(self.loss, best) + error + self._rounding(self.loss.min())
        return self._only(self._last(self.loss <= most))


class ExponentialWeights(Argmin):
    """A mean of all predictions, each weighted by ``exp(-loss / (2 sigma^2))``, its likelihood under normal noise."""

    noise: Array

    positive = (*Argmin.positive, "noise")

    def __init__(self, columns: int, lib: Library = NUMPY) -> None:
        super().__init__(columns, lib, noise=1)

    def coefficients(self) -> Array:
        """Weights of the predictions.  # (J,)"""
        xp, known = self.lib.xp, self.noise > 0
        w = xp.exp(-self.lib.ratio(self.loss - self.loss.min(), 2.0 * self.noise))
        return xp.where(known, w / w.sum(), super().coefficients())

    def learn(self, f: Array, prior: Array, reward: Array, weight: Array, noise: Any, *, new: Any) -> None:
        """As `Argmin.learn`."""
        super().learn(f, prior, reward, weight, noise, new=new)
        self.noise[:] = self.lib.xp.where(weight.sum() > 0, noise, self.noise)


class Stacking(Argmin):
    """A least-squares fit of the arriving rewards on all predictions, pooled over prompts, with a ridge toward the best one.

    ``c = argmin sum_t forget^age sum w (y - X c)^2 + lambda |c - e_best|^2`` with X and y centred within each batch, since
    the level is the drift's business, and lambda = `ridge` times the mean diagonal of X'X plus `damping` noise variances,
    which matters only while little was seen.

    Parameters
    ----------
    columns : int
    lib : Library
    forget, ridge, damping : float
    """

    gram: Array  # (J, J)
    cross: Array  # (J,)
    noise: Array

    positive = (*Argmin.positive, "noise")

    def __init__(
        self, columns: int, lib: Library = NUMPY, forget: float = 0.97, ridge: float = 0.01, damping: float = 3.0
    ) -> None:
        super().__init__(columns, lib, gram=(columns, columns), cross=columns, noise=1)
        self.forget, self.ridge, self.damping = forget, ridge, damping
        self._unit = lib.number(self._index[:, None] == self._index)

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `Pooled.sound`."""
        return super().sound(arrays) and is_gram(arrays["gram"])

    def coefficients(self) -> Array:
        """Weights of the predictions.  # (J,)"""
        where, start = self.lib.xp.where, super().coefficients()
        trace = self.gram.trace() / len(self.loss)
        penalty = self.ridge * trace + self.damping * self.noise
        known = (trace > 0) & (penalty > 0)
        penalty = where(known, penalty, 1.0)
        fit = self.lib.solve(self.gram + penalty * self._unit, self.cross + penalty * start)
        return where(known, fit, start)

    def learn(self, f: Array, prior: Array, reward: Array, weight: Array, noise: Any, *, new: Any) -> None:
        """As `Argmin.learn`."""
        super().learn(f, prior, reward, weight, noise, new=new)
        total, number = weight.sum(), self.lib.number
        self.noise[:] = self.lib.xp.where(total > 0, noise, self.noise)
        kept = self.forget ** (new * number(total > 0))
        self.gram *= kept
        self.cross *= kept
        # one more group at the prior mean: a batch of one group still says something
        share = weight * self.lib.ratio(1.0, total + self.lib.ratio(total, number(weight > 0).sum()))
        x, y = f - prior[:, None], reward - prior
        x = x - share @ x
        y = y - share @ y
        self.gram += (x * weight[:, None]).T @ x
        self.cross += (weight * y) @ x


AGGREGATIONS: dict[str, type[Argmin]] = {
    "stacking": Stacking,
    "argmin": Argmin,
    "one_se": OneStandardError,
    "exponential_weights": ExponentialWeights,
}
