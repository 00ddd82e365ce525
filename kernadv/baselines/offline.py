"""Values from rollouts sampled before training."""

from __future__ import annotations

import math

import numpy as np

from kernadv._errors import check_positive
from kernadv.baselines._base import NOTHING, Baseline, LinearBaseline, LinearValues, SideInformation, TraceValues
from kernadv.groups import Groups
from kernadv.typing import FloatArray


class ReferenceMean(LinearBaseline):
    """Mean reward of the offline rollouts; it grows stale as the policy moves.

    Reviews of the paper speak of refreshing it now and then, at the cost of more rollouts; here it is never refreshed.

    References
    ----------
    PVPO, arXiv 2508.21104.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.offline import ReferenceMean
    >>> online = ReferenceMean().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "b"], [1.0, 0.0], step=1).value
    array([0.75, 0.25])
    """

    name = "pvpo"
    title = "mean of offline rollouts (PVPO)"
    offline_rollouts = 8

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The offline mean."""
        mean, _ = self.offline_mean(groups, side)
        zero = np.zeros(len(mean))
        return LinearValues(mean, zero, zero)


class OptimalValue(LinearBaseline):
    """``V = beta log mean exp(r / beta)`` over the offline rollouts: the optimal policy's value under a KL penalty beta.

    Rewards are 0 or 1 here.  TRL drops, by default, prompts whose offline rollouts are all wrong; here they stay, V = 0.

    Parameters
    ----------
    beta : float
        Published: 0.5; inf stands for the plain mean.

    Raises
    ------
    ArgumentError
        If beta is not positive.

    References
    ----------
    A*-PO, arXiv 2505.20686; TRL, ``experimental/a2po``.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.offline import OptimalValue
    >>> online = OptimalValue().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "b"], [1.0, 0.0], step=1).value.round(2)  # above the means, 0.75 and 0.25
    array([0.88, 0.48])
    """

    offline_rollouts = 8

    def __init__(self, beta: float = 0.5) -> None:
        self.beta = check_positive(beta, "beta", "the weight of the KL penalty, e.g. 0.5", allow_inf=True)
        self.name = "a_star" + (f" beta={beta:g}" if beta != 0.5 else "")
        self.title = f"optimal value from offline rollouts (A*-PO), beta={beta:g}"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The soft maximum of the offline rewards."""
        mean, _ = self.offline_mean(groups, side)
        zero = np.zeros(len(mean))
        return LinearValues(soft_value(mean, self.beta), zero, zero)


class PriorFusion(Baseline):
    """``V = w q + (1 - w) V0``, ``w = D / (D + s^2 / G)``, ``D = max(0, (q - V0)^2 - s^2 / G)``; s^2 = 1/4 for 0/1 rewards.

    V0 is published as the output of a trained model; here it is the offline pass rate (S0 + 1/2) / (n0 + 1).  The published
    rule that samples more traces until the gain is small is left out: it is about sampling, not about the value.

    Parameters
    ----------
    own : bool
        Keep the own reward in q, as published; else q^(-g) of G - 1 traces.
    noise : float
        s^2, variance of a reward; as published the most a 0/1 reward can have.

    Raises
    ------
    ArgumentError
        If the variance is not positive.

    References
    ----------
    V0.5, arXiv 2603.10848; read second hand.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.offline import PriorFusion
    >>> online = PriorFusion().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1).value.round(2)  # "b" leaves its prior
    array([0.72, 0.72, 0.83, 0.83])
    """

    offline_rollouts = 8
    needs_traces = True

    def __init__(self, own: bool = True, noise: float = 0.25) -> None:
        self.uses_own_reward = own
        self.noise = check_positive(noise, "noise", "the variance of a reward, e.g. 0.25")
        self.name = ("v05_fuse" if own else "v05_fuse_loo") + (f" noise={noise:g}" if noise != 0.25 else "")
        self.title = f"fused prior and group mean, {'own reward' if own else 'leave-one-out'} (V0.5)"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """Fuse every group's mean, or every trace's leave-one-out mean, with the prior."""
        z = self.check_traces(groups, side).z
        mean, rollouts = self.offline_mean(groups, side)
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        prior = ((rollouts * mean + 0.5) / (rollouts + 1.0))[group]
        count = groups.n[group] - (not self.uses_own_reward)
        q = (groups.s[group] - (0.0 if self.uses_own_reward else z)) / np.maximum(count, 1)
        noise = self.noise / np.maximum(count, 1)
        apart = np.where(count > 0, np.maximum((q - prior) ** 2 - noise, 0.0), 0.0)
        return TraceValues(prior + apart / (apart + noise) * (q - prior), z)


def soft_value(mean: FloatArray, beta: float) -> FloatArray:
    """``beta log mean exp(r / beta)`` of 0/1 rewards with that mean; the mean itself for beta = inf.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines.offline import soft_value
    >>> means = np.array([0.0, 0.5, 1.0])
    >>> soft_value(means, beta=0.5).round(2), soft_value(means, beta=np.inf)
    (array([0.  , 0.72, 1.  ]), array([0. , 0.5, 1. ]))
    """
    return mean if math.isinf(beta) else np.asarray(beta * np.log1p(mean * np.expm1(1.0 / beta)))


BASELINES = (ReferenceMean(), OptimalValue(), PriorFusion(), PriorFusion(own=False))

TUNED = {
    "a_star": tuple(OptimalValue(beta) for beta in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)),
    "v05_fuse_loo": tuple(
        PriorFusion(own=False, noise=noise) for noise in (0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0)
    ),
}
