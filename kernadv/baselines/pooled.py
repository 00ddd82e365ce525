"""The default estimator of this package: windows over the prompt's past, and what the prompts share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernadv import moments
from kernadv._errors import ArgumentError
from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.baselines._base import (
    NOTHING,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    Traces,
    ValueEstimator,
)
from kernadv.baselines._filled import Filled
from kernadv.estimator import KernelValueEstimator
from kernadv.groups import Groups, check_groups
from kernadv.ids import Id
from kernadv.kernels import Kernel
from kernadv.moments import Moments, Sample, Windows
from kernadv.pooling import Batched, LastVisit, Pool, Pooling, Windowed, offline_features
from kernadv.pooling.offline import pass_rate_logit


class PooledKernel(LinearBaseline):
    """`KernelValueEstimator` without a bandwidth: the past of each prompt is worth nu rollouts of today's policy,

        V^(g) = (nu p + sum of the others' rewards) / (nu + G - 1).

    Parameters
    ----------
    pooling : Pooling, optional
    features : bool
        Read `SideInformation.features` for the prior mean.
    offline : bool
        Read the pass rates of `SideInformation.offline` as a feature.
    name : str, optional
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
        count = len(check_groups(groups).step)
        value, strength = np.empty(count), np.empty(count)
        given = self._features(groups, side)
        pool = Pool(self.pooling, 0 if given is None else given.shape[1])
        sample, last = _pasts(groups)
        batch = Batched.of(groups)
        order = np.argsort(groups.step, kind="stable")
        clock, first = np.unique(groups.step[order], return_index=True)
        lows, highs = _limits(groups, None if side.traces is None else self.check_traces(groups, side))
        for tick, rows in enumerate(np.split(order, first[1:])):
            here, traces = self._windowed(sample, groups.step, rows), batch.take(rows)
            features = None if given is None else given[rows]
            forecast = pool.forecast(here, traces, features)
            value[rows], strength[rows] = pool.value(forecast), forecast.strength
            limits = lows[rows].min(), highs[rows].max()
            pool.learn(forecast, here, traces, last.take(rows), limits, int(clock[tick]), features)
        known = ~np.isnan(value)
        total = np.where(known, strength, 0.0) + groups.n - 1.0
        defined = total > 0
        gain = np.where(defined, 1.0 / np.where(defined, total, 1.0), 0.0)
        level = np.where(known & defined, strength * np.where(known, value, 0.0) * gain, 0.0)
        return LinearValues(level, gain, np.zeros(count))

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

    def _windowed(self, sample: Sample, step: IntArray, rows: IntArray) -> Windowed:
        """The windows of some groups; a step at a time, so that no array has a row for each group and window of the log."""
        kernel = self.pooling.kernel
        assert isinstance(kernel, Kernel)
        part = sample._replace(start=sample.start[rows], length=sample.length[rows])
        windows = Windows.of(self.pooling.bandwidths, kernel, part, step[rows])
        made = moments.select().backend.ragged_moments(part, windows, kernel)
        return Windowed.of(Moments(*map(np.asarray, made)))

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


def _pasts(groups: Groups) -> tuple[Sample, LastVisit]:
    """The earlier visits of each group's prompt, and the latest of them."""
    count = len(groups.step)
    first = np.ones(count, dtype=bool)
    first[1:] = groups.prompt[1:] != groups.prompt[:-1]
    start = np.maximum.accumulate(np.where(first, np.arange(count), 0))
    sample = Sample(start, np.arange(count) - start, groups.step, groups.n.astype(np.float64), groups.s, groups.ss)
    before = np.arange(count) - 1
    n = np.where(first, 0.0, sample.n[before])
    lag = np.where(first, 0, groups.step - groups.step[before]).astype(np.float64)
    return sample, LastVisit(lag, n, n, np.where(first, 0.0, groups.s[before]))


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
