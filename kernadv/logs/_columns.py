"""Which column plays which role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kernadv._errors import LogError
from kernadv.logs._base import Notes, Query, Selection, some
from kernadv.logs._files import File

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

ROLES = (*ALIASES, "value", "weight")
"""Roles that a caller may map to a column; `value`, the true value of the prompt, and `weight`, that of the trace, are never
guessed."""


TIMES = ("timestamp", "time", "datetime", "created_at", "date", "_timestamp", "ts")
"""Names tried for the step when it is to be had from times."""

PATH = "step of the path"
"""Column of the steps that are read from paths; no file has it."""

POSITION = "position"
"""Column of the place of an entry in the list of its prompt, where a log is an object of such lists."""

_WANTED = (
    "An audit needs a row for each rollout, with its step, its prompt and its reward: log those (TRL: log_completions=True; "
    "verl: trainer.rollout_data_dir; ms-swift: log_completions)"
)
_MEANS = re.compile(
    r"(^|[^a-z])(mean|avg|average|std|loss|kl|lr|learning_rate|grad_norm|entropy)([^a-z]|$)", re.IGNORECASE
)


_IN_PATH = re.compile(r"(?:^|[^a-z])(?:global_?)?(?:step|checkpoint)[_=-]?([0-9]{1,18})(?![0-9])", re.IGNORECASE)


def path_step(path: str) -> int | None:
    """Return N of ``step_N``, ``step-N``, ``global_step_N``, ``checkpoint-N`` in a path, from its last part that has one."""
    for part in reversed(path.split("/")):
        if found := _IN_PATH.findall(part):
            return int(found[-1])
    return None


def names_a_column(names: Iterable[str]) -> bool:
    """Say whether one of the names is a usual one of a column, and hence not the id of a prompt."""
    usual = {name for aliases in ALIASES.values() for name in aliases}
    return any(name in usual or _MEANS.search(name) for name in names)


def select(
    query: Query,
    found: Sequence[str],
    source: File,
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
    source : File
        File they were found in, for the messages.
    aliases : mapping of role to sequence of str
        Names to try for a role that the caller did not name; two of them in one log leave a note.
    rewards : sequence of str
        Reward columns that the reader proposes: they are summed; without any, the aliases of `reward` are tried.

    Raises
    ------
    LogError
        If a column is missing; the message names it and the columns found.

    Examples
    --------
    >>> from kernadv.logs import File, Notes, Query, select
    >>> from kernadv.logs._steps import StepRule
    >>> query = Query("run.csv", [], {"prompt": "question"}, StepRule(), None, None, None, Notes())
    >>> select(query, ["global_step", "question", "score"], File("run.csv", None, "run.csv")).names
    ['global_step', 'question', 'score']
    """
    named: dict[str, str | None] = dict(query.columns)
    if query.counts:
        named["correct"], named["traces"] = query.counts
    weights = _weights(query, found, source, rewards)
    if query.steps.every is not None:
        aliases = {**aliases, "step": TIMES}
    for role in ("step", "prompt") if weights is not None else ("step", "prompt", "reward"):
        if role not in named:
            named[role] = _search(query.notes, role, aliases[role], found)
    if named["step"] is None and query.steps.every is None:
        named["step"] = _implied_step(query.notes, found, source)
    missing = {role: name for role, name in named.items() if name not in found and name != PATH}
    if missing:
        raise missing_columns(missing, found, source, aliases)
    columns = {role: name for role, name in named.items() if name is not None}
    return Selection(
        step=columns["step"],
        prompt=columns["prompt"],
        rewards={columns["reward"]: 1.0} if weights is None else weights,
        value=columns.get("value"),
        counts=query.counts,
        weight=columns.get("weight"),
    )


def missing_columns(
    missing: Mapping[str, str | None], found: Sequence[str], source: object, tried: Mapping[str, Iterable[str]]
) -> LogError:
    """Build the error for absent columns: role -> column that the caller named, or None if names were tried."""
    parts = []
    for role, column in missing.items():
        if column is not None:
            parts.append(f"no column {column!r} (for {role})")
        else:
            parts.append(f"no {role} column (tried {', '.join(tried[role])}): name it with --map {role}=COLUMN")
    times = [name for name in TIMES if name in found]
    if "step" in missing and missing["step"] is None and times and tried["step"] is not TIMES:
        parts.append(f"column {times[0]!r} may serve: --step-every 1h, or --map step=rank:{times[0]}")
    message = f"{source}: {'; '.join(parts)}. Columns found: {some(found, 40)}"
    if {"prompt", "reward"} & {role for role, column in missing.items() if column is None}:
        if any(_MEANS.search(name) for name in found):
            no_reward = missing.get("reward", "") is None
            means = "These look like means of batches" if no_reward else "Means of batches cannot be audited"
            message += f". {means}. {_WANTED}"
        elif "prompt" in missing and "reward" in missing:
            message += f". These are no rewards of prompts. {_WANTED}"
    return LogError(message)


def _implied_step(notes: Notes, found: Sequence[str], source: File) -> str | None:
    """Where the step is in a log without a column for it."""
    if POSITION in found:
        notes.add("step = position of an entry in the list of its prompt")
        return POSITION
    if path_step(source.path) is not None:
        notes.add(f"step = number in the path of the file, such as {path_step(source.path)} of {source}")
        return PATH
    return None


def _weights(query: Query, found: Sequence[str], source: File, proposed: Sequence[str]) -> Mapping[str, float] | None:
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
