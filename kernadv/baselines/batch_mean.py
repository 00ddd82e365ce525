"""One value for the whole batch."""

from __future__ import annotations

import numpy as np

from kernadv.baselines._base import NOTHING, LinearBaseline, LinearValues, SideInformation, per_step, reciprocal
from kernadv.groups import Groups


class BatchMean(LinearBaseline):
    """Mean reward of all other traces of the step, ``(sum of the step - Z^(g)) / (N - 1)``.

    The leave-one-out form of `BatchMeanOwn`, whose error can be estimated without the truth.  With N traces the two differ
    by a factor of 1 - 1/N in the advantage.

    References
    ----------
    REINFORCE++, arXiv 2501.03262.

    Examples
    --------
    >>> from kernadv.baselines.batch_mean import BatchMean
    >>> BatchMean().online().values(["a", "b", "b"], [1.0, 0.0, 1.0], step=1).value
    array([0.5, 1. , 0.5])
    """

    name = "batch_mean"
    title = "batch mean (REINFORCE++)"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Leave-one-out mean of the step; undefined where a step has a single trace."""
        tick, n, s = per_step(groups)
        gain = reciprocal(n[tick] - 1.0)
        return LinearValues((s[tick] - groups.s) * gain, gain, np.zeros(len(tick)))


class BatchMeanOwn(LinearBaseline):
    """Mean reward of the step, with the own reward in it, every trace counted once.

    Frameworks count every token once (`kernadv.baselines.token_mean`); with responses of equal length the two agree.

    References
    ----------
    REINFORCE++, arXiv 2501.03262.

    Examples
    --------
    >>> from kernadv.baselines.batch_mean import BatchMeanOwn
    >>> BatchMeanOwn().online().values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1).value
    array([0.75, 0.75, 0.75, 0.75])
    """

    name = "batch_mean_own"
    title = "batch mean, own reward (REINFORCE++)"
    uses_own_reward = True

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        """Mean of the step."""
        tick, n, s = per_step(groups)
        share = 1.0 / n[tick]
        return LinearValues((s[tick] - groups.s) * share, share, share)


BASELINES = (BatchMean(), BatchMeanOwn())
