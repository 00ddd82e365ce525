"""Which column plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kernadv._errors import LogError
from kernadv.logs._base import Notes, Query, Selection, missing_columns, some

ALIASES: dict[str, tuple[str, ...]] = {
    "step": (
        "step", "global_step", "iteration", "train_step", "training_step", "global_steps", "iter", "update",
        "policy_version", "gen_step", "rollout_id",
    ),
    "prompt": (
        "prompt_id", "prompt", "uid", "problem_id", "question_id", "task_id", "example_id", "qid", "prompt_key",
        "question", "problem", "input",
    ),
    "reward": ("reward", "score", "rewards", "acc", "accuracy", "correct", "is_correct", "return"),
}  # fmt: skip
"""Names tried for each role, in this order, when the caller names no column."""

ROLES = (*ALIASES, "value")
"""Roles that a caller may map to a column; `value`, the true value of the prompt, is never guessed."""


def select(
    query: Query,
    found: Sequence[str],
    source: Path,
    *,
    aliases: Mapping[str, Sequence[str]] = ALIASES,
    rewards: Sequence[str] = (),
) -> Selection:
    """Choose the columns of a log from what the caller named and what the log has.

    Parameters
    ----------
    query : Query
        Columns, counts and rewards named by the caller come first.
    found : sequence of str
        Columns of the log.
    source : Path
        File they were found in, for the messages.
    aliases : mapping of role to sequence of str
        Names to try for a role that the caller did not name; two of them in one log leave a note.
    rewards : sequence of str
        Reward columns that the reader proposes: they are summed; without any, the aliases of `reward` are tried.

    Raises
    ------
    LogError
        If a column is missing; the message names it and the columns found.
    """
    named: dict[str, str | None] = dict(query.columns)
    if query.counts:
        named["correct"], named["traces"] = query.counts
    weights = _weights(query, found, source, rewards)
    for role in ("step", "prompt") if weights is not None else ("step", "prompt", "reward"):
        if role not in named:
            named[role] = _search(query.notes, role, aliases[role], found)
    missing = {role: name for role, name in named.items() if name not in found}
    if missing:
        raise missing_columns(missing, found, source, aliases)
    columns = {role: name for role, name in named.items() if name is not None}
    return Selection(
        step=columns["step"],
        prompt=columns["prompt"],
        rewards={columns["reward"]: 1.0} if weights is None else weights,
        value=columns.get("value"),
        counts=query.counts,
    )


def _weights(query: Query, found: Sequence[str], source: Path, proposed: Sequence[str]) -> Mapping[str, float] | None:
    """Weights of the reward columns, or None if there is one column, to be found by its role."""
    if query.counts:
        return {}
    if query.rewards is not None:
        missing = [name for name in query.rewards if name not in found]
        if missing:
            wanted = ", ".join(map(repr, missing))
            where = f"Reward columns found: {some(proposed)}" if proposed else f"Columns found: {some(found, 40)}"
            raise LogError(f"{source}: no reward column {wanted}; choose with --reward COLUMN. {where}")
        return query.rewards
    if "reward" in query.columns or not proposed:
        return None
    if len(proposed) > 1:
        query.notes.add(f"reward = sum of the columns {', '.join(proposed)}, each with weight 1; choose with --reward")
    return dict.fromkeys(proposed, 1.0)


def _search(notes: Notes, role: str, names: Sequence[str], found: Sequence[str]) -> str | None:
    """First name that was found; the others leave a note."""
    present = [name for name in names if name in found]
    if len(present) > 1:
        notes.add(f"{role} read from column {present[0]!r}; also there: {', '.join(map(repr, present[1:]))}")
    return present[0] if present else None
