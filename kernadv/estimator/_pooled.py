"""The pooled rule: the windows, and what the prompts share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri

from kernadv._at_once import Call
from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray, FloatArray, IntArray
from kernadv.clock import KEEP_ALL, Retention
from kernadv.estimator._features import Features
from kernadv.estimator._rule import Reading, Rollouts, Rule
from kernadv.history import History
from kernadv.kernels import Kernel
from kernadv.moments import Backend, Moments, Sample, Windows
from kernadv.pooling import (
    Batched,
    Forecast,
    LastVisit,
    Pool,
    Pooling,
    Scale,
    Windowed,
    columns_of,
    posterior,
    typical_weight,
)

if TYPE_CHECKING:
    import torch

    from kernadv.estimator.device.rule import DeviceRule

#: Of the pool's arrays; a state of another one is of another configuration.
FORMAT = 2
#: Rollouts added against the end of an interval that the value touches, so that no interval has the width 0.
END = 0.05
#: Rollouts of one reward below which the interval leaves less out on that side; none, where there are none.
FEW = 2.0


class Memo(NamedTuple):
    """How the values of a batch of B rows in N groups came about."""

    group: IntArray  # of each row
    past: Windowed
    batch: Batched
    last: LastVisit
    features: FloatArray | None
    forecast: Forecast
    pool: Pool  # that forecast


class Pooled(Rule):
    """`Pool` over the windows' moments; the other traces of the group join by what the past is worth.

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
        assert isinstance(how.kernel, Kernel)
        self.kernel = how.kernel

    def __repr__(self) -> str:
        return repr(self.how)

    def read(self, rollouts: Rollouts, history: History, backend: Backend) -> Reading:
        """Values of the rows."""
        memo = self._memo(rollouts, history, backend)
        weight = typical_weight(memo.pool, rollouts.weight, rollouts.batch.scored)
        estimate = posterior(memo.pool, memo.forecast, memo.group, rollouts.others, weight)
        window = self.how.windows[memo.pool.best_window]
        return Reading(estimate, np.full(len(memo.batch.n), window), memo)

    def _memo(self, rollouts: Rollouts, history: History, backend: Backend) -> Memo:
        batch = rollouts.batch
        at = batch.groups.step
        outgrown = rollouts.outgrow(history)
        pool = Pool(self.how, self._columns) if outgrown else self.pool
        with history.borrowed(history.find(batch.ids)[batch.groups.prompt]) as sample:
            if outgrown:
                share = history.unit / rollouts.unit
                sample = sample._replace(s=sample.s * share, ss=sample.ss * share)
            windows = Windows.of(self.how.bandwidths, self.kernel, sample, at)
            past = backend.ragged_moments(sample, windows, self.kernel)
            last = _last_visit(sample, at, int(windows.reach[0, -1]), self.weighted)
        made = Moments(*(np.asarray(part) for part in past))
        windowed = Windowed.of_weighted(made) if self.weighted else Windowed.of(made)
        batched = _batched(rollouts)
        features = None
        if self.features is not None:
            known = pool.features.columns if pool.features else None
            features = self.features.rows(batch.ids, known)[batch.groups.prompt]
        return Memo(batch.group, windowed, batched, last, features, pool.forecast(windowed, batched, features), pool)

    def on_device(self, device: torch.device) -> DeviceRule:
        """Everything is known there."""
        from kernadv.estimator.device.pooled import DevicePooled

        return DevicePooled(self, device)

    def learning(self, rollouts: Rollouts, reading: Reading) -> list[Call]:
        """Learn from the groups with a scored trace: another pool does, and takes the place of this one."""
        memo: Memo = reading.memo
        z = rollouts.batch.z[rollouts.batch.scored]
        if not len(z):
            return []
        learned = self._other
        learned.copy_from(memo.pool)
        if memo.features is not None:
            learned.expect(memo.features.shape[1])
        step = int(rollouts.batch.groups.step.max())
        limits = z.min(), z.max()
        learned.learn(memo.forecast, memo.past, memo.batch, memo.last, limits, step, memo.features)
        return [(self.__dict__.update, {"pool": learned, "_other": self.pool})]

    def interval(self, reading: Reading, level: float) -> tuple[FloatArray, FloatArray]:
        """From the Beta posterior on the range of the rewards where they have two values; elsewhere normal.

        Covers the value under today's policy, as far as past errors tell of the present ones.
        """
        estimate, pool = reading.estimate, reading.memo.pool
        scale = pool.scale
        value = np.asarray(estimate.value)
        span = scale.high - scale.low
        if span <= 0 or pool.running.empty:
            return np.full(len(value), -np.inf), np.full(len(value), np.inf)
        inside = _inside(reading.memo.batch, scale)
        if pool.running.two_values and not self.weighted and not inside.any():
            p, n = self._calibrated(reading)
            low, high = _posterior(n * p, n * (1.0 - p), 1.0 - level)
            return np.minimum(scale.low + span * low, value), np.maximum(scale.low + span * high, value)
        half = ndtri((1.0 + level) / 2.0) * np.sqrt(np.asarray(estimate.variance))
        if (inside < 0).any():
            return value - half, value + half
        return scale.clip(value - half), scale.clip(value + half)

    def _calibrated(self, reading: Reading) -> tuple[FloatArray, FloatArray]:
        """Centre of the posterior of each row's value as a share of the range, and the rollouts it is worth.  # (B,) each"""
        memo: Memo = reading.memo
        pool, forecast, scale = memo.pool, memo.forecast, memo.pool.running.scale
        moved = pool.calibration.centre(forecast.final, scale) - scale.share(forecast.final)
        said, n = forecast.strength[memo.group], np.asarray(reading.estimate.n_eff)
        centre = pool.scale.share(np.asarray(reading.estimate.value)) + moved[memo.group] * said / n
        return np.clip(centre, 0.0, 1.0), pool.calibration.rollouts(said) + n - said

    def pieces(self, reading: Reading, sample: Sample, at: int) -> dict[str, Any]:
        """The visits' shares: of each window, shrunk, moved along its slope, and combined."""
        memo: Memo = reading.memo
        pool, past, forecast = memo.pool, memo.past, memo.forecast
        c, size = pool.aggregation.coefficients(), len(self.how.windows)
        lag = (at - sample.step).astype(np.float64)
        mass = sample.ss if self.weighted else sample.n
        kappa = pool.level.kappa() if self.how.level else np.zeros(size)
        change = pool.units.inverse(True)
        weights, slopes = np.zeros(len(lag)), np.zeros(size)
        for h, window in enumerate(self.how.windows):
            if not past.defined[0, h]:
                continue
            mean = np.where(lag >= 0, self.kernel.profile(lag / window), 0.0) * mass
            mean /= mean.sum()
            trust = past.n_eff[0, h] / (past.n_eff[0, h] + kappa[h])
            weights += trust * c[h] * mean
            if self.how.slope:
                slopes[h], pull = pool.slope.of(past.moved(*change), forecast.level, pool.running.scale, h)
                tilt = mean * (-lag - past.centre[0, h]) * past.bottom[0, h] * pull
                weights += trust * c[size + h] * (mean - past.centre[0, h] * tilt)
        k = pool.best_window
        return {
            "weights": weights,
            "prior": float(pool.units.reward(forecast.prior[0])),
            "kappa": float(kappa[k]),
            "strength": float(forecast.strength[0]),
            "slope": float(slopes[k] / change[1]),
            "windows": self.how.windows,
            "coefficients": c,
        }

    def retention(self, step: int, late: int) -> Retention:
        """All that any window can see."""
        widest = self.how.bandwidths[-1]
        return KEEP_ALL if math.isinf(self.how.windows[-1]) else widest.retention(step, self.kernel, late)

    def config(self, state: Mapping[str, AnyArray]) -> dict[str, Any]:
        """What is pooled, and how; the number of features, which is 0 in the state of a function that was not asked yet."""
        how, theirs = self.how, columns_of(state)
        return {
            "windows": [str(w) for w in how.windows],
            "kernel": repr(how.kernel),
            "pieces": [how.level, how.slope, how.drift, how.aggregation],
            "weighted": self.weighted,
            "features": (self._columns or theirs) * (theirs > 0) if self.features else None,
            "format": FORMAT,
        }

    def metrics(self) -> dict[str, float]:
        """Of the pool: the mean reward, what the prior mean is worth in rollouts, whether the drift correction is in use."""
        kappa = self.pool.level.kappa()
        return {
            "pooled_mean": float(self.pool.mean),
            "kappa": float(kappa[self.pool.best_window]),
            "drift_active": float(self.how.drift and bool(self.pool.drift.active)),
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
            self._check(fresh, state)
        return [(self.__dict__.update, {"pool": fresh, "_other": self._fresh()})]

    def _check(self, pool: Pool, state: dict[str, Any]) -> None:
        """Refuse a pool that cannot forecast, or was not learned from the visits beside it; it may come without any."""
        if "s" in state and not pool.works():
            raise CheckpointError("the pooled state is damaged: forecasts by it are not finite")
        if "s" in state and not (self.weighted or pool.running.empty):  # larger weights make a pool start anew
            means = np.asarray(state["s"], np.float64) / np.asarray(state["n"], np.float64)
            if not pool.units.reach(means).all():
                raise CheckpointError("the pooled state cannot have learned from the visits beside it: it is damaged")

    @property
    def _columns(self) -> int:
        """Number of features of a prompt, 0 while it is not known."""
        if self.features is None:
            return 0
        return self.features.size or (self.pool.features.columns if self.pool.features else 0)

    def _fresh(self) -> Pool:
        """A pool that has seen nothing."""
        return Pool(self.how, (self.features.size or 0) if self.features else 0)


def _inside(batch: Batched, scale: Scale) -> FloatArray:
    """Where the rewards of each group lie: 0 at the ends of the range seen before, 1 inside, -1 outside.  # (N,)"""
    low, high = scale.low, scale.high
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


def _batched(rollouts: Rollouts) -> Batched:
    groups = rollouts.batch.groups
    if rollouts.weight is None:
        return Batched.of(groups)
    plain = [rollouts.sums(power) for power in (0, 1)]
    squared = [rollouts.sums(power, squared=True) for power in (0, 1, 2)]
    return Batched(groups.prompt, np.stack([groups.n.astype(np.float64), *plain, *squared]))


def _last_visit(sample: Sample, at: Any, reach: int, weighted: bool) -> LastVisit:
    """Each query's newest visit; none where it is later than the query, or out of reach, for then it may be forgotten."""
    some = sample.length > 0
    index = np.where(some, sample.start + sample.length - 1, 0)
    if not len(sample.step):
        none = np.zeros(len(at))
        return LastVisit(none, none, none, none)
    lag = at - sample.step[index]
    known = some & (lag >= 0) & (lag <= reach)
    n = np.where(known, sample.n[index], 0.0)
    w = np.where(known, sample.ss[index], 0.0) if weighted else n
    return LastVisit(np.where(known, lag, 0).astype(np.float64), n, w, np.where(known, sample.s[index], 0.0))
