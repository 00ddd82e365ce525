"""Kernelized Advantage Estimation: the prompt's past rewards, smoothed."""

from __future__ import annotations

import numpy as np

from kernadv import moments
from kernadv._typing import FloatArray
from kernadv.baselines._base import Baseline, LinearValues, ValueEstimator, per_step
from kernadv.clock import Bandwidth, Relative
from kernadv.estimator import KernelValueEstimator
from kernadv.groups import Groups
from kernadv.kernels import Kernel, get
from kernadv.moments import Sample, Windows
from kernadv.smoothers.nadaraya_watson import UNDERFLOW


class KAE(Baseline):
    """Nadaraya-Watson over the prompt's earlier steps, with the other traces of the group at K(0) = 1.

    Where neither exists the mean of the step's other prompts stands in, as in `KernelValueEstimator.advantages`; the
    estimator's `values` leave such rows undefined.

    Parameters
    ----------
    bandwidth : Bandwidth
    kernel : str or Kernel

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3.
    """

    def __init__(self, bandwidth: Bandwidth, kernel: str | Kernel = "triangular") -> None:
        self.bandwidth = bandwidth
        self.kernel = get(kernel)
        self.name = f"kae {bandwidth.label}"
        self.title = f"KAE {self.kernel.name}, {bandwidth.label}"

    def replay(self, groups: Groups) -> LinearValues:
        """Smooth every group's past; `groups` is sorted by prompt and step."""
        count = len(groups.step)
        first = np.ones(count, dtype=bool)
        first[1:] = groups.prompt[1:] != groups.prompt[:-1]
        start = np.maximum.accumulate(np.where(first, np.arange(count), 0))
        past = Sample(start, np.arange(count) - start, groups.step, groups.n.astype(np.float64), groups.s, groups.ss)
        windows = Windows.of([self.bandwidth], self.kernel, past, groups.step)
        backend = moments.select().backend
        m = backend.ragged_moments(past, windows, self.kernel)
        total = np.asarray(m.s0)[:, 0] + groups.n - 1.0
        defined = total > UNDERFLOW
        gain = np.where(defined, 1.0 / np.where(defined, total, 1.0), 0.0)
        level = np.where(defined, np.asarray(m.t0)[:, 0] * gain, _mean_of_other_prompts(groups))
        return LinearValues(level, gain, np.zeros(count))

    def online(self) -> ValueEstimator:
        """The estimator of a training loop."""
        return KernelValueEstimator(self.bandwidth, self.kernel)


def _mean_of_other_prompts(groups: Groups) -> FloatArray:
    """Mean reward of the step's other prompts; without any, of all earlier steps; 0 at the very first.  # (N,)"""
    tick, n, s = per_step(groups)
    others = n[tick] - groups.n
    before_n, before_s = np.cumsum(n) - n, np.cumsum(s) - s
    before = np.where(before_n > 0, before_s / np.maximum(before_n, 1.0), 0.0)[tick]
    return np.where(others > 0, (s[tick] - groups.s) / np.maximum(others, 1.0), before)


BASELINES = (KAE(Relative(0.5)),)
