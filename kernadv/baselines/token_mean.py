"""Means over the tokens of the batch, as frameworks take them off: long responses count more."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.baselines._base import (
    NOTHING,
    Baseline,
    LinearBaseline,
    Offline,
    SideInformation,
    Traces,
    TraceValues,
    ValueEstimator,
    row_values,
    scored_groups,
)
from kernadv.baselines.beta import EventCounts
from kernadv.baselines.constant import Zero
from kernadv.baselines.group_mean import AsymmetricMean, check_weight
from kernadv.batch import read_batch
from kernadv.groups import Groups
from kernadv.smoothers import Estimate
from kernadv.typing import FloatArray


class TokenCentred(Baseline):
    """``V = v + sum L (Z - v) / sum L`` over all traces of the step: v a baseline, L the response lengths (the weights).

    This is what whitening over the tokens of a batch takes off the advantages Z - v, beside the division by their standard
    deviation.  The own reward is in it.  With responses of equal length it is the mean over the traces.

    Parameters
    ----------
    baseline : LinearBaseline
        v.
    name, title : str

    References
    ----------
    verl, ``core_algos.py`` (``masked_whiten``).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.baselines import Traces
    >>> from kernadv.baselines.constant import Zero
    >>> from kernadv.baselines.token_mean import TokenCentred
    >>> from kernadv.groups import Groups
    >>> baseline = TokenCentred(Zero(), "mean", "mean over the tokens")
    >>> baseline.online().values(["a", "b"], [1.0, 0.0], step=1, weights=[100, 300]).value
    array([0.25, 0.25])
    >>> groups = Groups(np.array([0]), np.array([1]), np.array([2]), np.array([1.0]), np.array([1.0]))
    >>> traces = Traces(np.array([1.0, 0.0]), np.array([100.0, 300.0]))
    >>> baseline.centred(np.array([0.5, 0.5]), groups, traces)  # values, and the share of each trace in the tokens
    (array([0.25, 0.25]), array([0.25, 0.75]))
    """

    uses_own_reward = True
    needs_traces = True
    needs_weights = True

    def __init__(self, baseline: LinearBaseline, name: str, title: str) -> None:
        self.baseline = baseline
        self.name = name
        self.title = title
        self.min_group = baseline.min_group
        self.offline_rollouts = baseline.offline_rollouts

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """Replay the baseline, and centre every step."""
        traces = self.check_traces(groups, side)
        values = self.baseline.replay(groups, side)
        centred, share = self.centred(values.at(groups, traces.z), groups, traces)
        group = np.repeat(np.arange(len(groups.n)), groups.n)
        others = np.bincount(group, share, len(groups.n))[group] - share
        own = values.own[group]
        return TraceValues(centred, traces.z, own=own + share * (1.0 - own) - others * values.gain[group])

    def centred(self, value: FloatArray, groups: Groups, traces: Traces) -> tuple[FloatArray, FloatArray]:
        """Values of the traces, from those of the baseline, and the share of each in the tokens of its step."""
        z = traces.z
        weight = check_weight(traces.weight, z, self.name)
        _, tick = np.unique(groups.step, return_inverse=True)
        tick = np.repeat(tick, groups.n)
        share = weight / np.bincount(tick, weight)[tick]
        return value + np.bincount(tick, share * (z - value))[tick], share

    def online(self, offline: Offline | None = None) -> ValueEstimator:
        """The baseline for a training loop; `values` needs the weights."""
        return _CentredOnline(self, self.baseline.online(offline))


class _CentredOnline:
    """The running baseline, centred by each batch."""

    def __init__(self, centred: TokenCentred, running: ValueEstimator) -> None:
        self._centred = centred
        self._running = running

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, weights: Any = None) -> Estimate:
        """Value of each row; undefined for rows without a reward.  Reads only."""
        batch = read_batch(prompt_ids, rewards, step)
        groups, traces, order = scored_groups(batch, weights)
        value = np.asarray(self._running.values(prompt_ids, rewards, step).value, np.float64)[order]
        return row_values(batch, order, self._centred.centred(value, groups, traces)[0])

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Remember a batch."""
        self._running.observe(prompt_ids, rewards, step)


BASELINES = (
    TokenCentred(Zero(), "reinforce_pp", "mean over the batch's tokens, own reward (REINFORCE++)"),
    TokenCentred(
        AsymmetricMean(0.0),  # the group mean, and 0 for a single trace: verl's convention
        "reinforce_pp_baseline",
        "group mean, centred over the batch's tokens, own reward (REINFORCE++-baseline)",
    ),
    TokenCentred(
        EventCounts(),
        "spo_pp",
        "Beta from offline rollouts, discounted by the step, centred over the batch's tokens, own reward (SPO++)",
    ),
)
