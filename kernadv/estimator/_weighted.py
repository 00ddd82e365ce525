"""The weighted rule: the value of each prompt, and beside it the baseline of least gradient variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._states import real_numbers
from kernadv.batch import Batch
from kernadv.clock import Retention
from kernadv.estimator._pooled import PooledRule
from kernadv.estimator._rule import Belief, Rule, State
from kernadv.features import Features
from kernadv.groups import Groups
from kernadv.pooling import NUMPY, ArrayNamespace, Pool, Pooling
from kernadv.smoothers import Estimate
from kernadv.tally import Tally
from kernadv.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from kernadv.device.batch import DeviceBatch

#: Before the names of the arrays of the baseline's pool.
PREFIX = "weighted."


class Pools:
    """What a `WeightedRule` learns: a pool of the rewards, and one of the rewards by weight.

    Attributes
    ----------
    value, baseline : Pool
    unit : (1,) array
        In which the weights are counted; 0: none came yet.
    """

    def __init__(self, value: Pool, baseline: Pool) -> None:
        self.value, self.baseline = value, baseline
        self.unit = value.xp.zeros(1)

    def state_dict(self) -> dict[str, Any]:
        """All arrays, those of the second pool with a prefix."""
        weighted = {PREFIX + name: x for name, x in self.baseline.state_dict().items()}
        return {**self.value.state_dict(), **weighted, f"{PREFIX}unit": self.value.xp.host(self.unit)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state by one that `state_dict` made.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        for pool, part in zip((self.value, self.baseline), _split(state), strict=True):
            pool.load_state_dict(part)
        self.unit = self.value.xp.array(_unit(state))


def _split(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the pool of the value, and of the baseline's."""
    value = {name: x for name, x in arrays.items() if not name.startswith(PREFIX)}
    baseline = {name.removeprefix(PREFIX): x for name, x in arrays.items() if name.startswith(PREFIX)}
    return value, {name: x for name, x in baseline.items() if name != "unit"}


def _unit(arrays: Mapping[str, Any]) -> FloatArray:
    unit = real_numbers(np.asarray(arrays.get(f"{PREFIX}unit", np.nan)), (1,), 0.0)
    if unit is None or (unit[0] and np.frexp(unit[0])[0] != 0.5):
        raise CheckpointError("the unit of the weights in the state is no power of two: it is damaged")
    return unit.copy()  # it is written in place


class _Part(NamedTuple):
    """The state as one of the two rules sees it."""

    state: State
    pool: Pool
    columns: slice

    @property
    def xp(self) -> ArrayNamespace:
        return self.state.xp

    def notes(self, batch: Any) -> Any:
        return self.state.notes(batch)[:, self.columns]

    def features(self, batch: Any, columns: int | None) -> Any:
        return self.state.features(batch, columns)

    @property
    def tally(self) -> Tally:
        return self.state.tally

    def past(self, *arguments: Any) -> tuple[Any, Any]:
        return self.state.past(*arguments)


class WeightedRule(Rule):
    """The pooled rule twice over one history: the value without the weights, the baseline ``E[w Z] / E[w]`` with them.

    Parameters
    ----------
    settings : Pooling
    features : Features, optional
    allow_late : bool or int
    """

    def __init__(self, settings: Pooling, features: Features | None, allow_late: bool | int = False) -> None:
        super().__init__(allow_late)
        self.features = features
        self._rule = PooledRule(settings, features, allow_late)
        own = self._rule.noted
        self.noted, self._columns = 2 * own, (slice(own), slice(own, None))

    def arguments(self) -> list[str]:
        """Those of both."""
        return self._rule.arguments()

    def predict(self, batch: Batch | DeviceBatch, state: State) -> tuple[Estimate, Any]:
        """Values of the rows; and what both estimates were made from, that of the baseline where weights came."""
        pools: Pools = state.pool
        values, baselines = map(_Part, (state, state), (pools.value, pools.baseline), self._columns)
        estimate, made_from = self._rule.predict(batch.unweighted, values)
        if batch.weight is None:
            return estimate, (made_from, None, None, None)
        return estimate, (made_from, *self._rule.predict(batch, baselines), batch.unit)

    def works_on_device(self, pool: Any) -> bool:
        """When both pools have learned something."""
        return not (pool.value.empty or pool.baseline.empty)

    def baseline(self, estimate: Estimate, made_from: Any) -> Estimate:
        """That by weight."""
        found: Estimate = made_from[1]
        return found

    @property
    def of_values(self) -> Rule:
        """The first of the two."""
        return self._rule

    def fresh(self, xp: ArrayNamespace = NUMPY) -> Any:
        """Two pools that have seen nothing."""
        return Pools(self._rule.fresh(xp), self._rule.fresh(xp))

    def learn(self, made_from: Any, pool: Any) -> Any:
        """Both pools learn."""
        values, _, baselines, unit = made_from
        notes = [self._rule.learn(values, pool.value), self._rule.learn(baselines, pool.baseline)]
        pool.unit[:] = unit
        return pool.value.xp.concatenate(notes, axis=1)

    def belief(self, batch: Batch | DeviceBatch, estimate: Estimate, made_from: Any, state: State) -> Belief:
        """Of the value."""
        return self._rule.belief(batch.unweighted, estimate, made_from[0], state)

    def interval(self, estimate: Estimate, belief: Belief, level: float) -> tuple[FloatArray, FloatArray]:
        """Of the value."""
        return self._rule.interval(estimate, belief, level)

    def pieces(self, made_from: Any, visits: Groups, at: int) -> dict[str, Any]:
        """Of the value."""
        return self._rule.pieces(made_from[0], visits, at)

    def _retention(self, newest: int, late: int) -> Retention:
        return self._rule._retention(newest, late)

    def config(self, pool: Any, arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
        """As of the value, and that there are weights."""
        return {**self._rule.config(pool and pool.value, arrays), "weighted": True}

    def metrics(self, pool: Any) -> dict[str, float]:
        """Of the value; and the mean reward by weight."""
        return {**self._rule.metrics(pool.value), "pooled_baseline": float(pool.baseline.mean)}

    def restored(self, pool: Any, arrays: Mapping[str, Any] | None) -> Any:
        """Pools with the saved arrays, or fresh ones."""
        if arrays is None:
            return self.fresh()
        notes, found = np.asarray(arrays.get("notes", np.empty((0, self.noted)))), []
        now = (pool.value, pool.baseline) if pool else (None, None)
        for own, part, columns in zip(now, _split(arrays), self._columns, strict=True):
            mine = {"notes": notes[:, columns] if notes.ndim == 2 else notes}
            if "length" in arrays:
                mine["length"] = arrays["length"]
            found.append(self._rule.restored(own, part | mine))
        pools = Pools(*found)
        pools.unit = _unit(arrays)
        return pools

    def tilted(self, value: Any, state: State, k: float) -> Any:
        """By the range of the rewards seen before."""
        return state.pool.value.tilted(value, k)
