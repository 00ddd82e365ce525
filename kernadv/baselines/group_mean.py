"""Means of the traces of one prompt at one step."""

from __future__ import annotations

import numpy as np

from kernadv.baselines._base import Baseline, LinearValues, reciprocal
from kernadv.groups import Groups


class GroupMean(Baseline):
    """``V = S / G``, with the own reward in it, as in GRPO.

    References
    ----------
    GRPO, arXiv 2402.03300; Dr. GRPO, arXiv 2503.20783.
    """

    name = "group_mean"
    title = "group mean, own reward (GRPO)"

    def replay(self, groups: Groups) -> LinearValues:
        """The mean of the group."""
        share = reciprocal(groups.n)
        return LinearValues(0.0 * share, share, share)


class LeaveOneOutMean(Baseline):
    """``V^(g) = (S - Z^(g)) / (G - 1)``; undefined for a single trace.

    References
    ----------
    RLOO, arXiv 2402.14740.
    """

    name = "rloo"
    title = "leave-one-out group mean (RLOO)"

    def replay(self, groups: Groups) -> LinearValues:
        """The mean of the other traces of the group."""
        share = reciprocal(groups.n - 1)
        return LinearValues(0.0 * share, share, np.zeros(len(share)))


BASELINES = (GroupMean(), LeaveOneOutMean())
