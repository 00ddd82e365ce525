"""The protocol of the value baselines.

A baseline gives a value to every trace of every group from the group itself, the other groups of its step and the past;
never from the future.  Most are linear in the rewards of their group: the value of trace g is

    V^(g) = level + gain * (S - Z^(g)) + own * Z^(g),

with S the sum of the group's rewards, and level, gain and own free of them.  Their squared errors follow from the sums of
each group, and a log of rewards can be replayed without its rows.  The others need the traces, and give one value a trace.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_count
from kernadv.batch import Batch, read_batch, sum_of_groupmates
from kernadv.groups import Groups
from kernadv.ids import Id
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray


class Traces(NamedTuple):
    """The R traces of N groups: those of the first group in the order they were sampled, then those of the second, ...

    Attributes
    ----------
    z : (R,) float64
        Rewards.
    weight : (R,) float64, optional
        A positive weight a trace, e.g. its response length.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines import Traces
    >>> traces = Traces(np.array([1.0, 0.0, 0.5, 0.25]))
    >>> traces.of_groups(np.array([2, 1, 1]), np.array([2, 0])).z  # of three groups the last and the first
    array([0.25, 1.  , 0.  ])
    """

    z: FloatArray
    weight: FloatArray | None = None

    def of_groups(self, n: IntArray, which: IntArray) -> Traces:
        """The traces of some of the groups, in that order.

        Parameters
        ----------
        n : (N,) int64
            Number of traces of every group.
        which : (M,) int64
            Index of each group.
        """
        size = n[which]
        rows = np.repeat((np.cumsum(n) - n)[which] - (np.cumsum(size) - size), size) + np.arange(size.sum())
        return Traces(self.z[rows], None if self.weight is None else self.weight[rows])


class Offline(NamedTuple):
    """Rollouts of every prompt sampled before training.

    Attributes
    ----------
    total : (P,) array, indexed as ``groups.prompt``; online a mapping from prompt id
        Sum of the rewards of the prompt's offline rollouts.
    rollouts : int
        Their number, at least 1.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> before = Offline({"a": 6.0, "b": 1.0}, rollouts=8)
    >>> before.total["a"] / before.rollouts
    0.75
    """

    total: AnyArray | Mapping[Id, float]
    rollouts: int


class SideInformation(NamedTuple):
    """What some baselines read beside the groups; None where it is not known.

    Attributes
    ----------
    traces : Traces, optional
    offline : Offline, optional
    features : (P, k) float64, optional
        Features of each prompt.
    value : (N,) float64, optional
        True value of each group.
    posterior : callable, optional
        Gives the `kernadv.simulation.Posterior` of the traces under the law they were drawn from.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines import SideInformation, Traces
    >>> side = SideInformation(traces=Traces(np.array([1.0, 0.0])))
    >>> side.offline is None, side.traces.z
    (True, array([1., 0.]))
    """

    traces: Traces | None = None
    offline: Offline | None = None
    features: FloatArray | None = None
    value: FloatArray | None = None
    posterior: Callable[[], Any] | None = None


#: No side information.
NOTHING = SideInformation()


class LinearValues(NamedTuple):
    """Values of all traces of N groups; `level` is NaN where the baseline is undefined.

    Attributes
    ----------
    level, gain, own : (N,) float64
        ``V^(g) = level + gain (S - Z^(g)) + own Z^(g)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines import LinearValues
    >>> from kernadv.groups import Groups
    >>> z = np.array([1.0, 0.0, 1.0])
    >>> groups = Groups(np.array([0]), np.array([1]), np.array([3]), np.array([2.0]), np.array([2.0]))
    >>> rloo = LinearValues(np.zeros(1), np.full(1, 0.5), np.zeros(1))  # half of the sum of the two others
    >>> rloo.at(groups, z), rloo.total(groups)
    (array([0.5, 1. , 0.5]), array([2.]))
    >>> np.isclose(rloo.squared_error(groups), ((rloo.at(groups, z) - z) ** 2).sum())
    array([ True])
    >>> rloo.true_squared_error(groups, np.array([0.6])).round(2), rloo.take([0]).gain
    (array([0.18]), array([0.5]))
    """

    level: FloatArray
    gain: FloatArray
    own: FloatArray

    def take(self, rows: AnyArray) -> LinearValues:
        """The values of an index array or mask of groups."""
        return LinearValues(self.level[rows], self.gain[rows], self.own[rows])

    def at(self, groups: Groups, z: FloatArray) -> FloatArray:
        """The value of each trace; the rewards z in the order of `Traces`.  # (R,)"""
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        if len(z) != len(group):
            raise ArgumentError(f"the groups have {len(group)} traces, got {len(z)} rewards")
        others = sum_of_groupmates(group, z, np.ones(len(z), bool), len(groups.n))[1]
        return np.asarray(self.level[group] + self.gain[group] * others + self.own[group] * z)

    def squared_error(self, groups: Groups) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - Z^(g))^2``.  # (N,)"""
        a = self.level + self.gain * groups.s
        return _sum_of_squares(a, 1.0 + self.gain - self.own, groups)

    def true_squared_error(self, groups: Groups, value: FloatArray) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - V)^2`` where the true `value` is known.  # (N,)"""
        a = self.level + self.gain * groups.s - value
        return _sum_of_squares(a, self.gain - self.own, groups)

    def total(self, groups: Groups) -> FloatArray:
        """Sum of the values of each group's traces.  # (N,)"""
        return np.asarray(groups.n * (self.level + self.gain * groups.s) + (self.own - self.gain) * groups.s)


class TraceValues(NamedTuple):
    """Values of all traces of N groups, one by one; NaN where the baseline is undefined.

    Attributes
    ----------
    value, z : (R,) float64
        Values and rewards in the order of `Traces`.
    variance : (R,) float64, optional
        Variance of the values where they were drawn by chance beside the data: what it adds to squared errors is taken off.
    own : (R,) float64, optional
        Weight of the own reward in the value, free of the rewards of its step.  None: the value does not use the own reward,
        or not linearly.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines import TraceValues
    >>> from kernadv.groups import Groups
    >>> groups = Groups(np.array([0]), np.array([1]), np.array([2]), np.array([1.0]), np.array([1.0]))
    >>> z = np.array([1.0, 0.0])
    >>> values = TraceValues(np.array([0.25, 0.75]), z)
    >>> values.at(groups, z), values.total(groups)
    (array([0.25, 0.75]), array([1.]))
    >>> values.squared_error(groups), values.true_squared_error(groups, np.array([0.5]))
    (array([1.125]), array([0.125]))
    """

    value: FloatArray
    z: FloatArray
    variance: FloatArray | None = None
    own: FloatArray | None = None

    def at(self, groups: Groups, z: FloatArray) -> FloatArray:
        """The value of each trace.  # (R,)"""
        return self.value

    def squared_error(self, groups: Groups) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - Z^(g))^2``.  # (N,)"""
        return _sum_by_group((self.value - self.z) ** 2 - self._chance, groups)

    def true_squared_error(self, groups: Groups, value: FloatArray) -> FloatArray:
        """Sum over the traces of each group of ``(V^(g) - V)^2`` where the true `value` is known.  # (N,)"""
        return _sum_by_group((self.value - np.repeat(value, groups.n)) ** 2 - self._chance, groups)

    def total(self, groups: Groups) -> FloatArray:
        """Sum of the values of each group's traces.  # (N,)"""
        return _sum_by_group(self.value, groups)

    @property
    def _chance(self) -> FloatArray | float:
        return 0.0 if self.variance is None else self.variance


Values = LinearValues | TraceValues


def _sum_of_squares(a: FloatArray, b: FloatArray, groups: Groups) -> FloatArray:
    """Sum over the traces of ``(a - b z)^2``, about the group's mean to keep the digits.  # (N,)"""
    mean = groups.s / np.maximum(groups.n, 1)
    spread = np.maximum(groups.ss - groups.s * mean, 0.0)
    return np.asarray(groups.n * (a - b * mean) ** 2 + b * b * spread)


def _sum_by_group(x: FloatArray, groups: Groups) -> FloatArray:
    return np.bincount(np.repeat(np.arange(len(groups.n)), groups.n), x, len(groups.n)).astype(np.float64)


@runtime_checkable
class ValueEstimator(Protocol):
    """What a training loop calls: `KernelValueEstimator` and every baseline's online form.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.baselines import ValueEstimator, discover
    >>> rloo = discover()["rloo"].online()
    >>> isinstance(rloo, ValueEstimator), isinstance(KernelValueEstimator(), ValueEstimator)
    (True, True)
    >>> rloo.observe(["a", "a"], [1.0, 0.0], step=1)
    >>> rloo.values(["a", "a"], [1.0, 0.0], step=2).value
    array([0., 1.])
    """

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
    uses_own_reward : bool
        The value of a trace depends on the trace's own reward: the policy gradient is biased.
    min_group : int
        Smallest group for which the baseline is defined.
    offline_rollouts : int
        Rollouts a prompt it needs before training, as published; 0: none.
    needs_traces, needs_weights, needs_truth : bool
        It reads the traces in the order they were sampled, their weights, the true values.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import simulate
    >>> from kernadv.baselines import Baseline, Offline, SideInformation, Traces, TraceValues
    >>> class Median(Baseline):
    ...     name, title, needs_traces, uses_own_reward = "median", "median of the group", True, True
    ...     def replay(self, groups, side=SideInformation()):
    ...         z = self.check_traces(groups, side).z
    ...         medians = [np.median(own) for own in np.split(z, np.cumsum(groups.n)[:-1])]
    ...         return TraceValues(np.repeat(medians, groups.n), z)
    >>> run = simulate("fast", "epochs", 4)
    >>> found = Median().replay(run.groups, SideInformation(traces=Traces(run.rewards.ravel())))
    >>> found.value[:8].tolist(), run.rewards[:2].tolist()
    ([0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0], [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]])
    >>> Median().online().values(["a"] * 3, [1.0, 0.0, 1.0], step=1).value
    array([1., 1., 1.])
    >>> side = SideInformation(offline=Offline(run.offline, run.offline_rollouts))
    >>> mean, rollouts = Median().offline_mean(run.groups, side)
    >>> Median().check_offline(None) is None, mean.shape, rollouts
    (True, (12800,), 8)
    """

    name: str
    title: str
    uses_own_reward: bool = False
    min_group: int = 1
    offline_rollouts: int = 0
    needs_traces: bool = False
    needs_weights: bool = False
    needs_truth: bool = False

    @abstractmethod
    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> Values:
        """Values of every group of a log, each from its own step and the past only.

        Parameters
        ----------
        groups : Groups
            Sorted by prompt and step.
        side : SideInformation

        Raises
        ------
        ArgumentError
            If the baseline needs something that `side` lacks, or holds in another form.
        """

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """The same baseline for a training loop; this form is for baselines without memory.

        Raises
        ------
        ArgumentError
            If the baseline needs offline rollouts and none are given, or needs the truth.
        """
        if self.needs_truth:
            raise ArgumentError(f"{self.name} reads true values, which no training loop knows; replay a simulation")
        self.check_offline(offline)
        return _WithoutMemory(self, offline)

    def check_offline(self, offline: Offline | None) -> Offline | None:
        """Return `offline`, or raise if it is needed and missing, or if it has no rollout."""
        if offline is None and self.offline_rollouts:
            raise ArgumentError(
                f"{self.name} needs rollouts of every prompt from before training; pass their sums and their number, "
                f"e.g. Offline(total, {self.offline_rollouts})"
            )
        if offline is not None:
            if not isinstance(offline, Offline):
                raise ArgumentTypeError(
                    f"offline rollouts must be given as Offline(total, rollouts), got {offline!r:.80}"
                )
            check_count(offline.rollouts, "Offline.rollouts")
        return offline

    def check_traces(self, groups: Groups, side: SideInformation) -> Traces:
        """Return the traces, or raise if they are missing or do not belong to the groups."""
        if side.traces is None:
            raise ArgumentError(f"{self.name} reads single traces: pass SideInformation(traces=Traces(z, weight))")
        if not isinstance(side.traces, Traces):
            raise ArgumentTypeError(f"the traces must be given as Traces(z, weight), got {side.traces!r:.80}")
        if len(side.traces.z) != int(groups.n.sum()):
            raise ArgumentError(f"the groups have {int(groups.n.sum())} traces, side.traces has {len(side.traces.z)}")
        return side.traces

    def offline_mean(self, groups: Groups, side: SideInformation) -> tuple[FloatArray, int]:
        """Mean reward of the offline rollouts of each group's prompt, and their number.  # (N,)"""
        offline = self.check_offline(side.offline)
        assert offline is not None
        return np.asarray(offline.total, np.float64)[groups.prompt] / offline.rollouts, offline.rollouts


class LinearBaseline(Baseline):
    """A baseline that is linear in the rewards of its group.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.baselines import LinearBaseline, discover
    >>> rloo = discover()["rloo"]
    >>> isinstance(rloo, LinearBaseline), rloo.replay(simulate("fast", "epochs", 4).groups).gain[:2].round(3)  # 1 / 3
    (True, array([0.333, 0.333]))
    """

    @abstractmethod
    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Values of every group of a log, each from its own step and the past only."""


class _WithoutMemory:
    """Values of a batch from the batch alone."""

    def __init__(self, baseline: Baseline, offline: Offline | None) -> None:
        self._baseline = baseline
        self._offline = offline

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None) -> Estimate:
        """Value of each row; undefined for rows without a reward."""
        batch = read_batch(prompt_ids, rewards, step)
        groups, traces, order = scored_groups(batch, weights)
        side = SideInformation(traces, offline_of(self._offline, batch.ids))
        return row_values(batch, order, self._baseline.replay(groups, side).at(groups, traces.z))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Nothing is remembered."""


def scored_groups(batch: Batch, weights: Any = None) -> tuple[Groups, Traces, IntArray]:
    """The groups of a batch with a scored trace, their traces, and the rows those are; prompts index ``batch.ids``."""
    order = np.argsort(batch.group, kind="stable")
    order = order[batch.scored[order]]
    weight = None if weights is None else np.asarray(weights, np.float64)[order]
    return batch.groups.take(batch.groups.n > 0), Traces(batch.z[order], weight), order


def row_values(batch: Batch, order: IntArray, value: FloatArray) -> Estimate:
    """Put values back into the rows of a batch; variance and n_eff are not known to these baselines and NaN."""
    rows = np.full(len(batch.z), np.nan)
    rows[order] = value
    unknown = np.full(len(rows), np.nan)
    defined: BoolArray = ~np.isnan(rows)
    return Estimate(*(batch.restore(part) for part in (rows, unknown, unknown, defined)))


def offline_of(offline: Offline | None, ids: list[Id]) -> Offline | None:
    """The offline rollouts of some prompts, in the order of `ids`."""
    if offline is None:
        return None
    if not isinstance(offline.total, (Mapping, Sequence, np.ndarray)) or isinstance(offline.total, str):
        raise ArgumentTypeError(
            f"Offline.total must be an array, or a mapping from prompt ids, got {offline.total!r:.80}"
        )
    known = offline.total if isinstance(offline.total, Mapping) else range(len(offline.total))
    missing = [i for i in ids if i not in known]
    if missing:
        raise ArgumentError(f"prompt {missing[0]!r} has no offline rollouts; every prompt of the run needs them")
    return Offline(np.array([offline.total[i] for i in ids], np.float64), offline.rollouts)


def centred(values: LinearValues, groups: Groups, own: bool) -> LinearValues:
    """The values of the groups of one step, plus the mean of what they leave of the rewards: ``V + mean(Z - V)``.

    The mean is over all traces of the step if `own`, else over those of the other prompts, whose values then must not hold
    rewards of this one's group; without any it is 0.
    """
    n, left = groups.n, groups.s - values.total(groups)
    total = left.sum(axis=-1, keepdims=True) - left
    if not own:
        return values._replace(level=values.level + total / np.maximum(n.sum() - n, 1))
    share = 1.0 / n.sum()
    slope = share * (1.0 - (n - 1.0) * values.gain - values.own)  # of the own group's part in its rewards
    level = values.level + share * (total - n * values.level)
    return LinearValues(level, values.gain + slope, values.own + slope)


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
