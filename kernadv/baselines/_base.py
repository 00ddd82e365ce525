"""The protocol of the value baselines.

Every baseline here is linear in the rewards of its group: the value of trace g is

    V^(g) = level + gain * (S - Z^(g)) + own * Z^(g),

with S the sum of the group's rewards, and level, gain and own free of them.  So its squared errors follow from the sums of
each group, and a log of rewards can be replayed without its rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import numpy as np

from kernadv._typing import AnyArray, FloatArray, IntArray
from kernadv.batch import read_batch
from kernadv.groups import Groups
from kernadv.smoothers import Estimate


class LinearValues(NamedTuple):
    """Values of all traces of N groups; `level` is NaN where the baseline is undefined.

    Attributes
    ----------
    level, gain, own : (N,) float64
        ``V^(g) = level + gain (S - Z^(g)) + own Z^(g)``.
    """

    level: FloatArray
    gain: FloatArray
    own: FloatArray

    def take(self, rows: AnyArray) -> LinearValues:
        """The values of an index array or mask of groups."""
        return LinearValues(self.level[rows], self.gain[rows], self.own[rows])

    def squared_error(self, groups: Groups) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - Z^(g))^2``.  # (N,)"""
        a = self.level + self.gain * groups.s
        return _sum_of_squares(a, 1.0 + self.gain - self.own, groups)

    def true_squared_error(self, groups: Groups, value: FloatArray) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - V)^2`` where the true `value` is known.  # (N,)"""
        a = self.level + self.gain * groups.s - value
        return _sum_of_squares(a, self.gain - self.own, groups)


def _sum_of_squares(a: FloatArray, b: FloatArray, groups: Groups) -> FloatArray:
    """Sum over the traces of ``(a - b z)^2``, about the group's mean to keep the digits.  # (N,)"""
    mean = groups.s / np.maximum(groups.n, 1)
    spread = np.maximum(groups.ss - groups.s * mean, 0.0)
    return np.asarray(groups.n * (a - b * mean) ** 2 + b * b * spread)


class ValueEstimator(Protocol):
    """What a training loop calls: `KernelValueEstimator` and every baseline's online form."""

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Value of each row; reads only."""

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Remember a batch."""


class Baseline(ABC):
    """A value baseline, named, that can be replayed over a log and run online.

    Attributes
    ----------
    name : str
        Key in reports and JSON.
    title : str
        What a person reads.
    """

    name: str
    title: str

    @abstractmethod
    def replay(self, groups: Groups) -> LinearValues:
        """Values of every group of a log, each from its own step and the past only."""

    def online(self) -> ValueEstimator:
        """The same baseline for a training loop; this form is for baselines without memory."""
        return _WithoutMemory(self)


class _WithoutMemory:
    """Values of a batch from the batch alone."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Value of each row; variance and n_eff are not known to these baselines and NaN."""
        batch = read_batch(prompt_ids, rewards, step)
        linear = self._baseline.replay(batch.groups).take(batch.group)
        own = np.where(batch.scored, linear.own * np.where(batch.scored, batch.z, 0.0), 0.0)
        value = linear.level + linear.gain * batch.others[1] + own
        unknown = np.full(len(value), np.nan)
        parts = Estimate(value, unknown, unknown, ~np.isnan(value))
        return Estimate(*(batch.restore(part) for part in parts))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Nothing is remembered."""


def per_step(groups: Groups) -> tuple[IntArray, FloatArray, FloatArray]:
    """Index of each group's step, and the count and sum of the rewards of each step."""
    clock, tick = np.unique(groups.step, return_inverse=True)
    n = np.bincount(tick, groups.n, len(clock)).astype(np.float64)
    s = np.bincount(tick, groups.s, len(clock)).astype(np.float64)
    return tick.astype(np.int64), n, s


def reciprocal(x: AnyArray) -> FloatArray:
    """1 / x, NaN where x is not positive."""
    positive = x > 0
    return np.where(positive, 1.0 / np.where(positive, x, 1.0), np.nan)
