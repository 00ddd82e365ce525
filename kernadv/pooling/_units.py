"""Origin and unit of the rewards inside the pool, so that squares of products of rewards fit, whatever their size."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._arrays import LARGEST_REWARD
from kernadv._errors import CheckpointError
from kernadv._states import real_numbers
from kernadv.pooling._base import Pooled
from kernadv.pooling._library import NUMPY, Array, Library

#: A reward that many times the unit starts the pool anew; squares of products of rewards then still fit.
HUGE = 1e30
#: Rewards that near the origin, while all were, are as good as there.
TINY = 1e-100
#: First rewards farther from 0 than that many times their range are counted from the smallest of them.
FAR = 16.0


class Units(Pooled):
    """Inside, a reward z is ``(z - origin) / unit``; the unit is a power of two, 0 while all rewards were at the origin."""

    unit: Array  # origin and unit

    def __init__(self, lib: Library = NUMPY) -> None:
        super().__init__(lib, unit=2)

    @property
    def origin(self) -> Any:
        """The reward that is 0 inside."""
        return self.unit[0]

    def reward(self, inside: Any) -> Any:
        """A reward from inside."""
        return self.unit[0] + inside * (self.unit[1] + (self.unit[1] <= 0))

    def inverse(self, first: Any) -> tuple[Any, Any]:
        """Origin and factor that bring a reward inside; without a unit the factor is 1 for the first rewards, else 0."""
        none = self.unit[1] <= 0
        return self.unit[0], (~none | first) / (self.unit[1] + none)

    def settle(self, low: Any, high: Any, first: Any, seen: Any) -> tuple[Any, Any, Any]:
        """Choose the origin by the first rewards, and the unit anew where rewards outgrow it.

        Parameters
        ----------
        low, high : float
            Smallest and largest of the rewards that come.
        first : bool
            Whether they are the first.
        seen : (2,)
            Range of those before, inside.

        Returns
        -------
        restart : bool
            What was learned is rounding error beside the new unit.
        origin, factor : float
            What brings rewards from the old inside to the new one.
        """
        xp = self.lib.xp
        far = first & (xp.maximum(abs(low), abs(high)) > FAR * (high - low))
        moved = xp.where(far, low, 0.0)
        origin, unit = self.unit[0] + moved, self.unit[1] + 0.0
        before = unit + (unit <= 0)
        largest = xp.maximum(abs(low - origin), abs(high - origin))
        outgrown = largest > (HUGE * unit).clip(TINY)
        unit = xp.where(outgrown, near_power(largest, xp), unit)
        restart = outgrown & (before * HUGE < unit) & ~first & (seen != 0).any()
        self.unit[0], self.unit[1] = origin, unit
        return restart, moved, (unit > 0) * before / (unit + (unit <= 0))

    def reach(self, rewards: Array) -> Array:
        """Whether each of the rewards, or means of some, may have been seen: larger ones would have changed the unit."""
        rounding = 1e-12 * (abs(rewards) + abs(self.unit[0]))
        return abs(rewards - self.unit[0]) <= 1.001 * max(HUGE * self.unit[1], TINY) + rounding

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Pooled.load_state_dict`."""
        unit = real_numbers(np.asarray(state.get("unit", np.nan)), (2,), -2.0 * LARGEST_REWARD, 4.0 * LARGEST_REWARD)
        if unit is None or (unit[1] != 0 and (unit[1] < TINY / 2.0 or np.frexp(unit[1])[0] != 0.5)):
            raise CheckpointError("the state of the pool has no origin and unit of the rewards: it is damaged")
        super().load_state_dict(state)


def near_power(x: Any, xp: Any) -> Any:
    """The power of two nearest on a logarithmic scale, of x > 0."""
    share = xp.frexp(x + (x <= 0))[0]  # from .5 to 1
    return (x + (x <= 0)) / share * xp.where(share < 0.5**0.5, 0.5, 1.0)
