"""Kalman filters of the value."""

from __future__ import annotations

import numpy as np

from kernadv._errors import check_positive
from kernadv.baselines._base import NOTHING, Baseline, LinearValues, Offline, SideInformation, TraceValues
from kernadv.baselines._recursive import Recursive, Setting, columns
from kernadv.groups import Groups
from kernadv.typing import FloatArray

#: Variances of KRPO's state step and of a reward, and its state before the first reward, as published.
STEP, REWARD, START, START_VARIANCE = 1e-5, 1e-2, 0.0, 1.0


class GroupFilter(Baseline):
    """A scalar Kalman filter run over the rewards of a group in the order of its traces, afresh for every group:

    ``P <- P + Q;  K = P / (P + R);  V^(g) = x <- x + K (Z^(g) - x);  P <- (1 - K) P``,

    from x = 0, P = 1, with Q = 1e-5, R = 1e-2.  The first gain is 0.99, so the first trace's advantage is about
    0.01 Z whatever its reward: the values depend on the order of the traces.

    References
    ----------
    KRPO, arXiv 2505.07527.

    Examples
    --------
    >>> from kernadv.baselines.kalman import GroupFilter
    >>> online = GroupFilter().online()
    >>> [online.values(["a", "a"], z, step=1).value.round(2) for z in ([1.0, 0.0], [0.0, 1.0])]  # the order matters
    [array([0.99, 0.5 ]), array([0. , 0.5])]
    """

    name = "krpo_paper"
    title = "Kalman filter along the group, own reward (KRPO)"
    uses_own_reward = True
    needs_traces = True

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """Filter every group."""
        z = self.check_traces(groups, side).z
        start = np.cumsum(groups.n) - groups.n
        value, own = np.empty(len(z)), np.empty(len(z))
        state, variance = np.full(len(groups.n), START), START_VARIANCE
        for place in range(int(groups.n.max(initial=0))):
            long = groups.n > place
            gain = (variance + STEP) / (variance + STEP + REWARD)
            variance = (1.0 - gain) * (variance + STEP)
            row = start[long] + place
            state[long] += gain * (z[row] - state[long])
            value[row], own[row] = state[long], gain
        return TraceValues(value, z, own=own)


class BatchFilter(Recursive):
    """One filter for the run, whose observation at a step is the batch mean; the same value for the whole batch.

    KRPO's filter and constants, read as a filter over time: nobody published it.

    Parameters
    ----------
    own : bool
        The filtered state with the whole batch in it; else the batch without the own trace.
    step, noise : float
        Q and R, variances of the state's step and of a batch mean.

    Raises
    ------
    ArgumentError
        If a variance is not positive.

    References
    ----------
    KRPO, arXiv 2505.07527.

    Examples
    --------
    >>> from kernadv.baselines.kalman import BatchFilter
    >>> online = BatchFilter().online()
    >>> online.observe(["a", "a"], [1.0, 1.0], step=1)
    >>> online.values(["a", "b"], [0.0, 0.0], step=2).value.round(2)  # between the first batch and this one
    array([0.5, 0.5])
    """

    shared = (START, START_VARIANCE)
    settings = ("step", "noise")

    def __init__(self, own: bool = True, step: float = STEP, noise: float = REWARD) -> None:
        self.uses_own_reward = own
        self.step: Setting = check_positive(step, "step", "a variance, e.g. 1e-5")
        self.noise: Setting = check_positive(noise, "noise", "a variance, e.g. 1e-2")
        changed = (f" Q={step:g}" if step != STEP else "") + (f" R={noise:g}" if noise != REWARD else "")
        self.name = ("krpo_batch" if own else "krpo_batch_loo") + changed
        self.title = f"Kalman filter of the batch mean, {'own reward' if own else 'leave-one-out'} (after KRPO)"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """Nothing is remembered of single prompts."""
        return np.empty((prompts, 0))

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """The filtered state."""
        state, variance = shared
        gain = (variance + self.step) / (variance + self.step + self.noise)
        n, s = int(groups.n.sum()), groups.s.sum()
        used = n - (not self.uses_own_reward)
        gain = gain if used else 0.0
        share = gain / np.full(len(groups.n), max(used, 1))
        level = (1.0 - gain) * state + share * (s - groups.s)
        return LinearValues(level, share, share if self.uses_own_reward else np.zeros(share.shape))

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Filter the batch mean."""
        state, variance = shared
        gain = (variance + self.step) / (variance + self.step + self.noise)
        mean = groups.s.sum() / groups.n.sum()
        return memory, np.array([state + gain * (mean - state), (1.0 - gain) * (variance + self.step)])


class LocalLevel(Recursive):
    """A local-level model of every prompt: V moves as a random walk in the steps, 0/1 rewards are seen with noise.

    ``P <- P + Q lag;  V^(g) = (R x + P (S - Z^(g))) / (R + (G - 1) P)``, with R = x (1 - x) - P, the expected variance of a
    reward; a new prompt starts at the mean of all earlier rewards, with variance `spread`.

    Parameters
    ----------
    drift : float
        Q, variance of the step of the value per training step.
    spread : float
        Variance of a new prompt's value.

    Raises
    ------
    ArgumentError
        If a variance is not positive.

    References
    ----------
    Harvey (1989), Forecasting, Structural Time Series Models and the Kalman Filter, section 2.3.

    Examples
    --------
    >>> from kernadv.baselines.kalman import LocalLevel
    >>> online = LocalLevel().online()
    >>> online.observe(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1)
    >>> [online.values(["a", "a"], [1.0, 1.0], step=step).value.round(2) for step in (2, 200)]  # the past fades
    [array([0.56, 0.56]), array([0.71, 0.71])]
    """

    shared = (0.0, 0.0)  # count and sum of all rewards
    settings = ("drift", "spread")
    #: Least variance of a reward.
    floor = 0.02

    def __init__(self, drift: float = 4e-4, spread: float = 0.1) -> None:
        self.drift: Setting = check_positive(drift, "drift", "a variance per step, e.g. 4e-4")
        self.spread: Setting = check_positive(spread, "spread", "a variance of values, e.g. 0.1")
        changed = (f" Q={drift:g}" if drift != 4e-4 else "") + (f" spread={spread:g}" if spread != 0.1 else "")
        self.name = f"local_level{changed}"
        self.title = f"local level (Kalman), Q={drift:g}, spread {spread:g}"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """Mean, variance and step of the last visit (0: none) of each prompt."""
        return np.zeros((prompts, 3))

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Posterior mean after the other traces of the group."""
        x, variance, noise = self._predict(memory, shared, groups)
        gain = variance / (noise + (groups.n - 1.0) * variance)
        return LinearValues(x * (1.0 - (groups.n - 1.0) * gain), gain, np.zeros(x.shape))

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and variance after the group."""
        x, variance, noise = self._predict(memory, shared, groups)
        gain = variance / (noise + groups.n * variance)
        after = columns(x + gain * (groups.s - groups.n * x), gain * noise, groups.step)
        return after, shared + np.array([groups.n.sum(), groups.s.sum()])

    def _predict(
        self, memory: FloatArray, shared: FloatArray, groups: Groups
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean and variance before the group, and the variance of a reward."""
        mean, variance, last = memory[..., 0], memory[..., 1], memory[..., 2]
        new = last == 0
        if shared[0]:
            prior = shared[1] / shared[0]
        else:
            prior = (groups.s.sum() - groups.s) / np.maximum(groups.n.sum() - groups.n, 1)
        x = np.where(new, prior, mean)
        variance = np.where(new, self.spread, variance + self.drift * (groups.step - last))
        return x, variance, np.maximum(x * (1.0 - x) - variance, self.floor)


BASELINES = (GroupFilter(), BatchFilter(), BatchFilter(own=False), LocalLevel())

TUNED = {
    "krpo_batch_loo": tuple(BatchFilter(own=False, step=q) for q in (1e-6, 1e-5, 1e-4, 4e-4, 1e-3, 4e-3, 1e-2, 1e-1)),
    "local_level": tuple(
        LocalLevel(drift, spread)
        for drift in (1e-6, 2e-5, 1e-4, 2e-4, 4e-4, 8e-4, 2e-3, 8e-3, 3e-2)
        for spread in (0.03, 0.1, 0.2)
    ),
}
