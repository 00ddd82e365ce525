"""Readers of reward logs: what training frameworks write, and plain tables, become groups.

A format is a public module of this package, called as the module, whose `Reader` finds and yields the log.  Needs the extra
``kernadv[audit]`` (polars, pyarrow).
"""

from __future__ import annotations

import importlib
import math
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, check_choice
from kernadv.logs._base import Chunk, Notes, Query, Reader, RewardLog, Selection, some
from kernadv.logs._columns import ALIASES, ROLES, select
from kernadv.logs._order import RowOrder

__all__ = [
    "ALIASES",
    "Chunk",
    "Notes",
    "Query",
    "Reader",
    "RewardLog",
    "RowOrder",
    "Selection",
    "formats",
    "read_log",
    "select",
]


def read_log(
    path: str | Path,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    counts: tuple[str, str] | None = None,
    rewards: Sequence[str] | Mapping[str, float] | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> RewardLog:
    """Read the rewards of a training run, in bounded memory, and reduce them to groups.

    Parameters
    ----------
    path : str or Path
        File or folder of the log.
    format : str, optional
        One of `formats`; detected by default.
    columns : mapping, optional
        Role to column: ``{"step": "iteration", "prompt": "qid", "reward": "acc"}``.  A role that is not named is
        searched among the names of `ALIASES`, in their order: step, global_step, iteration, ...; prompt_id, prompt,
        uid, problem_id, ...; reward, score, ....  ``"value"`` names the true value of the prompt, where it is known.
    counts : (str, str), optional
        Columns of the number of correct and of all traces: a row is then a group with 0/1 rewards.
    rewards : sequence of str, or mapping of str to float, optional
        Reward columns to sum, with their weights.  By default all those of the log, with weight 1.
    progress : callable, optional
        Called with the fraction done and the number of rows read, after every chunk and at the end.

    Returns
    -------
    RewardLog
        Steps start at 1: a log that counts from 0 is shifted, with a note.

    Raises
    ------
    LogError
        If the log cannot be read, or a value cannot be used: the message shows it and its row.  Missing rewards (null,
        NaN) are dropped, with a note.
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, or they contradict each other.
    """
    readers = {name: _reader(name) for name in formats()}
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError(f"path must be a file or folder, got {path!r:.80}")
    query = _query(Path(path).expanduser(), {} if columns is None else columns, counts, rewards)
    if not os.path.exists(query.path):
        raise LogError(f"expected a log file or folder, but {query.path} does not exist")
    name = _detect(query.path, readers) if format is None else check_choice(format, "log format", readers)
    from polars.exceptions import PolarsError

    from kernadv.logs._reduce import Reducer

    reducer = Reducer(query)
    try:
        for chunk in readers[name].frames(query):
            reducer.add(chunk)
            if progress is not None:
                progress(chunk.done, reducer.n_rows)
    except (PolarsError, RecursionError) as error:
        raise LogError(f"{query.path} cannot be read as {name}: {error}") from error
    if progress is not None:
        progress(1.0, reducer.n_rows)
    return reducer.finish(name)


def formats() -> list[str]:
    """Return the names of the formats, which are those of the public modules of this package."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def _reader(name: str) -> Reader:
    """Return the reader of a format.

    Raises
    ------
    LogError
        If polars or pyarrow is not installed.
    """
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("polars", "pyarrow"):
            raise
        raise LogError(
            f'reading a log needs {missing}, which is not installed; run: pip install "kernadv[audit]"'
        ) from error
    own = [member for member in vars(module).values() if getattr(member, "__module__", "") == module.__name__]
    return next(member() for member in own if isinstance(member, type) and issubclass(member, Reader))


def _query(
    path: Path,
    columns: Mapping[str, str],
    counts: tuple[str, str] | None,
    rewards: Sequence[str] | Mapping[str, float] | None,
) -> Query:
    """Check the arguments."""
    if not isinstance(columns, Mapping):
        raise ArgumentTypeError(f"columns must be a mapping such as {{'reward': 'acc'}}, got {columns!r:.80}")
    if counts is not None and not (isinstance(counts, (tuple, list)) and len(counts) == 2):
        raise ArgumentTypeError(f"counts must be a pair of columns, (correct, all), got {counts!r:.80}")
    if rewards is not None and not isinstance(rewards, (str, Sequence, Mapping)):
        raise ArgumentTypeError(f"rewards must be columns, or a mapping of columns to weights, got {rewards!r:.80}")
    for role in columns:
        check_choice(role, "role of a column", ROLES)
    given = {"counts": counts is not None, "rewards": rewards is not None, 'columns["reward"]': "reward" in columns}
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise ArgumentError(f"{named[0]} and {named[1]} both say where the rewards are; give one of them")
    weights: dict[str, float] | None = None
    if rewards is not None:
        chosen = [rewards] if isinstance(rewards, str) else rewards
        weights = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(chosen, 1.0)
        if not weights or not all(math.isfinite(weight) for weight in weights.values()):
            raise ArgumentError(f"rewards must name at least one column, with finite weights, got {weights}")
    return Query(path, dict(columns), counts, weights, Notes())


def _detect(path: Path, readers: Mapping[str, Reader]) -> str:
    """Ask the readers; those that are a fallback only if no other recognises the log."""
    for fallback in (False, True):
        matches = [name for name, reader in readers.items() if reader.fallback is fallback and reader.detect(path)]
        if len(matches) > 1:
            raise LogError(
                f"{path} looks like several logs: {', '.join(matches)}; choose one with --format or give its files"
            )
        if matches:
            return matches[0]
    known = "".join(f"\n  {name}: {reader.looks_for}" for name, reader in readers.items())
    found = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    raise LogError(
        f"cannot tell the format of {path}; looked for{known}\nand found {some(found)}. "
        f"Name the format with --format ({', '.join(readers)}) or point to the folder that holds the log"
    )
