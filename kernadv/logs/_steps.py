"""Which step a row belongs to: what its column says, the path of its file, or a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from kernadv._errors import ArgumentError, LogError
from kernadv.groups import Groups
from kernadv.logs._base import Chunk, Notes, RewardLog
from kernadv.logs._columns import PATH, path_step

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SECOND = 10**6
#: Kept in front of times, so that those before 1970 are positive too.
_ORIGIN = 1 << 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class StepRule:
    """How a step is had from what a log holds.

    Attributes
    ----------
    every : int or None
        Microseconds in a step, when the column holds times.
    rank : bool
        Whether the distinct values of the column are ranked.
    """

    every: int | None = None
    rank: bool = False
    _codes: dict[Any, int] = field(default_factory=dict)

    def apply(self, chunk: Chunk, notes: Notes) -> Chunk:
        """Put whole numbers into the column of the step; `finish` makes steps of them.

        Raises
        ------
        LogError
            If a value is no time, or the path of a file has no step.
        """
        name = chunk.selection.step
        if name == PATH:
            column = _path_steps(chunk)
        elif self.every is not None:
            moments = _converted(chunk, _moment, "a time: an ISO date and time, or seconds since 1970")
            column = pl.Series(name, [_ORIGIN + moment // self.every for moment in moments], dtype=pl.Int64)
        elif self.rank:
            values = _converted(chunk, _rankable, "numbers or times, to be ranked")
            codes = [self._codes.setdefault(value, len(self._codes) + 1) for value in values]
            column = pl.Series(name, codes, dtype=pl.Int64)
        elif _is_worded(chunk.frame[name]):
            column = _numbered(chunk.frame[name], notes)
        else:
            return chunk
        return chunk._replace(frame=chunk.frame.with_columns(column.alias(name)))

    def finish(self, log: RewardLog) -> RewardLog:
        """Return the log with its steps: periods counted from the first one, or ranks."""
        if self.every is not None:
            step = log.groups.step - log.groups.step.min() + 1
        elif self.rank:
            ranks = np.empty(len(self._codes) + 1, np.int64)
            ranks[[self._codes[value] for value in sorted(self._codes)]] = np.arange(1, len(ranks))
            step = ranks[log.groups.step]
        else:
            return log
        order = np.lexsort((step, log.groups.prompt))
        groups = Groups(*(column[order] for column in log.groups._replace(step=step)))
        value = None if log.value is None else log.value[order]
        traces = None if log.traces is None else log.traces.of_groups(log.groups.n, order)
        return replace(log, groups=groups, value=value, traces=traces)


def step_rule(column: str | None, every: str | timedelta | None) -> tuple[str | None, StepRule]:
    """Return the column that a caller means by ``path``, ``rank:COLUMN`` or ``COLUMN``, and what to do with it.

    Raises
    ------
    ArgumentError
        If `every` is not a positive duration, or is given with a column that holds no times.
    """
    if column is None or not (column == "path" or column.startswith("rank:")):
        return column, StepRule(None if every is None else _duration(every))
    if every is not None:
        raise ArgumentError(f"step_every needs a column of times, got step={column}; give one of them")
    if column == "path":
        return PATH, StepRule()
    return column.removeprefix("rank:"), StepRule(rank=True)


def _duration(every: object) -> int:
    """Microseconds of a duration."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([smhdw])", every) if isinstance(every, str) else None
    if isinstance(every, timedelta):
        micros = every // timedelta(microseconds=1)
    else:
        micros = round(float(found[1]) * _UNITS[found[2]] * _SECOND) if found else 0
    if micros <= 0:
        raise ArgumentError(f"step_every must be a positive duration such as 30s, 10m, 1h, 1d or 2w, got {every!r:.80}")
    return micros


def _path_steps(chunk: Chunk) -> pl.Series:
    """Step of the file of each row."""
    steps = {file: path_step(file.path) for file in dict.fromkeys(chunk.sources.tolist())}
    for file, step in steps.items():
        if step is None:
            raise LogError(
                f"{file}: expected a step in the path, such as step_100, step-100 or checkpoint-100; name a column "
                "with --map step=COLUMN, or leave the file out"
            )
    return pl.Series([steps[file] for file in chunk.sources.tolist()], dtype=pl.Int64)


def _is_worded(column: pl.Series) -> bool:
    """Whether there are texts that are no numbers."""
    return column.dtype == pl.String and column.cast(pl.Float64, strict=False).null_count() > column.null_count()


def _numbered(column: pl.Series, notes: Notes) -> pl.Series:
    """The column, with texts such as step-100 as their numbers."""
    steps = [None if text is None or text.isdigit() else path_step(text) for text in column.to_list()]
    first = next((text for text, step in zip(column, steps, strict=True) if step is not None), None)
    if first is not None:
        notes.add(f"steps such as {first!r} read as numbers")
    return pl.Series([t if step is None else str(step) for t, step in zip(column, steps, strict=True)], dtype=pl.String)


def _converted(chunk: Chunk, convert: Callable[[Any], Any], expected: str) -> list[Any]:
    """Values of the column of the step; the first that cannot be converted is shown."""
    name = chunk.selection.step
    found = chunk.frame[name].to_list()
    values = [convert(value) for value in found]
    if None in values:
        at = values.index(None)
        raise LogError(f"{chunk.place(at)}: column {name!r} must hold {expected}, got {found[at]!r:.80}")
    return values


def _moment(value: Any) -> int | None:
    """Microseconds since 1970; a time without a zone is in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
        except ValueError:
            value = _number(value)
    if isinstance(value, date):
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        zoned: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (zoned - _EPOCH) // timedelta(microseconds=1)
    number = _number(value)
    if number is None or abs(number) > 1e20:
        return None
    # numbers that large are milliseconds, microseconds or nanoseconds
    power = next((power for power, most in ((0, 1e11), (3, 1e14), (6, 1e17)) if abs(number) < most), 9)
    return number * _SECOND // 10**power if isinstance(number, int) else round(number * 10.0 ** (6 - power))


def _rankable(value: Any) -> float | None:
    """A number that has the order of the value."""
    number = _number(value)
    if number is None:
        number = _moment(value)
    return path_step(value) if number is None and isinstance(value, str) else number


def _number(value: Any) -> float | None:
    """A finite number, exact if it is whole; None for what is none."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None
