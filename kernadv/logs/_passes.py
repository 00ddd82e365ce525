"""Passes: stretches of a log in which the steps do not go back, and what becomes of steps that come again.

A resumed or restarted run, or a file that is there twice, lets the steps go back and writes groups of the same prompt and
step again.  So do rows in no order, and workers that are a few steps apart.  What tells them apart:

- A run does not begin again every few steps: if passes have fewer than 8 steps on average, their falls are disorder.  The
  deepest falls are kept longest, so a restart is seen among workers that are up to 8 steps apart.
- A pass that comes again brings whole groups.  Late rows bring parts of groups, and a worker with prompts of its own none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import polars as pl

from kernadv._errors import LogError, option
from kernadv.groups import aggregate
from kernadv.logs._base import Notes
from kernadv.logs._within import beyond_chance
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray

#: Falls of the step up to which no new pass begins: 0 is a file that goes on with the same step, 8 what workers are apart.
_LAGS = (-1, 0, 8, math.inf)
#: Steps that a pass has on average, at least.
_STEPS = 8
#: Passes that are kept apart, at most; and at the beginning, where there are few steps yet.
_MOST, _FIRST = 256, 8
#: Share of the usual size of a group from which rows that come again are whole groups.
_WHOLE = 0.75
#: Groups that came once tell the usual size if there is one for this many that came again.
_FEW = 20
#: Rows that may wait for being merged.
_PENDING = 1 << 21


class Begin(NamedTuple):
    """Where a pass begins: the fall of the step, the number of the row in the log, and its place there."""

    fall: float
    row: int
    place: str


@dataclass
class _Pass:
    begin: Begin
    frames: list[pl.DataFrame]  # columns prompt, step, n, s, ss and, when asked for, value
    steps: list[IntArray]  # those above all before, ascending

    def merge(self) -> pl.DataFrame:
        """Merge the rows of equal (prompt, step), and return them sorted."""
        self.frames = [_merged(*self.frames)]
        return self.frames[0]

    def go_on(self, frames: list[pl.DataFrame], steps: list[IntArray]) -> None:
        """Add the rows that follow."""
        self.frames += frames
        for rising in steps:
            above = rising[rising > self.steps[-1][-1]]
            if len(above):
                self.steps.append(above)


def falls(step: IntArray, enters: BoolArray) -> tuple[FloatArray, list[IntArray]]:
    """Return where the steps of a chunk go back, and the steps of the stretches in between.

    Parameters
    ----------
    step : (M,) int64
        Steps in the order of the rows.
    enters : (M,) bool
        Rows that are the first of a file.

    Returns
    -------
    fall : (M,) float64
        Fall of the step where a pass may begin, 0 where a file goes on with the same step, infinity at the first row; NaN
        elsewhere.
    steps : list of (K,) int64
        Of each stretch, the steps above all before in it.
    """
    fall = -np.diff(step, prepend=step[:1]).astype(np.float64)
    fall[(fall == 0) & ~enters] = -np.inf
    fall[:1] = np.inf
    for lag in _LAGS:
        begins = np.flatnonzero(fall > lag) if lag < math.inf else np.arange(min(len(step), 1))
        if len(begins) > _MOST:
            continue
        highest = [np.maximum.accumulate(part) for part in np.split(step, begins)[1:]]
        steps = [part[np.diff(part, prepend=-1) > 0] for part in highest]
        if len(begins) <= _allowed(lag, steps):
            break
    return np.where(np.isin(np.arange(len(step)), begins), fall, np.nan), steps


def _allowed(lag: float, steps: Iterable[IntArray]) -> float:
    """How many passes a run may have, if a pass begins where the step falls by more than the lag."""
    if lag == math.inf:
        return math.inf
    return min(sum(map(len, steps)) // _STEPS + 2 * (lag <= 0), _MOST)


class Passes:
    """Running sums of each pass.  Memory grows with the number of groups, not with that of rows."""

    def __init__(self) -> None:
        self._passes: list[_Pass] = []
        self._lag = 0
        self._pending = self._merged = 0

    def add(self, frame: pl.DataFrame, begin: Begin | None, steps: IntArray) -> None:
        """Add sums of rows that follow those before, or begin a pass; and their steps, see `falls`."""
        if self._passes and (begin is None or begin.fall <= _LAGS[self._lag]):
            self._passes[-1].go_on([frame], [steps])
        else:
            assert begin is not None
            self._passes.append(_Pass(begin, [frame], [steps]))
            self._join(_FIRST)
        self._pending += len(frame)
        if self._pending > max(_PENDING, self._merged):
            self._merged = sum(len(each.merge()) for each in self._passes)
            self._pending = 0

    def finish(self, on_repeat: str, notes: Notes) -> tuple[pl.DataFrame, tuple[int, int], int]:
        """Return the groups, how often the steps go back and the first such row, and the number of rows that came again.

        Raises
        ------
        LogError
            If steps come again and `on_repeat` is "error".
        """
        self._join(0)
        tables = [each.merge() for each in self._passes]
        if len(tables) == 1:
            return tables[0], (0, 0), 0
        rows = pl.concat(tables)
        again = _Again(rows, np.repeat(np.arange(len(tables)), [len(table) for table in tables]))
        backs = [self._passes[number].begin for number in np.flatnonzero(again.whole)]
        if not backs:
            return _merged(rows), (0, 0), 0
        identical = again.identical()
        if on_repeat == "error":
            raise _refusal(backs[0], again, identical)
        label = np.cumsum(again.whole.astype(np.int64))[again.number]
        step = rows["step"].to_numpy()
        times = f"the steps go back {len(backs):,} time{'s' * (len(backs) > 1)}, first at row {backs[0].row:,}"
        if on_repeat == "merge":
            notes.add(f"{times}: rows of the same prompt and step count as one group")
            return _merged(rows), (len(backs), backs[0].row), identical
        if on_repeat == "offset":
            notes.add(f"{times}: the steps of a later part go on after those of the part before")
            return _merged(rows.with_columns(step=step + _offsets(step, label)[label])), (0, 0), 0
        kept = _last(step, label)
        notes.add(f"{times}: of steps that come again the last rows count, {{n}} earlier ones dropped", _n(rows, ~kept))
        return _merged(rows.filter(kept)), (0, 0), 0

    def _join(self, at_least: int) -> None:
        """Join the passes with the smallest falls to those before, until no more are left than a run may have."""
        while len(self._passes) > max(
            at_least, _allowed(_LAGS[self._lag], chain(*(each.steps for each in self._passes)))
        ):
            self._lag += 1
            kept = self._passes[:1]
            for each in self._passes[1:]:
                if each.begin.fall <= _LAGS[self._lag]:
                    kept[-1].go_on(each.frames, each.steps)
                else:
                    kept.append(each)
            self._passes = kept


class _Again:
    """Groups that come in several passes.

    Attributes
    ----------
    number : (M,) int64
        Pass of each row.
    whole : (P,) bool
        Passes that bring whole groups again.
    """

    def __init__(self, rows: pl.DataFrame, number: IntArray) -> None:
        prompt, step = rows["prompt"].to_numpy(), rows["step"].to_numpy()
        self.number = number
        order = np.lexsort((number, step, prompt))
        p, i, self._pass = prompt[order], step[order], number[order]
        self._prompt, self._n, self._s, self._ss = p, *(rows[name].to_numpy()[order] for name in ("n", "s", "ss"))
        again = np.zeros(len(p), dtype=bool)
        again[1:] = (p[1:] == p[:-1]) & (i[1:] == i[:-1])
        alone = ~again & ~np.append(again[1:], False)
        usual = self._n[alone].mean() if alone.sum() * _FEW >= max(again.sum(), 1) else 0.0
        size, times = (np.bincount(self._pass[again], part, number[-1] + 1) for part in (self._n[again], None))
        self.whole = (times > 0) & (size >= _WHOLE * usual * times)
        self.rows = again & self.whole[self._pass]

    def identical(self) -> int:
        """Rows of groups that equal the same group of an earlier pass, in passes with more of them than chance explains.

        Notes
        -----
        Another try of the same policy gives a group with unequal rewards the same number of each with a probability of at
        most 1/2; so it does two visits of one trace each with unequal rewards, unless the value jumps between them.
        """
        now = np.flatnonzero(self.rows)
        before = now - 1
        same = self._n[now] == self._n[before]
        for part in (self._s, self._ss):
            same &= np.isclose(part[now], part[before], rtol=1e-12, atol=0.0)
        found = 0
        for number in np.flatnonzero(self.whole):
            here = self._pass[now] == number
            rows, equal = now[here], same[here]
            unequal = self._n[rows] * self._ss[rows] > self._s[rows] ** 2 * (1.0 + 1e-9)
            ones = np.flatnonzero(self._n[rows] == 1)
            pair = np.stack([ones[:-1:2], ones[1::2]])
            first, second = rows[pair]
            pair = pair[:, (self._prompt[first] == self._prompt[second]) & (self._s[first] != self._s[second])]
            copies = int(equal[unequal].sum() + equal[pair].all(axis=0).sum())
            if beyond_chance(copies, int(unequal.sum()) + pair.shape[1]):
                found += int(self._n[rows[equal]].sum())
        return found


def _merged(*frames: pl.DataFrame) -> pl.DataFrame:
    """The rows of some frames, with those of equal (prompt, step) added up, sorted."""
    column = {name: np.concatenate([frame[name].to_numpy() for frame in frames]) for name in frames[0].columns}
    value = column.pop("value", None)
    merged = pl.DataFrame(aggregate(**column)._asdict())
    if value is not None:
        merged = merged.with_columns(value=aggregate(column["prompt"], column["step"], column["n"], value, value).s)
    return merged


def _refusal(first: Begin, again: _Again, identical: int) -> LogError:
    groups = int(again.rows.sum())
    copies = f", {identical:,} rows of them with the same rewards as before" if identical else ""
    return LogError(
        f"{first.place}: the step goes back, and {groups:,} groups of a prompt and step come again{copies}. Choose with "
        f"{option('on_repeat')} what this is: last (a resumed run, or a file that is there twice: of a step that comes "
        "again only the last rows count), offset (a count that began anew: its steps go on after those before), or merge "
        "(several writers: rows of the same prompt and step are one group)"
    )


def _last(step: IntArray, label: IntArray) -> BoolArray:
    """Rows of the last part in which their step comes."""
    _, code = np.unique(step, return_inverse=True)
    last = np.zeros(int(code.max()) + 1, np.int64)
    np.maximum.at(last, code, label)
    return np.asarray(label == last[code])


def _offsets(step: IntArray, label: IntArray) -> IntArray:
    """What is added to the steps of each part, so that it begins after the end of the part before."""
    offsets, end = [0], int(step[label == 0].max())
    for part in range(1, int(label.max()) + 1):
        here = step[label == part]
        offsets.append(end + 1 - int(here.min()))
        end = int(here.max()) + offsets[-1]
    if end >= 2**63:
        raise LogError(
            "the steps are too large to be numbered on, expected sums below 2^63; "
            f"for {option('on_repeat')} give last or merge"
        )
    return np.array(offsets, np.int64)


def _n(rows: pl.DataFrame, which: AnyArray) -> int:
    return int(rows["n"].filter(which).sum())
