"""Running totals of an estimator, from which its metrics tell without the truth how good the values are now.

A value V that does not use its own reward Z has ``E (V - Z)^2 = E (V - V_true)^2 + E s^2``, with s^2 the unbiased variance
within a group.  So three sums over the traces of groups of several traces give a value MSE; the same is done for RLOO and
for the mean of the batch's other traces.  Traces that are alone in their group show no noise, and only differences.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kernadv._arrays import LARGEST_REWARD
from kernadv._errors import CheckpointError
from kernadv._jit import compiled
from kernadv._states import real_numbers
from kernadv.typing import AnyArray, FloatArray, IntArray

__all__ = ["Tally"]


def __dir__() -> list[str]:
    return __all__


#: Share of the sums over batches that is kept from one step to the next: they remember about 50 steps.
KEEP = 0.98
#: Most rewards ever observed: up to here a float counts exactly.
MOST_SEEN = 2.0**53
#: Places in `Tally.errors`.
TRACES, VALUE, BATCH, NOISE, RLOO, LONE, LONE_VALUE, LONE_BATCH, GROUPS, DEAD, DEAD_LOW, DEAD_HIGH = range(12)


class Tally(NamedTuple):
    """Totals over all batches, and discounted ones; arrays, or tensors on a device.

    Attributes
    ----------
    seen : (2,) float64
        Count and sum of all rewards observed.
    ends : (3,) float64
        Smallest and largest of them; and 1 if one lay strictly between, else 0.  All 0 while there are none.
    errors : (12,) float64
        Sums over the batches that got advantages, `KEEP` of them kept from one step to the next.  Over the traces of groups
        of several: 1, the squared differences between reward and value, and between reward and the mean of the batch's
        other traces, s^2, and s^2 / (n - 1), the value MSE of RLOO.  Over the traces that are alone in their group, but not
        in their batch: 1 and the same two squares.  Over the groups of several: 1, whether all rewards are equal, and
        whether they are at the lower and at the upper end.
    """

    seen: Any
    ends: Any
    errors: Any

    @staticmethod
    def empty() -> Tally:
        """Of no batch."""
        return Tally(np.zeros(2), np.zeros(3), np.zeros(12))

    def after(self, group: IntArray, z: FloatArray, value: FloatArray | None, groups: int, keep: float) -> Tally:
        """With a batch in main memory; `kernadv.device.totals.add` is the same on a device.

        Parameters
        ----------
        group : (B,) int64
            Index of each row's group.
        z, value : (B,) float64
            Rewards, NaN where not scored, and values; None: the batch got no advantages.
        groups : int
        keep : float
            Share of the errors that is kept.
        """
        given = np.empty(0) if value is None else value
        after = Tally(*(x.copy() for x in self))
        _add(*after, group, z, np.ascontiguousarray(given, np.float64), groups, keep)
        return after

    def metrics(self) -> dict[str, float]:
        """Numbers for a logger, see `KernelValueEstimator.metrics`; NaN, or left out, where they are not known."""
        e, found = self.errors.tolist(), {}
        if e[TRACES] >= 1.0:
            found = {"value_mse": e[VALUE] - e[NOISE], "rloo_mse": e[RLOO], "batch_mean_mse": e[BATCH] - e[NOISE]}
            found = {name: total / e[TRACES] for name, total in found.items()}
            found["gradient_ratio"] = _ratio(e[VALUE], e[NOISE] + e[RLOO])
        elif e[LONE] >= 1.0:
            found["value_excess"] = (e[LONE_VALUE] - e[LONE_BATCH]) / e[LONE]
            found["gradient_ratio"] = _ratio(e[LONE_VALUE], e[LONE_BATCH])
        if e[GROUPS] >= 1.0:
            found["dead"] = _ratio(e[DEAD], e[GROUPS])
            low, high, between = self.ends.tolist()
            if low == high:  # one value so far: which end it is, its sign must tell
                found["dead_0"], found["dead_1"] = (found["dead"] * end for end in (low <= 0, low > 0))
            elif not between:
                found["dead_0"], found["dead_1"] = (_ratio(e[end], e[GROUPS]) for end in (DEAD_LOW, DEAD_HIGH))
        return found

    @property
    def two_ends(self) -> bool:
        """Whether all rewards so far lay at the ends of their range."""
        return not self.ends[2]

    def state_dict(self) -> dict[str, AnyArray]:
        """Copies of the arrays."""
        return {name: np.array(x) for name, x in self._asdict().items()}

    @classmethod
    def of_state(cls, arrays: dict[str, AnyArray]) -> Tally:
        """Take the arrays of `state_dict` out of those of a state.

        Raises
        ------
        CheckpointError
            If one is missing, or they hold what no rewards leave.
        """
        fresh = cls.empty()
        taken = {name: arrays.pop(name, np.empty(0)) for name in cls._fields}
        parts = [real_numbers(x, own.shape) for x, own in zip(taken.values(), fresh, strict=True)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not _sound(*known):
            raise CheckpointError("the totals of the state are not those of rewards: it is damaged")
        return cls(*known)


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else math.nan


def _sound(seen: FloatArray, ends: FloatArray, errors: FloatArray) -> bool:
    """Whether rewards can have left them, up to rounding."""
    (count, total), (low, high, between) = seen, ends
    if not 0 <= count <= MOST_SEEN or not -LARGEST_REWARD <= low <= high <= LARGEST_REWARD or between not in (0, 1):
        return False
    if (between and low == high) or (not count and (total or ends.any())):
        return False
    room = 1e-6 * count * max(abs(low), abs(high))
    if not count * low - room <= total <= count * high + room or errors.min() < 0:
        return False
    return bool(errors[DEAD] <= errors[GROUPS] * (1 + 1e-6) and max(errors[DEAD_LOW:]) <= errors[DEAD] * (1 + 1e-6))


@compiled()
def _add(
    seen: FloatArray,
    ends: FloatArray,
    errors: FloatArray,
    group: IntArray,
    z: FloatArray,
    value: FloatArray,
    groups: int,
    keep: float,
) -> None:
    """`Tally.after`, in place; an empty `value` stands for none."""
    n, s = np.zeros(groups), np.zeros(groups)
    least, most = np.full(groups, np.inf), np.full(groups, -np.inf)
    for i in range(len(z)):
        if z[i] == z[i]:
            g = group[i]
            n[g] += 1.0
            s[g] += z[i]
            least[g], most[g] = min(least[g], z[i]), max(most[g], z[i])
    count, total = n.sum(), s.sum()
    told, low, high, between = seen[0] > 0, np.inf, -np.inf, ends[2] > 0
    if told:
        low, high = ends[0], ends[1]
    for g in range(groups):
        low, high = min(low, least[g]), max(high, most[g])
    for i in range(len(z)):
        between |= low < z[i] < high
    if told:
        between |= low < ends[0] < high or low < ends[1] < high
    errors *= keep
    if told and low < ends[0]:
        errors[DEAD_LOW] = 0.0
    if told and high > ends[1]:
        errors[DEAD_HIGH] = 0.0
    if len(value):
        centre = total / max(count, 1.0)
        factor = (count / max(count - 1.0, 1.0)) ** 2
        for i in range(len(z)):
            if z[i] == z[i] and count > 1.0:
                g = group[i]
                own, other = (value[i] - z[i]) ** 2, factor * (centre - z[i]) ** 2
                if n[g] > 1.0:
                    noise = (z[i] - s[g] / n[g]) ** 2 * n[g] / (n[g] - 1.0)
                    errors[TRACES] += 1.0
                    errors[VALUE] += own
                    errors[BATCH] += other
                    errors[NOISE] += noise
                    errors[RLOO] += noise / (n[g] - 1.0)
                else:
                    errors[LONE] += 1.0
                    errors[LONE_VALUE] += own
                    errors[LONE_BATCH] += other
        for g in range(groups):
            if n[g] > 1.0:
                errors[GROUPS] += 1.0
                if least[g] == most[g]:
                    errors[DEAD] += 1.0
                    errors[DEAD_LOW] += 1.0 * (least[g] == low)
                    errors[DEAD_HIGH] += 1.0 * (most[g] == high)
    if count + seen[0] > 0:
        ends[0], ends[1], ends[2] = low, high, 1.0 * between
    seen[0] += count
    seen[1] += total
