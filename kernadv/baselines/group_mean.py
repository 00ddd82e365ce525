"""Means of the traces of one prompt at one step."""

from __future__ import annotations

import math

import numpy as np

from kernadv._errors import ArgumentError, check_range
from kernadv.baselines._base import (
    NOTHING,
    Baseline,
    LinearBaseline,
    LinearValues,
    SideInformation,
    TraceValues,
    reciprocal,
)
from kernadv.groups import Groups
from kernadv.typing import FloatArray


class GroupMean(LinearBaseline):
    """``V = S / G``, with the own reward in it, as in GRPO.

    At G = 1 every advantage is 0.  verl sets V = 0 there, so that the advantage is the reward.

    References
    ----------
    GRPO, arXiv 2402.03300; Dr. GRPO, arXiv 2503.20783.

    Examples
    --------
    >>> from kernadv.baselines.group_mean import GroupMean
    >>> GroupMean().online().values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1).value
    array([0.5, 0.5, 1. , 1. ])
    """

    name = "group_mean"
    title = "group mean, own reward (GRPO)"
    uses_own_reward = True

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The mean of the group."""
        share = reciprocal(groups.n)
        return LinearValues(0.0 * share, share, share)


class LeaveOneOutMean(LinearBaseline):
    """``V^(g) = (S - Z^(g)) / (G - 1)``; undefined for a single trace, where verl's ``rloo`` sets V = 0.

    References
    ----------
    RLOO, arXiv 2402.14740.

    Examples
    --------
    >>> from kernadv.baselines.group_mean import LeaveOneOutMean
    >>> LeaveOneOutMean().online().values(["a", "a", "a", "b"], [1.0, 0.0, 1.0, 1.0], step=1).value
    array([0.5, 1. , 0.5, nan])
    """

    name = "rloo"
    title = "leave-one-out group mean (RLOO)"
    min_group = 2

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The mean of the other traces of the group."""
        share = reciprocal(groups.n - 1)
        return LinearValues(0.0 * share, share, np.zeros(len(share)))


class WeightedMean(Baseline):
    """``V = sum_g L_g Z_g / sum_g L_g`` over the group, L the response lengths (the traces' weights).

    Optimal if the squared norm of a trace's score is proportional to its length.  At G = 1 the published form is the own
    reward; verl sets V = 0 there.

    Parameters
    ----------
    own : bool
        Keep the own reward, as published; else the weighted mean of the other traces.

    References
    ----------
    OPO, arXiv 2505.23585.

    Examples
    --------
    >>> from kernadv.baselines.group_mean import WeightedMean
    >>> online = WeightedMean().online()
    >>> online.values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1, weights=[100, 300, 200, 50]).value
    array([0.25, 0.25, 1.  , 1.  ])
    """

    needs_traces = True
    needs_weights = True

    def __init__(self, own: bool = True) -> None:
        self.uses_own_reward = own
        self.min_group = 1 if own else 2
        self.name = "opo" if own else "opo_loo"
        self.title = f"length-weighted group mean, {'own reward' if own else 'leave-one-out'} (OPO)"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """The weighted mean of the group, or of its other traces."""
        z, weight = self.check_traces(groups, side)
        weight = check_weight(weight, z, self.name)
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        total = np.bincount(group, weight, len(groups.n))[group]
        sum_ = np.bincount(group, weight * z, len(groups.n))[group]
        if self.uses_own_reward:
            return TraceValues(sum_ / total, z, own=weight / total)
        share = reciprocal(np.where(groups.n[group] > 1, total - weight, 0.0))
        return TraceValues((sum_ - weight * z) * share, z)


class OptimalTokenBaseline(WeightedMean):
    """``V^(g) = sum_{j != g} W_j Z_j / sum_{j != g} W_j``, W the realised energy of the whole trace (the traces' weights).

    W is the sum over the tokens of 1 - 2 pi_t + sum pi^2, which stands for the squared norm of the trace's score.  The
    published baseline has the energy up to each token, and the own trace; this is its leave-one-out value at the last
    token.  The formula is that of `WeightedMean`: only the weights that are passed differ.

    References
    ----------
    OTB, arXiv 2602.07078; verl, ``optimal_token_baseline``.

    Examples
    --------
    >>> from kernadv.baselines.group_mean import OptimalTokenBaseline
    >>> online = OptimalTokenBaseline().online()
    >>> online.values(["a", "a", "a"], [1.0, 0.0, 1.0], step=1, weights=[1.0, 3.0, 1.0]).value
    array([0.25, 1.  , 0.25])
    """

    def __init__(self) -> None:
        super().__init__(own=False)
        self.name = "otb_loo"
        self.title = "energy-weighted group mean, leave-one-out (OTB)"


class AsymmetricMean(LinearBaseline):
    """``V = S / G + offset``, with the own reward in it; 0 for a single trace, as in code that has it.

    Meant for rollouts of an older policy, where a baseline below the mean keeps the policy from collapsing, not to estimate
    the value: the offset is its bias.

    Parameters
    ----------
    offset : float
        delta V; published: -0.1.

    Raises
    ------
    ArgumentError
        If the offset is not a finite number.

    References
    ----------
    AsymRE, arXiv 2506.20520, section 5; Trinity-RFT, ``asymre_advantage.py``.

    Examples
    --------
    >>> from kernadv.baselines.group_mean import AsymmetricMean
    >>> AsymmetricMean().online().values(["a", "a", "b"], [1.0, 0.0, 1.0], step=1).value.round(2)
    array([0.4, 0.4, 0. ])
    """

    name = "asymre"
    title = "group mean and an offset, own reward (AsymRE)"
    uses_own_reward = True

    def __init__(self, offset: float = -0.1) -> None:
        self.offset = check_range(offset, "offset", -math.inf)

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The mean of the group, moved by the offset."""
        several = groups.n > 1
        share = np.where(several, reciprocal(groups.n), 0.0)
        return LinearValues(np.where(several, self.offset, 0.0), share, share)


def check_weight(weight: FloatArray | None, z: FloatArray, name: str) -> FloatArray:
    """Return the weights of the traces of baseline `name`, or raise if they are missing or no weights.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import ArgumentError
    >>> from kernadv.baselines.group_mean import check_weight
    >>> rewards = np.array([1.0, 0.0])
    >>> check_weight(np.array([100.0, 300.0]), rewards, "opo")
    array([100., 300.])
    >>> try:
    ...     check_weight(None, rewards, "opo")
    ... except ArgumentError as error:
    ...     print(error)
    opo needs one weight a trace, e.g. its response length: pass Traces(z, weight)
    """
    if weight is None or len(weight) != len(z):
        raise ArgumentError(f"{name} needs one weight a trace, e.g. its response length: pass Traces(z, weight)")
    if not ((weight > 0) & (weight < np.inf)).all():
        raise ArgumentError("the weights of the traces, e.g. their response lengths, must be positive and finite")
    return weight


BASELINES = (
    GroupMean(),
    LeaveOneOutMean(),
    WeightedMean(),
    WeightedMean(own=False),
    OptimalTokenBaseline(),
    AsymmetricMean(),
)
