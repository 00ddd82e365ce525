"""Group means shrunk toward the mean of the other prompts of the step."""

from __future__ import annotations

import numpy as np

from kernadv.baselines._base import NOTHING, LinearBaseline, LinearValues, SideInformation, reciprocal
from kernadv.groups import Groups
from kernadv.typing import FloatArray, IntArray


class _Others:
    """Means over the other prompts of the step, for each group."""

    def __init__(self, groups: Groups) -> None:
        _, tick = np.unique(groups.step, return_inverse=True)
        self._tick: IntArray = tick
        self.count = self.sum(np.ones(len(tick)))

    def sum(self, x: FloatArray) -> FloatArray:
        """Sum of x over the step's other groups."""
        return np.asarray(np.bincount(self._tick, x)[self._tick] - x)

    def mean(self, x: FloatArray, used: FloatArray | None = None) -> FloatArray:
        """Mean of x over the step's other groups with ``used`` 1; 0 without any."""
        count = self.count if used is None else self.sum(used)
        return np.asarray(self.sum(x if used is None else np.where(used > 0, x, 0.0)) / np.maximum(count, 1.0))


class JamesStein(LinearBaseline):
    """``V^(g) = (1 - lambda) q^(-g) + lambda qbar``, prompt left out of qbar and of lambda.

    With the group means q_k of m traces and sample variances s_k^2 of the step's other prompts: v = mean s_k^2 / m,
    s = mean (q_k - qbar)^2 and ``lambda = v / (v + s + 1e-6)``.  As s is the variance of noisy means it contains v itself:
    the shrinkage is weaker than the best.

    This is the factor of the authors' code; the paper's formula has it times (n - 1) / n, with n prompts a step.

    References
    ----------
    JSPO, arXiv 2511.03710, and the authors' code, JSPO-Official ``core_algos.py``.

    Examples
    --------
    >>> from kernadv.baselines.shrinkage import JamesStein
    >>> ids, rewards = ["a", "a", "b", "b", "c", "c"], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    >>> JamesStein().online().values(ids, rewards, step=1).value.round(2)  # of "a" 0 and 1, drawn toward 0.75
    array([0.5 , 0.83, 0.5 , 0.83, 0.5 , 0.5 ])
    """

    name = "jspo"
    title = "James-Stein (JSPO)"
    min_group = 2
    #: Added to the denominator, as published.
    eps = 1e-6

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Shrink every step by itself; the plain leave-one-out mean where a step has one prompt."""
        others, q = _Others(groups), groups.s / groups.n
        level = others.mean(q)
        v = others.mean(groups.noise / groups.n, (groups.n > 1).astype(np.float64))
        s = np.maximum(others.mean(q * q) - level**2, 0.0)
        share = v / (v + s + self.eps)
        return LinearValues(share * level, (1.0 - share) * reciprocal(groups.n - 1), np.zeros(len(q)))


class EmpiricalBayes(LinearBaseline):
    """`JamesStein` with the noise subtracted, and the variance of the leave-one-out mean:

    ``lambda = v / (v + tau^2)``, v = mean s_k^2 / (G - 1), tau^2 = max(0, s - mean s_k^2 / m).  At G = 1 it is the mean
    of the step's other prompts.

    References
    ----------
    Efron and Morris (1975), Data analysis using Stein's estimator and its generalizations, JASA 70, for the moments.

    Examples
    --------
    >>> from kernadv.baselines.shrinkage import EmpiricalBayes
    >>> online = EmpiricalBayes().online()
    >>> online.values(["a", "b", "c"], [1.0, 0.0, 1.0], step=1).value  # single traces: the mean of the other prompts
    array([0.5, 1. , 0.5])
    """

    name = "eb_shrink"
    title = "empirical Bayes within the step"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Shrink every step by itself; the plain leave-one-out mean where a step has one prompt."""
        others, q = _Others(groups), groups.s / groups.n
        several = (groups.n > 1).astype(np.float64)
        level = others.mean(q)
        noise = others.mean(groups.noise, several)
        spread = np.maximum(others.mean(q * q) - level**2, 0.0) * (others.count / np.maximum(others.count - 1.0, 1.0))
        between = np.maximum(spread - others.mean(groups.noise / groups.n, several), 0.0)
        rest = groups.n - 1.0
        v = noise / np.maximum(rest, 1.0)
        share = np.where(rest > 0, v / np.where(v + between > 0, v + between, 1.0), 1.0)
        share = np.where(others.count > 0, share, np.where(rest > 0, 0.0, np.nan))
        return LinearValues(share * level, (1.0 - share) / np.maximum(rest, 1.0), np.zeros(len(q)))


BASELINES = (JamesStein(), EmpiricalBayes())
