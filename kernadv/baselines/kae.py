"""Kernelized Advantage Estimation: the prompt's past rewards, smoothed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernadv import smoothers
from kernadv._errors import ArgumentTypeError
from kernadv.baselines._base import (
    NOTHING,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    ValueEstimator,
    per_step,
)
from kernadv.batch import read_batch
from kernadv.clock import Bandwidth, Relative, Steps, Visits
from kernadv.estimator import KernelValueEstimator
from kernadv.groups import Groups, check_groups
from kernadv.kernels import Kernel, get
from kernadv.moments import Histories, Windows
from kernadv.moments.moving import moments_of_the_past
from kernadv.smoothers import RANK, UNDERFLOW, Estimate
from kernadv.typing import ArrayRewards, FloatArray


class KAE(LinearBaseline):
    """A smoother over the prompt's earlier steps, with the other traces of the group at K(0) = 1.

    Where neither exists the mean of the step's other prompts stands in, as in `KernelValueEstimator.advantages`.

    Parameters
    ----------
    bandwidth : Bandwidth
        `Relative(h)` as in the paper, `Steps(w)`, or `Visits(k)`: nearest neighbours in time.
    kernel : str or Kernel
    smoother : {"nadaraya_watson", "local_linear"}
    name : str, optional
        Key in reports; default: "kae" and the bandwidth.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If there is no such kernel or smoother, or the bandwidth is none.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3.

    Examples
    --------
    >>> from kernadv.baselines.kae import KAE
    >>> from kernadv.clock import Steps
    >>> online = KAE(Steps(2)).online()
    >>> online.observe(["a", "a"], [1.0, 0.0], step=1)
    >>> online.values(["a", "a"], [1.0, 1.0], step=2).value  # the earlier traces count half: (1 + 1/2) / (1 + 2/2)
    array([0.75, 0.75])
    """

    def __init__(
        self,
        bandwidth: Bandwidth,
        kernel: str | Kernel = "triangular",
        smoother: str = "nadaraya_watson",
        name: str | None = None,
    ) -> None:
        if not isinstance(bandwidth, Bandwidth):
            raise ArgumentTypeError(f"bandwidth must be Relative(h), Steps(w) or Visits(k), got {bandwidth!r}")
        self.bandwidth = bandwidth
        self.kernel = get(kernel)
        smoothers.get(smoother)  # an unknown name raises
        self.smoother = smoother
        self.name = name or f"kae {bandwidth.label}"
        line = "local linear " if smoother == "local_linear" else ""
        self.title = f"KAE {line}{self.kernel.name}, {bandwidth.label}"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Smooth every group's past; `groups` is sorted by prompt and step."""
        count = len(check_groups(groups).step)
        first = np.ones(count, dtype=bool)
        first[1:] = groups.prompt[1:] != groups.prompt[:-1]
        start = np.maximum.accumulate(np.where(first, np.arange(count), 0))
        past = Histories(start, np.arange(count) - start, groups.step, groups.n.astype(np.float64), groups.s, groups.ss)
        windows = Windows.of([self.bandwidth], self.kernel, past, groups.step)
        line = self.smoother == "local_linear"
        s, t = moments_of_the_past(past, windows, self.kernel, 1 if line else 0)
        total = s[0] + groups.n - 1.0
        defined = total > UNDERFLOW
        gain = np.where(defined, 1.0 / np.where(defined, total, 1.0), 0.0)
        level = t[0] * gain
        if not defined.all():
            level = np.where(defined, level, _mean_of_other_prompts(groups))
        if line:
            det = total * s[2] - s[1] * s[1]
            spread = det > RANK * total * s[2]
            det = np.where(spread, det, 1.0)
            level = np.where(spread, (s[2] * t[0] - s[1] * t[1]) / det, level)
            gain = np.where(spread, s[2] / det, gain)
        return LinearValues(level, gain, np.zeros(count))

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """`KernelValueEstimator`, with what stands in for undefined values filled in."""
        return Filled(KernelValueEstimator(self.bandwidth, self.kernel, smoother=self.smoother))


class Filled:
    """An estimator whose undefined values are the mean of the batch's other prompts.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.baselines.kae import Filled
    >>> from kernadv.clock import Steps
    >>> filled = Filled(KernelValueEstimator(Steps(2)))
    >>> filled.values(["a", "b"], [1.0, 0.0], step=1).value  # no past, no other trace: the reward of the other prompt
    array([0., 1.])
    >>> filled.observe(["a", "b"], [1.0, 0.0], step=1)
    >>> filled.values(["a", "b"], [1.0, 0.0], step=2).value
    array([1., 0.])
    """

    def __init__(self, estimator: KernelValueEstimator) -> None:
        self._estimator = estimator
        self._seen = np.zeros(2)  # count and sum of all rewards observed

    def values(self, prompt_ids: Any, rewards: ArrayRewards, step: Any) -> Estimate:
        """Value of each row.  Reads only."""
        batch = read_batch(prompt_ids, rewards, step)
        estimate = self._estimator.values(prompt_ids, rewards, step)
        defined = np.asarray(estimate.defined)
        value = batch.filled(np.asarray(estimate.value), defined, self._seen)
        return estimate._replace(value=batch.restore(value), defined=batch.restore(np.ones_like(defined)))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Remember a batch."""
        self._estimator.observe(prompt_ids, rewards, step)
        z = np.asarray(rewards, np.float64)
        self._seen += np.count_nonzero(~np.isnan(z)), np.nansum(z)


def _mean_of_other_prompts(groups: Groups) -> FloatArray:
    """Mean reward of the step's other prompts; without any, of all earlier steps; 0 at the very first.  # (N,)"""
    tick, n, s = per_step(groups)
    others = n[tick] - groups.n
    before_n, before_s = np.cumsum(n) - n, np.cumsum(s) - s
    before = np.where(before_n > 0, before_s / np.maximum(before_n, 1.0), 0.0)[tick]
    return np.where(others > 0, (s[tick] - groups.s) / np.maximum(others, 1.0), before)


BASELINES = (
    KAE(Relative(0.5)),
    KAE(Steps(20)),
    KAE(Relative(0.1), "exponential", name="kae_exponential h=0.1"),
    KAE(Steps(10), "exponential", name="kae_exponential w=10"),
    KAE(Steps(20), smoother="local_linear", name="kae_local_linear w=20"),
    KAE(Visits(10), "uniform", name="knn_time k=10"),
)

_WINDOWS = (3, 5, 8, 12, 20, 35, 60, 120, math.inf)
_RELATIVE = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)
TUNED = {
    "kae_relative": tuple(KAE(Relative(h)) for h in _RELATIVE),
    "kae_exponential_relative": tuple(
        KAE(Relative(h / 2), "exponential", name=f"kae_exponential h={h / 2:g}") for h in _RELATIVE
    ),
    "kae_steps": tuple(KAE(Steps(w)) for w in _WINDOWS),
    "kae_exponential": tuple(KAE(Steps(w / 2), "exponential", name=f"kae_exponential w={w / 2:g}") for w in _WINDOWS),
    "kae_local_linear": tuple(
        KAE(Steps(w), smoother="local_linear", name=f"kae_local_linear w={w:g}") for w in _WINDOWS
    ),
    "knn_time": tuple(KAE(Visits(k), "uniform", name=f"knn_time k={k}") for k in (1, 2, 3, 5, 10, 15, 25, 40)),
}
