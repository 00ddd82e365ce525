"""The default estimator of this package: filters of the prompt's past, and what the prompts share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.baselines._base import (
    NOTHING,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    Traces,
    ValueEstimator,
)
from kernadv.baselines.kae import Filled
from kernadv.estimator import KernelValueEstimator
from kernadv.groups import Groups, check_groups
from kernadv.ids import Id
from kernadv.pooling import GroupSums, Pool, Pooling, Query, offline_features
from kernadv.pooling.features import pass_rate_logit
from kernadv.typing import BoolArray, FloatArray


class PooledKernel(LinearBaseline):
    """`KernelValueEstimator` without a bandwidth: each filter says p, worth nu rollouts of today's policy, and

        V^(g) = sum over the filters of w (nu p + sum of the others' rewards) / (nu + G - 1).

    Parameters
    ----------
    pooling : Pooling, optional
    features : bool
        Read `SideInformation.features` for the prior mean.
    offline : bool
        Read the pass rates of `SideInformation.offline` as a feature.
    name : str, optional

    Examples
    --------
    >>> from kernadv.baselines.pooled import PooledKernel
    >>> online = PooledKernel().online()
    >>> online.observe(["a"] * 4 + ["b"] * 4, [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], step=1)
    >>> a, b, c = online.values(["a", "b", "c"], [1.0, 1.0, 1.0], step=2).value
    >>> bool(a < c < b)  # one trace each; "c" is new
    True
    """

    def __init__(
        self,
        pooling: Pooling | None = None,
        *,
        features: bool = False,
        offline: bool = False,
        name: str | None = None,
    ) -> None:
        self.pooling = pooling or Pooling()
        self.features = features
        self.offline_rollouts = 8 if offline else 0
        extra = f"{' + features' if features else ''}{' + offline' if offline else ''}"
        self.name = name or f"kernadv{extra}"
        self.title = f"kernadv, pooled{extra}"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Run the pool over the steps of a log; `groups` is sorted by prompt and step."""
        check_groups(groups)
        given = self._features(groups, side)
        pool = Pool(self.pooling, 0 if given is None else given.shape[1])
        notes, newest = np.zeros((int(groups.prompt[-1]) + 1, pool.width)), np.zeros(int(groups.prompt[-1]) + 1)
        order = np.argsort(groups.step, kind="stable")
        in_time, out = groups.take(order), np.empty((2, len(order)))
        limits = _limits(groups, None if side.traces is None else self.check_traces(groups, side))
        low, high = (limit[order] for limit in limits)
        given = None if given is None else given[order]
        for begin, end in pairwise(np.flatnonzero(np.diff(in_time.step, prepend=-1, append=-1)).tolist()):
            rows = slice(begin, end)
            here, step = in_time.take(rows), int(in_time.step[begin])
            last = newest[here.prompt]
            gap = np.where(last > 0, step - last, 0.0)
            batch = GroupSums.of(here)._replace(prompt=np.arange(end - begin))  # each another prompt
            features = None if given is None else given[rows]
            query = Query(batch, last > 0, notes[here.prompt], gap, low[rows], high[rows], step, features=features)
            forecast = pool.forecast(query)
            out[:, rows] = pool.linear(forecast, here.n)
            notes[here.prompt] = pool.learn(query, forecast)
            newest[here.prompt] = step
        level, gain = out[:, np.argsort(order)]
        return LinearValues(level, gain, np.zeros(len(order)))

    def _features(self, groups: Groups, side: SideInformation) -> FloatArray | None:
        """What is known of each group's prompt beside its rewards.  # (N, D)"""
        columns = []
        if self.features:
            if side.features is None:
                raise ArgumentError(f"{self.name} reads features: pass SideInformation(features=...), one row a prompt")
            columns.append(side.features[groups.prompt])
        if self.offline_rollouts:
            rate, count = self.offline_mean(groups, side)
            columns.append(pass_rate_logit(rate, count)[:, None])
        return np.concatenate(columns, axis=1) if columns else None

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """The estimator of a training loop."""
        if self.features:
            raise ArgumentError(f"{self.name} needs features: use KernelValueEstimator(features=...)")
        known = self.check_offline(offline)
        features = None
        if self.offline_rollouts and known is not None:
            total: Mapping[Id, float]
            total = known.total if isinstance(known.total, Mapping) else dict(enumerate(known.total.tolist()))
            rates = {prompt: total[prompt] / known.rollouts for prompt in total}
            features = offline_features(list(rates), list(rates.values()), known.rollouts)
        return Filled(KernelValueEstimator(pooling=self.pooling, features=features))


def _limits(groups: Groups, traces: Traces | None) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest reward of each group: from the traces, or from the sums, where exact for rewards 0 and 1 only;
    elsewhere the bounds then are the group's mean."""
    if traces is not None:
        z, start = traces.z, np.cumsum(groups.n) - groups.n
        return np.minimum.reduceat(z, start), np.maximum.reduceat(z, start)
    mean = groups.s / np.maximum(groups.n, 1)
    unit: BoolArray = np.abs(groups.ss - groups.s) <= 1e-9 * np.maximum(groups.ss, 1.0)
    low = np.where(unit, np.where(groups.s < groups.n, 0.0, 1.0), mean)
    high = np.where(unit, np.where(groups.s > 0, 1.0, 0.0), mean)
    return low, high


BASELINES = (PooledKernel(), PooledKernel(offline=True))
