"""The pooled rule: filters of each prompt's past, and what the prompts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri

from kernadv._at_once import Call
from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray, FloatArray, IntArray
from kernadv.clock import KEEP_ALL, Retention
from kernadv.estimator._rule import Reading, Rollouts, Rule
from kernadv.features import Features
from kernadv.history import History
from kernadv.moments import Backend, Sample
from kernadv.pooling import Asked, Batched, Beliefs, Chain, Forecast, Pool, Pooling, columns_of

if TYPE_CHECKING:
    import torch

    from kernadv.device.rule import DeviceRule

#: Of the pool's arrays; a state of another one is of another configuration.
FORMAT = 3
#: Rollouts added against the end of an interval that the value touches, so that no interval has the width 0.
END = 0.05
#: Rollouts of one reward below which the interval leaves less out on that side; none, where there are none.
FEW = 2.0


class Memo(NamedTuple):
    """How the values of a batch of B rows in N groups came about."""

    group: IntArray  # of each row
    asked: Asked
    forecast: Forecast
    pool: Pool  # that forecast


class Pooled(Rule):
    """`Pool` over the beliefs that the history notes of each prompt; the other traces of the group join.

    Parameters
    ----------
    how : Pooling
    features : Features, optional
    weighted : bool
    """

    def __init__(self, how: Pooling, features: Features | None, weighted: bool) -> None:
        self.how = how
        self.features = features
        self.weighted = weighted
        self.pool, self._other = self._fresh(), self._fresh()
        self.noted = self.pool.width

    def __repr__(self) -> str:
        return repr(self.how)

    def read(self, rollouts: Rollouts, history: History, backend: Backend) -> Reading:
        """Values of the rows."""
        memo = self._memo(rollouts, history)
        weight = memo.pool.typical_weight(rollouts.weight, rollouts.batch.scored)
        places = None
        if rollouts.weight is None:  # all scored rows of a group have as many others, and all unscored ones
            groups, unscored = len(memo.asked.gap), ~rollouts.batch.scored
            place, row = memo.group + groups * unscored, np.zeros(groups * (1 + unscored.any()), np.int64)
            row[place] = np.arange(len(place))
            places = place, row
        estimate = memo.pool.posterior(memo.forecast, memo.group, rollouts.others, weight, places)
        return Reading(estimate, np.full(len(memo.asked.gap), np.nan), memo)

    def _memo(self, rollouts: Rollouts, history: History) -> Memo:
        batch, pool = rollouts.batch, self.pool
        groups = batch.groups
        anew = rollouts.outgrow(history)
        if anew:
            pool = self._fresh()
        rows = history.find(batch.ids)
        notes = history.notes(rows)
        known = (rows >= 0) & (notes[:, -1] > 0) & (not anew)
        home, chain = np.searchsorted(groups.prompt, groups.prompt), None
        last = np.where(known[groups.prompt], history.newest_step(rows)[groups.prompt], groups.step[home])
        gap = (groups.step - last).astype(np.float64)
        if len(groups.prompt) > len(batch.ids):
            turn = np.arange(len(home)) - home
            chain = Chain(home, turn, int(turn.max()) + 1)
        features = None
        if self.features is not None:
            columns = pool.features.columns if pool.features else None
            features = self.features.rows(batch.ids, columns)[groups.prompt]
        step, index = int(groups.step.max()), groups.prompt
        low, high = np.full(len(index), np.inf), np.full(len(index), -np.inf)
        group, z = batch.group[batch.scored], batch.z[batch.scored]
        np.minimum.at(low, group, z)
        np.maximum.at(high, group, z)
        asked = Asked(_batched(rollouts, pool), known[index], notes[index], gap, low, high, step, chain, features)
        return Memo(batch.group, asked, pool.forecast(asked), pool)

    def on_device(self, device: torch.device) -> DeviceRule:
        """Everything is known there."""
        from kernadv.device.pooled import DevicePooled

        return DevicePooled(self, device)

    def learning(self, rollouts: Rollouts, reading: Reading) -> tuple[list[Call], FloatArray | None]:
        """Learn from the groups with a scored trace: another pool does, and takes the place of this one."""
        memo: Memo = reading.memo
        if not rollouts.batch.scored.any():
            return [], None
        learned = self._other
        learned.copy_from(memo.pool)
        if memo.asked.features is not None:
            learned.expect(memo.asked.features.shape[1])
        notes = learned.learn(memo.asked, memo.forecast)
        first = np.searchsorted(memo.asked.batch.prompt, np.arange(len(rollouts.batch.ids)))
        return [(self.__dict__.update, {"pool": learned, "_other": self.pool})], notes[first]

    def interval(self, reading: Reading, level: float) -> tuple[FloatArray, FloatArray]:
        """From the Beta law with the mean and the variance of the filters' beliefs for rewards of two values; else normal.

        Covers the value under today's policy, in as far as some filter moves as the policy does.
        """
        estimate, pool = reading.estimate, reading.memo.pool
        value = np.asarray(estimate.value)
        low, span = float(pool.running.low), float(pool.running.span)
        if span <= 0 or pool.running.empty:
            return np.full(len(value), -np.inf), np.full(len(value), np.inf)
        inside = _inside(reading.memo.asked.batch, low, low + span)
        if pool.running.two_values and not self.weighted and not inside.any():
            n, p = np.asarray(estimate.n_eff), np.clip((value - low) / span, 0.0, 1.0)
            lower, upper = _posterior(n * p, n * (1.0 - p), 1.0 - level)
            return np.minimum(low + span * lower, value), np.maximum(low + span * upper, value)
        half = ndtri((1.0 + level) / 2.0) * np.sqrt(np.asarray(estimate.variance))
        if (inside < 0).any():
            return value - half, value + half
        return np.clip(value - half, low, low + span), np.clip(value + half, low, low + span)

    def pieces(self, reading: Reading, sample: Sample, at: int) -> dict[str, Any]:
        """The visits' shares: what each brought to the rollouts that a belief is worth, less what was lost since."""
        memo: Memo = reading.memo
        pool, members, weights = memo.pool, self.how.members, memo.forecast.weights
        mass = (sample.ss if self.weighted else sample.n) * pool.running.count * memo.asked.known[0]
        level, offset = float(memo.forecast.level[0]), float(pool.offset(memo.asked)[0])
        belief = Beliefs(np.zeros((1, len(weights))), 4.0 / members.prior[None])
        shares = np.zeros((len(mass), len(weights)))
        for visit, step in enumerate([*sample.step.tolist(), at]):
            if visit:
                moved = belief.later(np.array([[abs(step - sample.step[visit - 1])]]), members.walk, members.discount)
                shares *= belief.variance / moved.variance
                belief = moved
            if visit < len(mass):
                alpha, beta = belief.at(level)
                shares[visit] = mass[visit]
                belief = Beliefs(belief.logit, belief.variance * (alpha + beta) / (alpha + beta + mass[visit]))
        alpha, beta = belief.at(level)
        return {
            "weights": (shares / (alpha + beta)) @ weights,
            "prior": float(pool.reward(1.0 / (1.0 + np.exp(-level - offset)))),
            "kappa": float(pool.prior),
            "strength": float(reading.estimate.n_eff[0]),
            "filters": [tuple(map(float, member)) for member in zip(*members, strict=True)],
            "filter_weights": np.array(weights),
        }

    def retention(self, step: int, late: int) -> Retention:
        """All: the values come from the notes, the visits explain them."""
        return KEEP_ALL

    def config(self, state: Mapping[str, AnyArray]) -> dict[str, Any]:
        """What is pooled, and how; the number of features, which is 0 in the state of a function that was not asked yet."""
        how, theirs = self.how, columns_of(state)
        return {
            "priors": how.priors,
            "walks": how.walks,
            "discounts": how.discounts,
            "common": how.common,
            "weighted": self.weighted,
            "features": (self._columns or theirs) * (theirs > 0) if self.features else None,
            "format": FORMAT,
        }

    def metrics(self) -> dict[str, float]:
        """Of the pool: the mean reward, what the prior is worth in rollouts, how far prompts move in a step."""
        weights, members = self.pool.weights.weights(), self.how.members
        return {
            "pooled_mean": float(self.pool.mean),
            "kappa": float(self.pool.prior),
            "walk": float(weights @ members.walk),
            "discount": float(weights @ members.discount),
        }

    def state_dict(self) -> dict[str, Any]:
        """The pool's arrays."""
        return self.pool.state_dict()

    def loading(self, state: dict[str, Any] | None) -> list[Call]:
        """Another pool takes the place of this one."""
        fresh = self._fresh()
        if state is not None:
            theirs = columns_of(state)
            if theirs and theirs != (self._columns or theirs):
                raise CheckpointError(
                    f"the state has {theirs} features a prompt, this estimator {self._columns}: it is damaged"
                )
            fresh.load_state_dict(state)
            if "length" in state and not fresh.sound(
                np.asarray(state.get("notes", np.empty((0, 0))), np.float64), len(state["length"])
            ):
                raise CheckpointError(
                    "the notes of the prompts are none that the pooled state can have left: it is damaged"
                )
        return [(self.__dict__.update, {"pool": fresh, "_other": self._fresh()})]

    @property
    def _columns(self) -> int:
        """Number of features of a prompt, 0 while it is not known."""
        if self.features is None:
            return 0
        return self.features.size or (self.pool.features.columns if self.pool.features else 0)

    def _fresh(self) -> Pool:
        """A pool that has seen nothing."""
        return Pool(self.how, (self.features.size or 0) if self.features else 0)


def _inside(batch: Batched, low: float, high: float) -> FloatArray:
    """Where the rewards of each group lie: 0 at the ends of the range seen before, 1 inside, -1 outside.  # (N,)"""
    low, high = low - batch.origin, high - batch.origin
    product = (low + high) * batch.wwz - batch.wwzz - low * high * batch.ww  # sum of (z - low)(high - z)
    rounding = 1e-6 * batch.ww * (high - low) ** 2 + 1e-12 * (batch.wwzz + abs(low * high) * batch.ww)
    return np.asarray(np.sign(product) * (np.abs(product) > rounding))


def _posterior(a: FloatArray, b: FloatArray, outside: float) -> tuple[FloatArray, FloatArray]:
    """Limits of a Beta variable of a and b rollouts: equal tails, moved away from an end with fewer than `FEW` rollouts.

    A posterior that touches an end has its highest density there; equal tails would leave out just that end.
    """
    short = 0.5 * np.minimum(np.minimum(a, b) / FEW, 1.0)  # share of the tail mass at the nearer end
    below = outside * np.where(a <= b, short, 1.0 - short)
    above = outside - below
    low = np.where(below > 0, betaincinv(np.where(a > 0, a, 1.0), b + END, below), 0.0)
    high = np.where(above > 0, betaincinv(a + END, np.where(b > 0, b, 1.0), 1.0 - above), 1.0)
    return low, high


def _batched(rollouts: Rollouts, pool: Pool) -> Batched:
    """The groups, with the least reward seen, or at first of the batch, as the origin."""
    batch, groups = rollouts.batch, rollouts.batch.groups
    least = batch.z[batch.scored].min(initial=np.inf) if pool.running.empty else pool.running.low
    origin = float(least) if np.isfinite(least) else 0.0
    once, twice = (rollouts.sums(power, 2, origin) for power in (1, 2))
    n = groups.n.astype(np.float64)
    if rollouts.weight is None:
        return Batched(groups.prompt, np.stack([n, n, groups.s, n, once, twice, n]), origin)
    w, wz, ww, www = (rollouts.sums(*part) for part in ((0, 1), (1, 1), (0, 2), (0, 3)))
    return Batched(groups.prompt, np.stack([n, w, wz, ww, once, twice, www]), origin)
