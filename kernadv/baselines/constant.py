"""No baseline at all, and the truth: the two ends of every comparison."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.baselines._base import NOTHING, LinearBaseline, LinearValues, SideInformation
from kernadv.groups import Groups


class Zero(LinearBaseline):
    """``V = 0``.

    Parameters
    ----------
    origin : float
        Reward from which those of the groups are counted.

    References
    ----------
    Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning.

    Examples
    --------
    >>> from kernadv.baselines.constant import Zero
    >>> Zero().online().values(["a", "b"], [1.0, 0.0], step=1).value
    array([0., 0.])
    """

    name = "zero"
    title = "zero (REINFORCE)"

    def __init__(self, origin: float = 0.0) -> None:
        self.origin = origin

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Zero for every trace."""
        zero = np.zeros(len(groups.n))
        return LinearValues(zero - self.origin, zero, zero)


class Oracle(LinearBaseline):
    """The true value, where it is known: in a simulation, or from very many rollouts.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.baselines import SideInformation
    >>> from kernadv.baselines.constant import Oracle
    >>> run = simulate("fast", "epochs", 4)
    >>> found = Oracle().replay(run.groups, SideInformation(value=run.value))
    >>> float(found.true_squared_error(run.groups, run.value).sum()), bool(found.squared_error(run.groups).sum() > 0.0)
    (0.0, True)
    """

    name = "oracle"
    title = "true value (oracle)"
    needs_truth = True

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """``side.value``."""
        if side.value is None or np.shape(side.value) != np.shape(groups.n):
            raise ArgumentError("the oracle reads the true value of every group: pass SideInformation(value=...)")
        zero = np.zeros(len(groups.n))
        return LinearValues(np.asarray(side.value, np.float64), zero, zero)


BASELINES = (Zero(), Oracle())
