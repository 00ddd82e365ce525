"""Calibration: how far predictions turned out to be off, where they are near the ends and on the whole; for intervals."""

from __future__ import annotations

from typing import Any

from kernadv.pooling._base import Batched, Pooled, Scale
from kernadv.pooling._library import NUMPY, Array, Library

#: Share of the sums that is kept from one step to the next.
KEEP = 0.99
#: Bins of a prediction's place in the range of the rewards.
EDGES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
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

    residual: Array  # (BINS,): discounted sums of residuals
    traces: Array  # (BINS,): and of ones
    product: Array  # (1,): discounted sums over the pairs of traces
    expected: Array  # what the products would be under the model
    variance: Array
    paired: Array

    positive = ("traces", "expected", "variance", "paired")

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, residual=BINS, traces=BINS, product=1, expected=1, variance=1, paired=1)
        self._edges = lib.array(EDGES)

    def centre(self, value: Array, scale: Scale) -> Array:
        """Where the values of such predictions are on average, between 0 and 1.

        Parameters
        ----------
        value : (B,)
        scale : Scale
            Its range must not be empty.
        """
        p = scale.share(value)
        shift = self.residual / (self.traces + TRUST_SHIFT)
        return (p + shift[self._bin(p)]).clip(0.0, 1.0)

    def rollouts(self, nu: Array) -> Array:
        """Rollouts by which the errors are as large as they were.  # (B,)"""
        return ((nu + 1.0) / self.ratio - 1.0).clip(FEWEST)

    @property
    def ratio(self) -> Any:
        """Mean squared error relative to the one that the strength stands for.  # (1,)"""
        start = self.lib.ratio(TRUST_RATIO * self.variance**2, self.expected * self.paired)
        relative = self.lib.ratio(self.product + start, self.expected + start).clip(*RATIO)
        return self.lib.xp.where(self.paired > 0, relative, 1.0)

    def fade(self, new: Any = 1.0) -> None:
        """A later step begins, if `new` is 1 and not 0."""
        self.keep(KEEP**new)

    def learn(self, value: Array, nu: Array, batch: Batched, scale: Scale) -> None:
        """Add the residuals of all traces, and the pairs of traces of each group.

        Parameters
        ----------
        value, nu : (B,)
            Predictions, and what they are said to be worth.
        batch : Batched
            Traces of weight 1.
        scale : Scale
        """
        inside = batch.moved(scale.low, 1.0 / (scale.high - scale.low), self.lib.xp)
        centre = self.centre(value, scale)
        residual = inside.wz - inside.n * centre
        product = self.lib.ratio(residual**2 - inside.squares(centre), batch.n - 1.0)
        self._add(product, centre, nu, batch.n * (batch.n > 1))
        p = scale.share(value)
        residual, traces = self.lib.class_sums(self._bin(p), (inside.wz - inside.n * p, inside.n), BINS)
        self.residual += residual
        self.traces += traces

    def learn_visits(self, value: Array, nu: Array, now: Batched, before: Array, scale: Scale) -> None:
        """Add the pairs of a group's single trace and the prompt's visit before; call it before `learn`.

        Parameters
        ----------
        value, nu : (B,)
            Prediction from what came before both visits, and what it is said to be worth.
        now : Batched
            Of groups of one trace, or none.
        before : (B,)
            Mean reward of the visit before.
        scale : Scale
        """
        centre = self.centre(value, scale)
        product = (scale.share(now.wz) - centre) * (scale.share(before) - centre) * now.n
        self._add(product, centre, nu, now.n)

    def _add(self, product: Array, centre: Array, nu: Array, count: Array) -> None:
        variance = count * (centre * (1.0 - centre)).clip(LEAST)
        self.product += product.sum()
        self.expected += (variance / (nu + 1.0)).sum()
        self.variance += variance.sum()
        self.paired += count.sum()

    def _bin(self, p: Array) -> Array:
        return self.lib.xp.searchsorted(self._edges, p, side="right")
