"""No baseline at all: plain REINFORCE."""

from __future__ import annotations

import numpy as np

from kernadv.baselines._base import Baseline, LinearValues
from kernadv.groups import Groups


class Zero(Baseline):
    """``V = 0``.

    References
    ----------
    Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning.
    """

    name = "zero"
    title = "zero (REINFORCE)"

    def replay(self, groups: Groups) -> LinearValues:
        """Zero for every trace."""
        zero = np.zeros(len(groups.n))
        return LinearValues(zero, zero, zero)


BASELINES = (Zero(),)
