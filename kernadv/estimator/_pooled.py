"""The pooled rule: filters of each prompt's past, and what the prompts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv

from kernadv._errors import CheckpointError
from kernadv.batch import Batch
from kernadv.clock import KEEP_ALL, Retention
from kernadv.estimator._rule import Belief, Rule, State
from kernadv.features import Features
from kernadv.groups import Groups
from kernadv.pooling import NUMPY, ArrayNamespace, Pool, Pooling, Query, columns_of, rows
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from kernadv.device.batch import DeviceBatch

#: Version of the pool's arrays; a state of another version counts as one of another configuration.
FORMAT = 3
#: Rollouts added at an end of the range that the value touches, so that no interval has width 0.
END = 0.05
#: With fewer rollouts than this on one side, the interval leaves less out on that side, and nothing if there are none.
FEW = 2.0


class PooledRule(Rule):
    """The `Pool`'s value from the beliefs that the history notes of each prompt, and the other traces of the group.

    Parameters
    ----------
    settings : Pooling
    features : Features, optional
    allow_late : bool or int
    """

    def __init__(self, settings: Pooling, features: Features | None, allow_late: bool | int = False) -> None:
        super().__init__(allow_late)
        self.settings, self.features = settings, features
        self.noted = self.fresh().width

    def arguments(self) -> list[str]:
        """The filters, where others were chosen."""
        return [] if self.settings == Pooling() else [f"pooling={self.settings!r}"]

    def predict(self, batch: Batch | DeviceBatch, state: State) -> tuple[Estimate, Any]:
        """Values of the rows; and the pool, what it was asked and what it forecast."""
        pool: Pool = state.pool
        xp, notes = state.xp, state.notes(batch)
        known, gap = xp.empty(2, len(batch.last))
        sizes, asked = (len(batch.last), (self.noted - 2) // 2), (batch.last, batch.step, batch.first_group, notes)
        xp.rows(rows.met, sizes, asked, (known, gap))
        features = None
        if self.features is not None:
            features = state.features(batch, pool.features.columns if pool.features else None)
        sums, (low, high) = batch.sums(pool.running), batch.extremes()
        query = Query(sums, known, notes, gap, low, high, batch.newest, batch.chain, features)
        forecast = pool.forecast(query)
        weight = pool.typical_weight(batch.weight, batch.scored)
        estimate = pool.posterior(forecast, batch.group, batch.heard, weight, batch.alike)
        return estimate, (pool, query, forecast)

    def works_on_device(self, pool: Pool) -> bool:
        """The first batch, which nothing is known before, is learned from in main memory."""
        return not pool.empty

    def tilted(self, value: Any, state: State, k: float) -> Any:
        """By the range of the rewards seen before."""
        return state.pool.tilted(value, k)

    def fresh(self, xp: ArrayNamespace = NUMPY) -> Pool:
        """A pool that has seen nothing."""
        return Pool(self.settings, (self.features.size or 0) if self.features else 0, xp)

    def learn(self, made_from: Any, pool: Pool) -> Any:
        """Learn from the groups with a scored trace."""
        before, query, forecast = made_from
        if pool is not before:
            pool.copy_from(before)
        if query.features is not None:
            pool.expect(query.features.shape[1])
        return pool.learn(query, forecast)

    def belief(self, batch: Batch | DeviceBatch, estimate: Estimate, made_from: Any, state: State) -> Belief:
        """The variance of the filters' beliefs, and their mean corrected by the errors of the past."""
        pool, _, forecast = made_from
        mean = pool.centre(forecast, batch.group, batch.heard[1], estimate.value)
        running = pool.running
        return Belief(mean, estimate.n_eff * (running.count * running.weight), running.low, running.span)

    def interval(self, estimate: Estimate, belief: Belief, level: float) -> tuple[FloatArray, FloatArray]:
        """From the Beta law.  Covers the value under today's policy, provided that some filter moves as the policy does."""
        value, (p, n, low, span) = estimate.value, belief
        if span <= 0:
            return np.full(len(value), -np.inf), np.full(len(value), np.inf)
        lower, upper = _posterior(n * p, n * (1.0 - p), 1.0 - level)
        return np.minimum(low + span * lower, value), np.maximum(low + span * upper, value)

    def pieces(self, made_from: Any, visits: Groups, at: int) -> dict[str, Any]:
        """The share of each visit: the rollouts that it added to the beliefs, less what they have lost since."""
        pool, query, forecast = made_from
        members, weights = self.settings.members, forecast.filters[0]
        mass = visits.n * pool.running.count * query.known[0]
        level, offset = float(forecast.level[0]), float(pool.offset(query)[0])
        shares, worth = np.zeros((len(mass), len(weights))), np.zeros(len(weights))
        gap = np.abs(np.diff([*visits.step.tolist()[:1], *visits.step.tolist(), at])).astype(np.float64)
        asked = mass, gap, np.array([level]), np.stack([weights, *members])
        NUMPY.rows(rows.traced, (len(weights), len(mass)), asked, (shares, worth))
        return {
            "weights": (shares / worth) @ weights,
            "prior": float(pool.reward(1.0 / (1.0 + np.exp(-level - offset)))),
            "kappa": float(pool.prior),
            "filters": [tuple(map(float, member)) for member in zip(*members, strict=True)],
            "filter_weights": np.array(weights),
        }

    def _retention(self, newest: int, late: int) -> Retention:
        """All visits: the values come from the notes, and the visits explain them."""
        return KEEP_ALL

    def config(self, pool: Pool | None, arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
        """The settings, and the number of features; a function that was not asked yet leaves it 0."""
        settings, theirs = self.settings, columns_of(arrays)
        return {
            "priors": settings.priors,
            "walks": settings.walks,
            "discounts": settings.discounts,
            "common": settings.common,
            "weighted": False,
            "features": (self._columns(pool) or theirs) * (theirs > 0) if self.features else None,
            "format": FORMAT,
        }

    def metrics(self, pool: Pool | None) -> dict[str, float]:
        """The mean reward, what the prior is worth in rollouts, and how fast prompts move."""
        assert pool is not None
        weights, members = pool.weights.weights(), self.settings.members
        return {
            "pooled_mean": float(pool.mean),
            "kappa": float(pool.prior),
            "walk": float(weights @ members.walk),
            "discount": float(weights @ members.discount),
        }

    def restored(self, pool: Pool | None, arrays: Mapping[str, Any] | None) -> Pool:
        """A pool with the saved arrays, or a fresh one."""
        fresh = self.fresh()
        if arrays is None:
            return fresh
        theirs, ours = columns_of(arrays), self._columns(pool)
        if theirs and theirs != (ours or theirs):
            raise CheckpointError(f"the state has {theirs} features a prompt, this estimator {ours}: it is damaged")
        fresh.load_state_dict(dict(arrays))
        notes = np.asarray(arrays.get("notes", np.empty((0, 0))), np.float64)
        if "length" in arrays and not fresh.sound(notes, len(arrays["length"])):
            raise CheckpointError(
                "the notes of the prompts are none that the pooled state can have left: it is damaged"
            )
        return fresh

    def _columns(self, pool: Pool | None) -> int:
        """Number of features of a prompt, 0 while it is not known."""
        if self.features is None:
            return 0
        return self.features.size or (pool.features.columns if pool and pool.features else 0)


def _posterior(a: FloatArray, b: FloatArray, outside: float) -> tuple[FloatArray, FloatArray]:
    """Limits of a Beta variable of a and b rollouts: equal tails, unless an end has fewer than `FEW` rollouts.

    Such a posterior is densest at that end, and equal tails would leave out just that end.
    """
    short = 0.5 * np.minimum(np.minimum(a, b) / FEW, 1.0)  # share of the tail mass at the nearer end
    below = outside * np.where(a <= b, short, 1.0 - short)
    above = outside - below
    low = np.where(below > 0, betaincinv(np.where(a > 0, a, 1.0), b + END, below), 0.0)
    high = np.where(above > 0, betaincinv(a + END, np.where(b > 0, b, 1.0), 1.0 - above), 1.0)
    return low, high
