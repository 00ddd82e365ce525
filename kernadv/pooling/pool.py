"""The pooled estimator's engine: from the pasts of a batch of groups to what each past is worth, and learning from it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from kernadv._arrays import LAST_STEP
from kernadv._errors import CheckpointError
from kernadv._states import whole_numbers
from kernadv.kernels import Kernel
from kernadv.moments import Moments
from kernadv.pooling._base import Batched, Pooled, Scale, Windowed, check_shapes
from kernadv.pooling._forecast import Forecast, LastVisit
from kernadv.pooling._library import NUMPY, Array, Library
from kernadv.pooling._running import Running
from kernadv.pooling._units import Units
from kernadv.pooling.aggregation import AGGREGATIONS, Argmin
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.drift import CommonDrift
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.how import Pooling
from kernadv.pooling.level import EmpiricalBayesLevel
from kernadv.pooling.slope import PooledSlope
from kernadv.pooling.strength import Strength

#: Rollouts that the recent mean is worth beside the batch's own mean, for prompts without a past.
RECENT = 64.0


class Pool:
    """State and rules of a `Pooling`; arrays in, arrays out, all of the library's kind.

    Parameters
    ----------
    how : Pooling
    features : int
        Number of features of a prompt; 0: none.
    lib : Library
    """

    def __init__(self, how: Pooling, features: int = 0, lib: Library = NUMPY) -> None:
        self.how, self.lib = how, lib
        size = len(how.windows)
        self.newest = lib.zeros(1)  # step
        self.units = Units(lib)
        self.running = Running(lib)
        self.level = EmpiricalBayesLevel(size, lib)
        self.slope = PooledSlope(size, lib)
        self.drift = CommonDrift(lib)
        self.aggregation: Argmin = AGGREGATIONS[how.aggregation](2 * size if how.slope else size, lib)
        self.strength = Strength(lib)
        self.calibration = Calibration(lib)
        self.features: FeaturePrior | None = None
        if features:
            self.expect(features)
        self._windows = lib.array(how.windows)

    @property
    def scale(self) -> Scale:
        """Range of the rewards and their variance, in their own units."""
        low, high, relative = self.running.scale
        return Scale(self.units.reward(low), self.units.reward(high), relative)

    @property
    def mean(self) -> Any:
        """Recent mean reward."""
        return self.units.reward(self.running.mean)

    def value(self, forecast: Forecast) -> Array:
        """The predictions in the units of the rewards.  # (B,)"""
        return self.units.reward(forecast.final)

    @property
    def best_window(self) -> Any:
        """Index of the window whose estimate has the smallest loss so far."""
        return self.aggregation.best % len(self.how.windows)

    def expect(self, features: int) -> None:
        """From now on every prompt comes with that many features."""
        if self.features is None:
            self.features = FeaturePrior(features, self.lib)

    def copy_from(self, other: Pool) -> None:
        """Take over what another pool has learned, of the same `Pooling` and library."""
        self.newest[:] = other.newest
        if other.features is None:
            self.features = None
        else:
            self.expect(other.features.columns)
        for own, learned in zip(self._pieces().values(), other._pieces().values(), strict=True):
            own.copy_from(learned)
        self.units.copy_from(other.units)

    def forecast(self, past: Windowed, batch: Batched, features: Array | None = None) -> Forecast:
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
        xp, where = self.lib.xp, self.lib.xp.where
        learned = ~self.running.empty
        change = self.units.inverse(~learned)
        past, batch = past.moved(*change), batch.moved(*change, xp)
        scale, kappa = self.running.scale, self.level.kappa()
        mean = self.running.mean + 0.0 * batch.n
        if self.features is not None and features is not None:
            mean = mean + self.features.weight() * self.features.deviation(features, kappa[-1])
        prior = where(learned, scale.clip(mean), mean)
        level = self._level(past.value, past, prior, kappa, learned)
        columns = level
        if self.how.slope:
            line = where(learned, self.slope.extrapolate(past, level, scale), level)
            columns = xp.concatenate([level, self._level(line, past, prior, kappa, learned)], axis=1)
        has_past = past.defined.any(1)
        value = where(has_past, self.aggregation.combine(columns, prior), prior)
        value = where(learned, scale.clip(value), value)
        shifted = where(has_past, self.drift.shifted(value, batch.only(has_past), scale), value)
        known = where(self.drift.active, shifted, value) if self.how.drift else value
        final = where(has_past, known, self._without_past(prior, batch))
        k = self.best_window
        n_eff = xp.minimum(self.lib.at(past.n_eff, k), self.lib.at(past.moments.s0, k)) * has_past
        strength = self.strength.rollouts(n_eff, past.n_eff[:, -1], self.lib.at(kappa, k))
        return Forecast(prior, level, columns, value, shifted, final, n_eff, strength, has_past)

    def _level(self, value: Array, past: Windowed, prior: Array, kappa: Array, learned: Array) -> Array:
        """Estimates of the windows shrunk to the prior means, which those of empty windows are.  # (B, H)"""
        where = self.lib.xp.where
        own = where(past.defined, value, prior[:, None])
        if not self.how.level:
            return own
        return where(learned, self.level.shrink(value, past.n_eff, past.defined, prior, kappa), own)

    def learn(
        self,
        forecast: Forecast,
        past: Windowed,
        batch: Batched,
        last: LastVisit,
        limits: tuple[Any, Any],
        step: Any,
        features: Array | None = None,
    ) -> None:
        """Learn from a batch after it was predicted.

        Parameters
        ----------
        forecast, past, batch, features
            As made by and given to `forecast`.
        last : LastVisit
        limits : tuple of float
            Smallest and largest reward of the batch; of no matter without a scored trace.
        step : int
            Newest step of the batch.
        """
        xp, number, where = self.lib.xp, self.lib.number, self.lib.xp.where
        some = batch.w.sum() > 0
        if self.lib.rules_out(some):
            return
        batch = batch.only(some)
        low, high = (where(some, limit, self.units.origin) for limit in limits)
        restart, *change = self.units.settle(low, high, self.running.empty, self.running.range)
        for piece in self._pieces().values():
            piece.keep(1.0 - number(restart))
        forecast = forecast.moved(*change)
        origin, factor = self.units.inverse(False)
        past, batch = past.moved(origin, factor), batch.moved(origin, factor, xp)
        new = number((step > self.newest) & some)[0]
        self.newest[:] = where(new > 0, step, self.newest)
        scale, weight, learned = self.running.scale, self.running.weight, ~self.running.empty
        reward, prior, blank = self.lib.ratio(batch.wz, batch.w), forecast.prior, xp.isnan(forecast.final)
        rows = forecast.has_past & (batch.w > 0) & learned
        self.strength.fade(new)
        self.calibration.fade(new)
        told = batch.only(~(blank & (batch.n > 0)).any())
        predicted = forecast._replace(final=where(blank, prior, forecast.final))
        self._learn_strength(predicted, past, told, last, scale, self.best_window)
        variance = self.lib.ratio(batch.squares(prior).sum() * batch.n.sum(), batch.w.sum() ** 2)
        self.level.learn(past.value, past.defined & rows[:, None], prior, reward, variance, new=new)
        share = batch.w / weight
        self.aggregation.learn(forecast.columns, prior, reward, share * rows, variance, new=new)
        self.drift.learn(forecast.value, forecast.shifted, batch.only(rows), scale, new=new)
        self.slope.learn(past, forecast.level, scale, rows, new=new * number(rows.any()))
        if self.features is not None and features is not None:
            residual, fresh = reward - self.running.mean, ~forecast.has_past
            own = self.lib.ratio(batch.w.sum(), batch.n.sum(), 1.0)  # of the first batch, which only they learn from
            share = batch.w / where(learned, weight, own)
            self.features.learn(features, self.level.kappa()[-1], residual, share, fresh, new=new)
        final = where(blank, reward, forecast.final)
        self.running.learn(final, batch, (low - origin) * factor, (high - origin) * factor, new=new)

    def _without_past(self, prior: Array, batch: Batched) -> Array:
        """Prior means moved to the level of the batch's other prompts; NaN while nothing was seen.  # (B,)"""
        where, others, running = self.lib.xp.where, self.lib.sum_of_others, self.running
        residual, count = others(batch.prompt, batch.wz - batch.w * prior, batch.w)
        first = where(count > 0, prior + self.lib.ratio(residual, count), np.nan)
        return where(running.empty, first, running.scale.clip(prior + residual / (count + RECENT * running.weight)))

    def _learn_strength(
        self, forecast: Forecast, past: Windowed, batch: Batched, last: LastVisit, scale: Scale, k: Any
    ) -> None:
        kappa = self.lib.at(self.level.kappa(), k)
        self.strength.learn(forecast.final, forecast.n_eff, kappa, batch)
        single = (batch.n == 1) & (last.n > 0)
        if not self.lib.rules_out(single.any()):
            self._learn_visits(forecast.prior, kappa, past, batch.only(single), last, scale, k)
        self.calibration.learn(forecast.final, forecast.strength, *self._calibrating(batch, scale))

    def _learn_visits(
        self, prior: Array, kappa: Any, past: Windowed, batch: Batched, last: LastVisit, scale: Scale, k: Any
    ) -> None:
        """From single traces and the visit before, predicted from what came before both."""
        xp, where = self.lib.xp, self.lib.xp.where
        origin, factor = self.units.inverse(False)
        last = last._replace(wz=(last.wz - origin * last.w) * factor)
        kernel = self.how.kernel
        assert isinstance(kernel, Kernel)
        weight = kernel.profile(last.lag / self.lib.at(self._windows, k), xp)
        whole, m = self.lib.at(past.bottom, k), past.moments
        bottom = whole - weight * last.w
        left = bottom > 1e-9 * whole
        s0, q0 = self.lib.at(m.s0, k) - weight * last.n, self.lib.at(m.q0, k) - weight * weight * last.n
        n_eff = where(left, xp.minimum(s0 * s0 / where(q0 > 0, q0, 1.0), s0), 0.0)
        value = where(left, (self.lib.at(m.t0, k) - weight * last.wz) / where(left, bottom, 1.0), prior)
        value = (n_eff * value + kappa * prior) / (n_eff + kappa)
        nu = self.strength.rollouts(n_eff, (past.n_eff[:, -1] - last.n).clip(0.0), kappa)
        before = self.lib.ratio(last.wz, last.n)
        self.strength.learn_visits(value, n_eff, kappa, batch, before - self.lib.ratio(last.w, last.n) * value)
        batch, scale = self._calibrating(batch, scale)
        self.calibration.learn_visits(value, nu, batch, before, scale)

    def _calibrating(self, batch: Batched, scale: Scale) -> tuple[Batched, Scale]:
        """The batch and the range of the rewards; no batch, and a range of 1, without a range or with unequal weights."""
        where = self.lib.xp.where
        some = (scale.high > scale.low) & (batch.w == batch.n).all()
        return batch.only(some), Scale(where(some, scale.low, 0.0), where(some, scale.high, 1.0), scale.ratio)

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

    def state_dict(self) -> dict[str, Array]:
        """All arrays, as ``pool.piece.name``."""
        arrays = {
            f"pool.{name}.{key}": array
            for name, piece in self._pieces().items()
            for key, array in piece.state_dict().items()
        }
        newest, unit = self.lib.host(self.newest).astype(np.int64), self.lib.host(self.units.unit)
        return {"pool.newest": newest, "pool.unit": unit, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If arrays are missing or unknown, or hold what learning never leaves.
        """
        columns = columns_of(state)
        if columns:  # before anything of that size is made
            check_shapes(_of_piece(state, "features"), FeaturePrior.shapes(columns))
        fresh = Pool(self.how, columns, self.lib)
        unknown = [name for name in state if name.startswith("pool.") and name not in fresh._names()]
        if unknown:
            raise CheckpointError(f"the pooled state holds {', '.join(unknown)[:80]}, unknown here: it is damaged")
        newest = whole_numbers(np.asarray(state.get("pool.newest", np.nan)), 0, LAST_STEP)
        if newest is None or len(newest) != 1:
            raise CheckpointError("the state of the pool has no newest step: it is damaged, or saved without pooling")
        fresh.newest = self.lib.array(newest)
        for name, piece in fresh._pieces().items():
            piece.load_state_dict(_of_piece(state, name))
        fresh.units.load_state_dict({"unit": state.get("pool.unit", np.nan)})
        self.__dict__ = fresh.__dict__

    def _names(self) -> set[str]:
        """Of the arrays of the state."""
        return {"pool.newest", "pool.unit"} | {
            f"pool.{name}.{key}" for name, piece in self._pieces().items() for key in piece._shapes
        }

    def works(self) -> bool:
        """Whether a copy forecasts and learns from a mean reward, with a past and without one, and stays finite."""
        trial = deepcopy(self)
        trial.units.unit[:] = 0.0, 1.0
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                results = trial._try(np.float64(trial.running.mean), np.float64(trial.running.weight))
        except (FloatingPointError, np.linalg.LinAlgError):
            return False
        return all(np.isfinite(x).all() for x in [*results, *trial.state_dict().values()])

    def _try(self, z: Any, w: Any) -> list[Array]:
        """Forecast and learn from two prompts with rewards z of weight w; what must be finite."""
        count, lag, size = np.array([[8.0], [0.0]]), np.array([[-4.0], [0.0]]), len(self.how.windows)
        parts = [count, count * lag, 2.0 * count * lag**2, count * z, count * lag * z, count, count * lag]
        moments = Moments(*(np.repeat(part, size, axis=1) for part in [*parts, 2.0 * count * lag**2, count * z * z]))
        batch = Batched(np.arange(2), np.outer([1.0, w, w * z, w * w, w * w * z, (w * z) ** 2], [2.0, 2.0]))
        last = LastVisit(*np.array([[4.0, 0.0], [1.0, 0.0], [w, 0.0], [w * z, 0.0]]))
        features = None if self.features is None else np.stack([self.features.centre, 0.0 * self.features.centre])
        past, empty = Windowed.of(moments), bool(self.running.empty)
        forecast = self.forecast(past, batch, features)
        rollouts = self.calibration.rollouts(forecast.strength)
        self.learn(forecast, past, batch, last, (z, z), self.newest[0] + 1.0, features)
        return [forecast.strength, rollouts, *([] if empty else [forecast.final])]


def columns_of(state: Mapping[str, Any]) -> int:
    """Number of features of a prompt that a state was learned with; 0: none."""
    return int(np.size(state.get("pool.features.centre", ())))


def _of_piece(state: Mapping[str, Any], piece: str) -> dict[str, Any]:
    """The arrays of a piece, by its own names."""
    prefix = f"pool.{piece}."
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
