"""The pooled estimator's engine: from the pasts of a batch of groups to what each past is worth, and learning from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._typing import AnyArray, FloatArray
from kernadv.kernels import Kernel
from kernadv.pooling._base import Batched, Pooled, Scale, Windowed, sum_of_others
from kernadv.pooling._forecast import Forecast, LastVisit
from kernadv.pooling._running import Running
from kernadv.pooling.aggregation import AGGREGATIONS, Argmin
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.drift import CommonDrift
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.how import Pooling
from kernadv.pooling.level import EmpiricalBayesLevel
from kernadv.pooling.slope import PooledSlope
from kernadv.pooling.strength import Strength

#: A reward that many times the unit of the rewards starts the pool anew; squares of products of rewards then still fit.
HUGE = 1e30
#: Rewards that near the origin, while all were, are as good as there.
TINY = 1e-100
#: First rewards farther from 0 than that many times their range are counted from the smallest of them.
FAR = 16.0
#: Rollouts that the recent mean is worth beside the batch's own mean, for prompts without a past.
RECENT = 64.0


class Pool:
    """State and rules of a `Pooling`; arrays in, arrays out.

    Parameters
    ----------
    how : Pooling
    features : int
        Number of features of a prompt; 0: none.
    """

    def __init__(self, how: Pooling, features: int = 0) -> None:
        self.how = how
        self.origin = 0.0  # inside, rewards are (z - origin) / unit
        self.unit = 0.0  # a power of two near the first rewards; 0 while all were at the origin
        self.newest = 0
        self._start(features)

    def _start(self, features: int) -> None:
        how = self.how
        size = len(how.windows)
        self.running = Running()
        self.level = EmpiricalBayesLevel(size)
        self.slope = PooledSlope(size)
        self.drift = CommonDrift()
        self.aggregation: Argmin = AGGREGATIONS[how.aggregation](2 * size if how.slope else size)
        self.strength = Strength()
        self.calibration = Calibration()
        self.features = FeaturePrior(features) if features else None

    @property
    def scale(self) -> Scale:
        """Range of the rewards and their variance, in their own units."""
        low, high, ratio = self.running.scale
        return Scale(self.reward(low), self.reward(high), ratio)

    @property
    def mean(self) -> float:
        """Recent mean reward."""
        return self.reward(self.running.mean)

    def reward(self, inside: float) -> float:
        """A reward from the units of the pool."""
        return self.origin + inside * (self.unit or 1.0)

    def value(self, forecast: Forecast) -> FloatArray:
        """The predictions in the units of the rewards.  # (B,)"""
        return self.origin + forecast.final * (self.unit or 1.0)

    @property
    def best_window(self) -> int:
        """Index of the window whose estimate has the smallest loss so far."""
        return self.aggregation.best % len(self.how.windows)

    def expect(self, features: int) -> None:
        """From now on every prompt comes with that many features."""
        if self.features is None:
            self.features = FeaturePrior(features)

    def forecast(self, past: Windowed, batch: Batched, features: FloatArray | None = None) -> Forecast:
        """Predict a batch.

        The rewards in `batch` enter only through the other prompts: for the level of prompts without a past, and for the
        drift.

        Parameters
        ----------
        past : Windowed of B groups
        batch : Batched of B groups
        features : (B, D), optional
            NaN where a prompt has none.
        """
        factor = 1.0 / self.unit if self.unit else float(self.running.empty)
        past, batch = past.moved(self.origin, factor), batch.moved(self.origin, factor)
        scale, kappa = self.running.scale, self.level.kappa()
        k = self.best_window
        prior = np.full(len(batch.n), self.running.mean)
        if self.features is not None and features is not None:
            prior = prior + self.features.weight() * self.features.deviation(features, float(kappa[-1]))
        learned = not self.running.empty
        if learned:
            prior = scale.clip(prior)
        if self.how.level and learned:
            level = self.level.shrink(past.value, past.n_eff, past.defined, prior)
        else:
            level = np.where(past.defined, past.value, prior[:, None])
        columns = level
        if self.how.slope:
            line = self.slope.extrapolate(past, level, scale) if learned else level
            if self.how.level and learned:
                line = self.level.shrink(line, past.n_eff, past.defined, prior)
            columns = np.concatenate([level, np.where(past.defined, line, prior[:, None])], axis=1)
        has_past = np.asarray(past.defined.any(axis=1))
        value = np.where(has_past, self.aggregation.combine(columns, prior), prior)
        if learned:
            value = scale.clip(value)
        shifted = value.copy()
        if has_past.any():
            shifted[has_past] = self.drift.shifted(value[has_past], batch.take(has_past), scale)
        known = shifted if self.how.drift and self.drift.active else value
        final = np.where(has_past, known, self._without_past(prior, batch))
        n_eff = np.where(has_past, np.minimum(past.n_eff[:, k], past.moments.s0[:, k]), 0.0)
        strength = self.strength.rollouts(n_eff, past.n_eff[:, -1], float(kappa[k]))
        return Forecast(prior, level, columns, value, shifted, final, n_eff, strength, has_past)

    def learn(
        self,
        forecast: Forecast,
        past: Windowed,
        batch: Batched,
        last: LastVisit,
        limits: tuple[float, float],
        step: int,
        features: FloatArray | None = None,
    ) -> None:
        """Learn from a batch after it was predicted.

        Parameters
        ----------
        forecast, past, batch, features
            As made by and given to `forecast`.
        last : LastVisit
        limits : tuple of float
            Smallest and largest reward of the batch.
        step : int
            Newest step of the batch.
        """
        forecast = self._settle(limits, forecast)
        factor = 1.0 / self.unit if self.unit else 0.0
        past, batch = past.moved(self.origin, factor), batch.moved(self.origin, factor)
        limits = (limits[0] - self.origin) * factor, (limits[1] - self.origin) * factor
        new, self.newest = step > self.newest, max(step, self.newest)
        scale, weight = self.running.scale, self.running.weight
        reward, rows = batch.mean, forecast.has_past & (batch.w > 0)
        prior = forecast.prior
        if new:
            self.strength.fade()
            self.calibration.fade()
        if not np.isnan(forecast.final).any():
            self._learn_strength(forecast, past, batch, last)
        if not self.running.empty:
            variance = float(batch.squares(prior).sum() * batch.n.sum() / max(batch.w.sum(), 1e-300) ** 2)
            self.level.learn(past.value[rows], past.defined[rows], prior[rows], reward[rows], variance, new=new)
            if rows.any():
                share = batch.w[rows] / weight
                noise = float(variance)
                self.aggregation.learn(forecast.columns[rows], prior[rows], reward[rows], share, noise, new=new)
                own = batch.take(rows)
                self.drift.learn(forecast.value[rows], forecast.shifted[rows], own, scale, new=new)
                self.slope.learn(past.take(rows), forecast.level[rows], scale, new=new)
        if self.features is not None and features is not None:
            residual = reward - self.running.mean
            share, fresh = batch.w / weight, ~forecast.has_past
            self.features.learn(features, float(self.level.kappa()[-1]), residual, share, fresh, new=new)
        self.running.learn(np.where(np.isnan(forecast.final), reward, forecast.final), batch, *limits, new=new)

    def _settle(self, limits: tuple[float, float], forecast: Forecast) -> Forecast:
        """Choose origin and unit by the first rewards, the unit anew where rewards outgrow it; the forecast in these."""
        moved = 0.0
        if self.running.empty and max(map(abs, limits)) > FAR * (limits[1] - limits[0]):
            moved = self.origin = limits[0]
        largest = max(abs(limit - self.origin) for limit in limits)
        before = self.unit or 1.0
        if largest > max(HUGE * self.unit, TINY):
            self.unit = 2.0 ** round(math.log2(largest))
            if before * HUGE < self.unit and not self.running.empty and self.running.range.any():
                self._start(self.features.columns if self.features else 0)
        return forecast.moved(moved, before / self.unit if self.unit else 0.0)

    def _without_past(self, prior: FloatArray, batch: Batched) -> FloatArray:
        """Prior means moved to the level of the batch's other prompts.  # (B,)"""
        residual = sum_of_others(batch.prompt, batch.wz - batch.w * prior)
        count = sum_of_others(batch.prompt, batch.w)
        if self.running.empty:
            return np.where(count > 0, prior + residual / np.where(count > 0, count, 1.0), np.nan)
        return self.running.scale.clip(prior + residual / (count + RECENT * self.running.weight))

    def _learn_strength(self, forecast: Forecast, past: Windowed, batch: Batched, last: LastVisit) -> None:
        k = self.best_window
        kappa = float(self.level.kappa()[k])
        self.strength.learn(forecast.final, forecast.n_eff, kappa, batch)
        single = (batch.n == 1) & (last.n > 0)
        if single.any():
            self._learn_visits(forecast.prior[single], kappa, past.take(single), batch.take(single), last.take(single))
        if self._calibrates(batch):
            self.calibration.learn(forecast.final, forecast.strength, batch, self.running.scale)

    def _learn_visits(self, prior: FloatArray, kappa: float, past: Windowed, batch: Batched, last: LastVisit) -> None:
        """From single traces and the visit before, predicted from what came before both."""
        k = self.best_window
        last = last._replace(wz=(last.wz - self.origin * last.w) / self.unit if self.unit else 0.0 * last.wz)
        kernel = self.how.kernel
        assert isinstance(kernel, Kernel)
        u = last.lag / self.how.windows[k]
        weight = np.where(u <= kernel.support, kernel.profile(u), 0.0)
        bottom = past.bottom[:, k] - weight * last.w
        left = bottom > 1e-9 * past.bottom[:, k]
        top = past.moments.t0[:, k] - weight * last.wz
        s0, q0 = past.moments.s0[:, k] - weight * last.n, past.moments.q0[:, k] - weight**2 * last.n
        n_eff = np.where(left, np.minimum(s0 * s0 / np.where(q0 > 0, q0, 1.0), s0), 0.0)
        value = np.where(left, top / np.where(left, bottom, 1.0), prior)
        value = (n_eff * value + kappa * prior) / (n_eff + kappa)
        nu = self.strength.rollouts(n_eff, np.maximum(past.n_eff[:, -1] - last.n, 0.0), kappa)
        self.strength.learn_visits(value, n_eff, kappa, batch, (last.wz - last.w * value) / last.n)
        if self._calibrates(batch):
            self.calibration.learn_visits(value, nu, batch, last.wz / last.n, self.running.scale)

    def _calibrates(self, batch: Batched) -> bool:
        """There is a range of rewards, and they weigh alike."""
        scale = self.running.scale
        return bool(scale.high > scale.low and (batch.w == batch.n).all())

    def _pieces(self) -> dict[str, Pooled]:
        pieces: dict[str, Pooled] = {
            "running": self.running,
            "level": self.level,
            "slope": self.slope,
            "drift": self.drift,
            "aggregation": self.aggregation,
            "strength": self.strength,
            "calibration": self.calibration,
        }
        return pieces if self.features is None else {**pieces, "features": self.features}

    def state_dict(self) -> dict[str, AnyArray]:
        """All arrays, as ``pool.piece.name``."""
        arrays = {
            f"pool.{name}.{key}": array
            for name, piece in self._pieces().items()
            for key, array in piece.state_dict().items()
        }
        return {"pool.newest": np.array([self.newest]), "pool.unit": np.array([self.origin, self.unit]), **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state; on an error it stays as it was."""
        fresh = Pool(self.how, len(np.atleast_1d(state.get("pool.features.centre", ()))))
        newest = np.asarray(state.get("pool.newest", np.nan))
        if newest.dtype.kind not in "iu" or newest.shape != (1,) or newest[0] < 0:
            raise CheckpointError("the state of the pool has no newest step: it is damaged, or saved without pooling")
        for name, piece in fresh._pieces().items():
            prefix = f"pool.{name}."
            piece.load_state_dict({key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)})
        unit = np.asarray(state.get("pool.unit", np.nan))
        if unit.dtype.kind != "f" or unit.shape != (2,) or not np.isfinite(unit).all() or unit[1] < 0:
            raise CheckpointError("the state of the pool has no origin and unit of the rewards: it is damaged")
        fresh.newest, fresh.origin, fresh.unit = int(newest[0]), float(unit[0]), float(unit[1])
        self.__dict__ = fresh.__dict__
