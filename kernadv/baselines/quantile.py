"""Quantiles of the group."""

from __future__ import annotations

import math

import numpy as np

from kernadv._errors import ArgumentError, check_positive
from kernadv.baselines._base import NOTHING, Baseline, SideInformation, TraceValues
from kernadv.groups import Groups


class GroupQuantile(Baseline):
    """The K-quantile of the group's rewards; for 0/1 rewards ``V = 1{S / G > 1 - K}``.

    Meant to control entropy, not to estimate the value: its value error is large by design.

    Parameters
    ----------
    k : float
        In (0, 1); 0.4 as published.
    own : bool
        Keep the own reward, as published; else the quantile of the other traces.

    Raises
    ------
    ArgumentError
        If k is not in (0, 1).

    References
    ----------
    QAE, arXiv 2509.22611; read second hand.

    Examples
    --------
    >>> from kernadv.baselines.quantile import GroupQuantile
    >>> GroupQuantile(k=0.4).online().values(["a"] * 4, [0.0, 0.25, 0.5, 1.0], step=1).value
    array([0.25, 0.25, 0.25, 0.25])
    """

    needs_traces = True

    def __init__(self, k: float = 0.4, own: bool = True) -> None:
        if check_positive(k, "k", "the published value is 0.4") >= 1.0:
            raise ArgumentError(f"k must lie in (0, 1), got {k!r}; the published value is 0.4")
        self.k = k
        self.uses_own_reward = own
        self.min_group = 1 if own else 2
        self.name = ("qae" if own else "qae_loo") + (f" k={k:g}" if k != 0.4 else "")
        self.title = f"group quantile, {'own reward' if own else 'leave-one-out'} (QAE)"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """Smallest reward of the group (or its others) up to which a share k of it lies."""
        z = self.check_traces(groups, side).z
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        start = (np.cumsum(groups.n) - groups.n)[group]
        order = np.lexsort((z, group))
        rank = np.empty(len(z), np.int64)
        rank[order] = np.arange(len(z)) - start  # place of each trace in its sorted group
        count = groups.n[group] - (not self.uses_own_reward)
        place = np.maximum(np.ceil(self.k * count - 1e-9).astype(np.int64) - 1, 0)
        if not self.uses_own_reward:
            place += place >= rank  # skip the own reward
        place = np.minimum(place, groups.n[group] - 1)
        return TraceValues(np.where(count > 0, z[order][start + place], math.nan), z)


class GroupMedian(GroupQuantile):
    """The median of the group's rewards, own reward in it; of an even group the lower of the two in the middle.

    As published one trace more is sampled, G + 1 of them, and the median trace, whose advantage is 0, is not trained on.
    The published division by the median absolute deviation is no part of a value and left out.

    References
    ----------
    MC-GRPO, arXiv 2601.22582, and the authors' code, MC-GRPO ``grpo_trainer_math.py``.

    Examples
    --------
    >>> from kernadv.baselines.quantile import GroupMedian
    >>> GroupMedian().online().values(["a", "a", "a", "b", "b"], [0.0, 0.25, 1.0, 0.0, 1.0], step=1).value
    array([0.25, 0.25, 0.25, 0.  , 0.  ])
    """

    def __init__(self) -> None:
        super().__init__(0.5)
        self.name = "mc_grpo"
        self.title = "group median, own reward (MC-GRPO)"


BASELINES = (GroupQuantile(), GroupQuantile(own=False), GroupMedian())

TUNED = {"qae_loo": tuple(GroupQuantile(k, own=False) for k in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9))}
