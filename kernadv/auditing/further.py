"""Baselines that a caller names, beside those that every audit compares, and what they need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice
from kernadv.baselines import Baseline, LinearValues, Values, discover, discover_tuned
from kernadv.groups import Groups
from kernadv.typing import FloatArray


def further_baselines(given: Sequence[str | Baseline]) -> list[Baseline]:
    """Return the baselines of some names; objects are returned as they are.

    Raises
    ------
    ArgumentError
        If a name is unknown.
    ArgumentTypeError
        If something is neither a name nor a baseline.

    Examples
    --------
    >>> from kernadv.auditing import further_baselines
    >>> [one.title for one in further_baselines(["local_level", "dbb_loo"])]
    ['local level (Kalman), Q=0.0004, spread 0.1', 'discounted Beta, leave-one-out (DBB), lambda=0.75']
    """
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, (str, Baseline)) for one in given):
        raise ArgumentTypeError(f'baselines must be a list such as ["local_level", "dbb_loo"], got {given!r:.80}')
    known = {**discover(), **discover_tuned()}
    return [known[check_choice(one, "baseline", known)] if isinstance(one, str) else one for one in given]


def check_needs(
    baselines: Sequence[Baseline],
    *,
    truth: bool = False,
    traces: bool = False,
    weights: bool = False,
    offline: bool = False,
) -> None:
    """Raise if a baseline needs what a log does not have.

    Parameters
    ----------
    baselines : sequence of Baseline
    truth, traces, weights, offline : bool
        Whether there are true values, single traces in their order, weights of the traces, and rollouts from before
        training.

    Raises
    ------
    ArgumentError
        The message says what is needed, and how to give it.

    Examples
    --------
    >>> from kernadv import ArgumentError
    >>> from kernadv.auditing import check_needs, further_baselines
    >>> try:
    ...     check_needs(further_baselines(["oracle"]))
    ... except ArgumentError as error:
    ...     print(error)
    the audit cannot replay oracle: it needs the true values (--map value=COLUMN; in Python value=)
    """
    for baseline in baselines:
        lacks = []
        if baseline.needs_truth and not truth:
            lacks.append("the true values (--map value=COLUMN; in Python value=)")
        if baseline.needs_traces and not traces:
            lacks.append(
                "single traces in the order they were sampled, where this log has counts and sums of groups only (a log "
                "with a row a trace, read with keep_traces=True; in Python also prompt_ids=, rewards= and step=)"
            )
        if baseline.needs_weights and not weights:
            lacks.append("a weight a trace, e.g. its response length (--map weight=COLUMN; in Python weights=)")
        if baseline.offline_rollouts and not offline:
            lacks.append(
                f"{baseline.offline_rollouts} rollouts of every prompt from before training (in Python "
                f"offline=Offline(total, {baseline.offline_rollouts}))"
            )
        if lacks:
            raise ArgumentError(f"the audit cannot replay {baseline.name}: it needs {'; and '.join(lacks)}")


def check_groups_for(baseline: Baseline, compared: Groups, identified: bool) -> None:
    """Raise if the groups on which the errors are averaged are too small for a baseline.

    Raises
    ------
    ArgumentError
        If it is undefined for the smallest of them, or holds the own reward where the noise of the rewards is unknown.
    """
    smallest = int(compared.n.min())
    if baseline.min_group > smallest:
        raise ArgumentError(
            f"{baseline.name} needs groups of {baseline.min_group} traces or more, the smallest of this log has {smallest}"
        )
    if baseline.uses_own_reward and not identified:
        raise ArgumentError(
            f"{baseline.name} holds the own reward: its error follows only where groups have several traces; "
            "take the form without it, if there is one"
        )


def own_weight(baseline: Baseline, values: Values, groups: Groups) -> FloatArray:
    """Mean weight of the own reward in the values of each group's traces.  # (N,)

    Raises
    ------
    ArgumentError
        If the own reward is in them in another way: how they go with the noise of the reward does not follow from the log.
    """
    linear = isinstance(values, LinearValues)
    if baseline.uses_own_reward and (values.own is None or (linear and not values.own.any())):
        raise ArgumentError(
            f"the audit cannot replay {baseline.name}: it holds the own reward, and not as a weight of its own, so that its "
            "error does not follow from the rewards; take the form without it, if there is one (names with _loo)"
        )
    if values.own is None:
        return np.zeros(len(groups.n))
    if linear:
        return values.own
    return np.bincount(np.repeat(np.arange(len(groups.n)), groups.n), values.own, len(groups.n)) / groups.n
