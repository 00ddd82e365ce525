"""Baselines that a caller names, beside those that every audit compares."""

from __future__ import annotations

from collections.abc import Sequence

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice
from kernadv.baselines import Baseline, discover, discover_tuned
from kernadv.groups import Groups


def further_baselines(given: Sequence[str | Baseline]) -> list[Baseline]:
    """Return the baselines of some names; objects are returned as they are.

    Raises
    ------
    ArgumentError
        If a name is unknown, or a baseline needs more than the counts and sums of a log's groups.
    ArgumentTypeError
        If something is neither a name nor a baseline.
    """
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, (str, Baseline)) for one in given):
        raise ArgumentTypeError(f'baselines must be a list such as ["local_level", "dbb_loo"], got {given!r:.80}')
    known = {**discover(), **discover_tuned()}
    open_to_all = [name for name, baseline in known.items() if _need(baseline) is None]
    chosen = []
    for one in given:
        if isinstance(one, str) and one not in known:
            check_choice(one, "baseline", open_to_all)
        baseline = known[one] if isinstance(one, str) else one
        if need := _need(baseline):
            raise ArgumentError(
                f"the audit cannot replay {baseline.name}: it needs {need}, and a log's groups hold counts and sums of "
                "rewards only; call its `replay` with a SideInformation"
            )
        chosen.append(baseline)
    return chosen


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


def _need(baseline: Baseline) -> str | None:
    """What a baseline reads beside the groups, None if nothing."""
    if baseline.needs_truth:
        return "the true values"
    if baseline.offline_rollouts:
        return f"{baseline.offline_rollouts} rollouts of every prompt from before training"
    if baseline.needs_weights:
        return "a weight for each single trace"
    return "the single traces in the order they were sampled" if baseline.needs_traces else None
