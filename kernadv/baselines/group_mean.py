"""Means of the traces of one prompt at one step."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
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


class GroupMean(LinearBaseline):
    """``V = S / G``, with the own reward in it, as in GRPO.  At G = 1 every advantage is 0.

    References
    ----------
    GRPO, arXiv 2402.03300; Dr. GRPO, arXiv 2503.20783.
    """

    name = "group_mean"
    title = "group mean, own reward (GRPO)"
    uses_own_reward = True

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """The mean of the group."""
        share = reciprocal(groups.n)
        return LinearValues(0.0 * share, share, share)


class LeaveOneOutMean(LinearBaseline):
    """``V^(g) = (S - Z^(g)) / (G - 1)``; undefined for a single trace.

    References
    ----------
    RLOO, arXiv 2402.14740.
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

    Optimal if the squared norm of a trace's score is proportional to its length.

    Parameters
    ----------
    own : bool
        Keep the own reward, as published; else the weighted mean of the other traces.

    References
    ----------
    OPO, arXiv 2505.23585.
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
        weight = _check_weight(weight, z)
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        total = np.bincount(group, weight, len(groups.n))[group]
        sum_ = np.bincount(group, weight * z, len(groups.n))[group]
        if self.uses_own_reward:
            return TraceValues(sum_ / total, z)
        share = reciprocal(np.where(groups.n[group] > 1, total - weight, 0.0))
        return TraceValues((sum_ - weight * z) * share, z)


def _check_weight(weight: FloatArray | None, z: FloatArray) -> FloatArray:
    if weight is None or len(weight) != len(z):
        raise ArgumentError("opo needs one weight a trace, its response length: pass Traces(z, weight)")
    if not ((weight > 0) & (weight < np.inf)).all():
        raise ArgumentError("the weights of the traces, their response lengths, must be positive and finite")
    return weight


BASELINES = (GroupMean(), LeaveOneOutMean(), WeightedMean(), WeightedMean(own=False))
