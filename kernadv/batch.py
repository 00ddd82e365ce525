"""A batch of rollouts: rows of (prompt id, reward, step), checked and reduced to groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv import smoothers
from kernadv._arrays import Restore, read_rewards, read_steps
from kernadv._jit import compiled
from kernadv.groups import Groups
from kernadv.ids import Id, batch_codes
from kernadv.moments import Moments
from kernadv.parts import Parts, read_trace
from kernadv.pooling import NUMPY, Chain, GroupSums
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray

__all__ = ["Batch", "read_batch"]


def __dir__() -> list[str]:
    return __all__


NONE = np.empty(0, np.int64)


class Batch(NamedTuple):
    """B rows in N groups of P prompts; where rows were parts of traces, each trace is one row here.

    Attributes
    ----------
    ids : list of str or int  # (P,)
    group : (B,) int64
        Index of each row's group.
    groups : Groups of N rows
        ``groups.prompt`` indexes `ids`; n = 0 for a group without any scored trace.
    z : (B,) float64
    scored : (B,) bool
        False where the reward is NaN.
    restore : callable
        Turns a (B,) result into the kind, dtype and device of the rewards, one for each row that was given.
    weight : (B,) float64 or None
        Of the traces, in units of `unit`, 0 where they are not scored; None: all count alike.
    unit : (1,) float64 or None
        See `kernadv.groups.unit_for`; None without weights.
    rows : (P,) int64
        Of the history that the batch was read against, -1 of prompts it does not know; empty without a history.
    last : (N,) int64
        Newest step of each group's prompt there; 0: it has none.
    parts : Parts or None
        Which rows that were given are parts of which row here; None: each is its own.
    """

    ids: list[Id]
    group: IntArray
    groups: Groups
    z: FloatArray
    scored: BoolArray
    restore: Restore
    weight: FloatArray | None = None
    unit: FloatArray | None = None
    rows: IntArray = NONE
    last: IntArray = NONE
    parts: Parts | None = None

    @property
    def prompt(self) -> IntArray:
        """Index of each group's prompt.  # (N,)"""
        return self.groups.prompt

    @property
    def step(self) -> IntArray:
        """Step of each group.  # (N,)"""
        return self.groups.step

    @property
    def first(self) -> BoolArray:
        """Whether an entry of `step` and `last` is the first of its group: all are, but on a device.  # (N,)"""
        return np.ones(len(self.step), bool)

    @property
    def newest(self) -> int:
        """Newest step."""
        return int(self.groups.step.max())

    @property
    def first_group(self) -> IntArray:
        """Index of the first group of each group's prompt.  # (N,)"""
        return np.asarray(np.searchsorted(self.prompt, self.prompt))

    @property
    def chain(self) -> Chain | None:
        """Which groups are of one prompt; None: no prompt has two."""
        if len(self.prompt) == len(self.ids):
            return None
        first_group = self.first_group
        turn = np.arange(len(first_group)) - first_group
        return Chain(first_group, turn, int(turn.max()) + 1)

    @property
    def unweighted(self) -> Batch:
        """The same rows without weights."""
        return self._replace(weight=None)

    @property
    def others(self) -> FloatArray:
        """Count, sum and sum of squares of the rewards of the other scored traces of each row's group.  # (3, B)"""
        return sum_of_groupmates(self.group, self.z, self.scored, len(self.prompt))

    @property
    def heard(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Count, sum of the weights and of weight x reward of the other scored traces of each row's group.  # (B,) each"""
        count, total, _ = self.others
        if self.weight is None:
            return count, count, total
        z = np.where(self.scored, self.z, 0.0)
        w, wz = (
            sum_of_groupmates(self.group, part, self.scored, len(self.prompt))[1]
            for part in (self.weight, self.weight * z)
        )
        return count, w, wz

    @property
    def alike(self) -> tuple[IntArray, IntArray] | None:
        """Rows of equal value: those of a group that are scored, and those that are not.  None with weights.

        Returns the index of each row's set, (B,), and a row of each set, (2 N,).
        """
        if self.weight is not None:
            return None
        size = len(self.prompt)
        place, row = self.group + size * ~self.scored, np.zeros(size * (1 + (~self.scored).any()), np.int64)
        row[place] = np.arange(len(place))
        return place, row

    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest reward of each group; inf and -inf where none is scored.  # (N,), (N,)"""
        low, high = np.full(len(self.prompt), np.inf), np.full(len(self.prompt), -np.inf)
        group, z = self.group[self.scored], self.z[self.scored]
        np.minimum.at(low, group, z)
        np.maximum.at(high, group, z)
        return low, high

    def sums(self, seen: Any) -> GroupSums:
        """The groups for a `Pool`, their squares counted from the least reward so that they lose no digits.

        Parameters
        ----------
        seen : `Running` of the pool
            While it is empty, that is the least reward of the batch.
        """
        least = self.z[self.scored].min(initial=np.inf) if seen.empty else seen.low
        origin = float(least) if np.isfinite(least) else 0.0
        once, twice = (self._sum(2, power, origin) for power in (1, 2))
        n = self.groups.n.astype(np.float64)
        if self.weight is None:
            return GroupSums(self.prompt, n, n, self.groups.s, n, once, twice, n, origin)
        w, wz, ww, www = (self._sum(*powers) for powers in ((1, 0), (1, 1), (2, 0), (3, 0)))
        return GroupSums(self.prompt, n, w, wz, ww, once, twice, www, origin)

    def smoothed(self, past: Moments, smoother: str) -> Estimate:
        """Values of the rows from the moments of each group's past, (N, 1), and the other traces of the group.  # (B,)"""
        rows = Moments(*(part[self.group, 0] for part in past))
        return smoothers.get(smoother)(rows.add_at_query(*self.others))

    def filled(self, value: FloatArray, defined: AnyArray, seen: FloatArray) -> FloatArray:
        """Values, and where they are not defined the mean reward of the batch's other prompts.  # (B,)

        Where there are none it is that of the earlier rewards, of which `seen` has the count and the sum; 0 of none.
        """
        n, s = NUMPY.sum_of_others(self.prompt, self.groups.n, self.groups.s)
        mean = np.where(n > 0, s / np.maximum(n, 1.0), seen[1] / max(seen[0], 1.0))
        return np.asarray(np.where(defined, value, mean[self.group]))

    def advantages(self, value: FloatArray) -> Any:
        """Reward - value, of the kind of the rewards; 0 where a reward is NaN.  # (B,)"""
        return self.restore(np.where(self.scored, self.z - value, 0.0))

    def _sum(self, of_weight: int, power: int, origin: float = 0.0) -> FloatArray:
        """Sum over the scored traces of each group of weight^of_weight x (reward - origin)^power.  # (N,)"""
        w = np.ones(len(self.z)) if self.weight is None else self.weight
        w = np.where(self.scored, w**of_weight, 0.0)
        z = np.where(self.scored, self.z - origin, 0.0)
        return _sums(self.group, w * z**power, len(self.prompt))


def read_batch(prompt_ids: Any, rewards: Any, step: Any, trace: Any = None) -> Batch:
    """Check a batch and reduce it to groups.

    Parameters
    ----------
    prompt_ids : sequence of str or of int  # (B,)
    rewards : array, tensor or sequence of float; NaN: could not be scored  # (B,)
    step : int, or (B,) ints, from 1
    trace : sequence of str or of int, optional  # (B,)
        As in `kernadv.parts.read_parts`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, or parts of one trace differ in the prompt, the reward or the step.
    """
    ids, code = batch_codes(prompt_ids)
    z, restore = read_rewards(rewards, len(code))
    steps = read_steps(step, len(code))
    parts = None if trace is None else read_trace(trace, len(code))
    if parts is not None:
        code, z, steps = parts.agreed(ids, code, z, steps)
        restore = parts.spreading(restore)
    if (steps == steps[0]).all():
        group, prompt, at = code, np.arange(len(ids)), np.full(len(ids), steps[0])
    else:
        clock, tick = np.unique(steps, return_inverse=True)
        key, group = np.unique(code * len(clock) + tick, return_inverse=True)
        prompt, at = key // len(clock), clock[key % len(clock)]
    scored = ~np.isnan(z)
    clean = np.where(scored, z, 0.0)
    groups = Groups(
        prompt,
        at,
        _sums(group, scored, len(prompt)).astype(np.int64),
        _sums(group, clean, len(prompt)),
        _sums(group, clean * clean, len(prompt)),
    )
    return Batch(ids, group, groups, z, scored, restore, parts=parts)


def sum_of_groupmates(group: IntArray, z: FloatArray, scored: BoolArray, groups: int) -> FloatArray:
    """Count, sum and sum of squares of the rewards of the other scored traces of each row's group.  # (3, B)"""
    out = np.zeros((3, len(group)))
    _add_groupmates(group, z, scored, groups, out)
    return out


@compiled()
def _add_groupmates(group: IntArray, z: FloatArray, scored: BoolArray, groups: int, out: FloatArray) -> None:
    """One pass adds the rows before, one the rows after: the own reward never enters, not even in rounding."""
    rows = len(group)
    for direction in range(2):
        total = np.zeros((groups, 3))
        for i in range(rows):
            b = i if direction == 0 else rows - 1 - i
            g = group[b]
            for k in range(3):
                out[k, b] += total[g, k]
            if scored[b]:
                total[g, 0] += 1.0
                total[g, 1] += z[b]
                total[g, 2] += z[b] * z[b]


def _sums(code: IntArray, x: AnyArray, size: int) -> FloatArray:
    return np.bincount(code, x, size).astype(np.float64)
