"""From chunks of rows to groups: every chunk is reduced at once, and partial sums are merged now and then.

`reduce` needs only its chunk, so chunks may be reduced anywhere; the `Reducer` adds them up in their order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

import numpy as np
import polars as pl

from kernadv._arrays import LAST_STEP
from kernadv._errors import LogError
from kernadv.groups import Groups
from kernadv.logs._base import Chunk, Query, RewardLog, without_rows
from kernadv.logs._kept import Kept, KeptTraces, weights
from kernadv.logs._order import RowOrder
from kernadv.logs._passes import Begin, Passes, falls
from kernadv.logs._spelling import alike, loose
from kernadv.logs._values import integers, numbers, prompt_texts, refuse
from kernadv.logs._within import WithinGroups, within, within_none
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray

#: A longer text of a prompt is known by its digest.
_LONGEST_KEY = 64
#: Rewards below are kept as they are: the squares of a group have 32 binary digits after the point.
_FAR = 2.0**10
#: Rows of one step whose places in their groups are counted together, at most.
_STEP_ROWS = 1 << 16


def prompt_key(text: str) -> str:
    """Return a text of at most 64 characters as it is, a longer one as ``sha256:<hex digest>``: stable across runs."""
    if len(text) <= _LONGEST_KEY:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def rows_of(chunk: Chunk) -> tuple[list[str], FloatArray, IntArray]:
    """Return prompt, reward (NaN: none) and step of each trace; a row of counts is as many traces, the right ones first."""
    texts, _ = prompt_texts(chunk)
    code = texts.rle_id().to_numpy()
    keys, _ = _keys(texts.gather(np.flatnonzero(np.diff(code, prepend=-1))))
    row = np.arange(len(texts))
    if chunk.selection.counts:
        counts = _counts(chunk)
        row = np.repeat(row, counts["n"])
        place = np.arange(len(row)) - (np.cumsum(counts["n"]) - counts["n"])[row]
        reward = (place < counts["s"][row]).astype(np.float64)
    else:
        reward = _rewards(chunk).fill_null(float("nan")).to_numpy()
    return keys.gather(code[row]).to_list(), reward, integers(chunk, chunk.selection.step).to_numpy()[row]


class Rows(NamedTuple):
    """Consecutive traces of one step: group (prompt) and reward of each."""

    group: IntArray
    reward: FloatArray


class Stretch(NamedTuple):
    """Of a stretch: the fall of the step, its first row in the sums and in the chunk, the place of that, and its steps."""

    fall: float
    group: int
    row: int
    place: str
    steps: IntArray


class Reduced(NamedTuple):
    """What is kept of a chunk.

    Attributes
    ----------
    files : (str, str) or ()
        The first and the last file, of rows with a reward.
    n_rows : int
        Rows, those without a reward included.
    integral : bool
        Whether prompts are integers.
    sums : (M,) DataFrame
        One row a (prompt, step) and stretch, in the order of appearance: prompt, step, n, s, ss, and value if asked for.
        A stretch ends where the step goes back.
    stretches : list of Stretch
    last : int
        The last step.
    head, tail : Rows
        Traces of the first and of the last step, which may go on in another chunk; no tail if there is one step only.
    middle : WithinGroups
        What the others say.
    loose : mapping of str to str
        Loose forms of prompts that are known by their digests, where the texts differ from them.
    kept : Kept or None
        The single traces, if they are to be kept.
    """

    files: tuple[str, ...]
    n_rows: int
    integral: bool
    sums: pl.DataFrame
    stretches: list[Stretch]
    last: int
    head: Rows
    middle: WithinGroups
    tail: Rows | None
    loose: Mapping[str, str]
    kept: Kept | None


def origin_of(chunk: Chunk) -> float | None:
    """Return what to subtract from the rewards: the first one, if it is so far from 0 that squares lose digits; else 0.

    None if the chunk has no reward.
    """
    if chunk.selection.counts:
        return 0.0
    rewards = _rewards(chunk).drop_nulls()
    return None if not len(rewards) else float(rewards[0]) if abs(rewards[0]) > _FAR else 0.0


def reduce(chunk: Chunk, origin: float, query: Query) -> Reduced:
    """Reduce a chunk to its groups, with rewards and true values relative to an origin; and keep its traces if asked to."""
    texts, integral = prompt_texts(chunk)
    step = integers(chunk, chunk.selection.step).to_numpy()
    columns = _counts(chunk) if chunk.selection.counts else _traces(chunk, origin)
    if chunk.selection.value:
        value = numbers(chunk, chunk.selection.value).fill_null(float("nan")).to_numpy()
        columns["value"] = (value - origin) * columns["n"]
    usable = columns["n"] > 0
    rows = np.flatnonzero(usable)
    query.notes.add("rows without a reward, dropped: {n}", len(usable) - len(rows))
    weight = weights(chunk, usable)
    enters = _enters(chunk, rows)  # a file
    if len(rows) < len(usable):
        texts, step = texts.filter(pl.Series(usable)), step[rows]
        columns = {name: column[rows] for name, column in columns.items()}
    code = texts.rle_id().to_numpy()
    new = enters.copy()
    new[1:] |= (code[1:] != code[:-1]) | (step[1:] != step[:-1])
    start = np.flatnonzero(new)
    keys, forms = _keys(texts.gather(start))
    sums = {name: np.add.reduceat(column, start) if len(start) else column for name, column in columns.items()}
    fall, steps = falls(step[start], enters[start])
    begins = np.flatnonzero(~np.isnan(fall))
    blocks = pl.DataFrame({"prompt": keys, "step": step[start], **sums})
    by = ["prompt", "step"]
    if len(begins) > 1:
        blocks = blocks.with_columns(stretch=np.cumsum(~np.isnan(fall)))
        by.append("stretch")
    groups = blocks.group_by(by, maintain_order=True).sum()
    if len(groups) == len(blocks):
        group = np.arange(len(blocks))
    else:
        numbered = groups.select(by).with_row_index("group")
        group = blocks.join(numbered, on=by, how="left", maintain_order="left")["group"].to_numpy().astype(np.int64)
    first = rows[start[begins]].tolist()
    places = map(chunk.place, first)
    stretches = [
        Stretch(*each) for each in zip(fall[begins].tolist(), group[begins].tolist(), first, places, steps, strict=True)
    ]
    head, middle, tail = _traces_by_step(chunk, group, step, start, columns["s"])
    kept = None
    if query.keep_traces and not chunk.selection.counts:
        kept = Kept(np.repeat(group, np.diff(start, append=len(step))), columns["s"], weight)
    return Reduced(
        tuple(str(chunk.sources[at]) for at in rows[[0, -1]]) if len(rows) else (),
        len(usable),
        integral,
        groups.drop("stretch", strict=False),
        stretches,
        int(step[-1]) if len(step) else 0,
        head,
        middle,
        tail,
        forms,
        kept,
    )


class PromptIndex:
    """Row numbers of prompts, in their order of appearance; of a long text only its digest is remembered."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, int] = defaultdict(count().__next__)
        self._loose: dict[str, str] = {}
        self._integral = True

    def rows(self, reduced: Reduced) -> IntArray:
        """Return the row number of the prompt of each row of the sums; a new prompt gets the next one."""
        self._integral &= reduced.integral
        self._loose |= reduced.loose
        keys = reduced.sums["prompt"].to_list()
        return np.fromiter(map(self._rows.__getitem__, keys), dtype=np.int64, count=len(keys))

    def ids(self) -> list[str] | list[int]:
        """Return the id of each row: integers if the whole log has integers, strings otherwise."""
        return list(map(int, self._rows)) if self._integral else list(self._rows)

    def alike(self) -> tuple[tuple[tuple[str, ...], ...], int]:
        """Return the first sets of prompts that differ only by spaces, Unicode form, or 1 / 1.0, and how many there are."""
        return ((), 0) if self._integral else alike(self._rows, self._loose)


class Reducer:
    """Running sums of a log.  Memory grows with the number of groups and prompts, not with the number of rows."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._index = PromptIndex()
        self._passes = Passes()
        self._before: Reduced | None = None  # the last chunk with a reward
        self._open: list[Rows] = []  # traces of the last step
        self._within = within_none()
        self._kept = KeptTraces()
        self.origin: float | None = None
        self.n_rows = 0

    def add(self, chunk: Chunk) -> None:
        """Reduce one chunk and add it."""
        if self.origin is None:
            self.origin = origin_of(chunk)
        self.merge(reduce(chunk, self.origin or 0.0, self._query))

    def merge(self, reduced: Reduced) -> None:
        """Add the next chunk."""
        first = self.n_rows + 1
        self.n_rows += reduced.n_rows
        if not len(reduced.sums):
            return
        prompt = self._index.rows(reduced)
        sums = reduced.sums.with_columns(prompt=prompt)
        fall = self._fall(reduced)
        ends = [stretch.group for stretch in reduced.stretches[1:]] + [len(sums)]
        for stretch, end in zip(reduced.stretches, ends, strict=True):
            depth = stretch.fall if stretch.group else fall
            begin = None if np.isnan(depth) else Begin(depth, first + stretch.row, stretch.place)
            self._passes.add(sums[stretch.group : end], begin, stretch.steps)
        self._add_traces(reduced, prompt)
        self._kept.add(reduced.kept, prompt, sums["step"].to_numpy())
        self._before = reduced

    def finish(self, format: str) -> RewardLog:
        """Return the log.

        Raises
        ------
        LogError
            If no row can be used, or if steps come again and the query does not say what to do.
        """
        if self._before is None:
            if not self.n_rows:
                raise without_rows(self._query.source)
            raise LogError(
                f"{self._query.source}: none of the {self.n_rows:,} rows has a reward (all are null or NaN); check the "
                "reward column"
            )
        notes = self._query.notes
        merged, back, identical = self._passes.finish(self._query.on_repeat, notes)
        value = merged["value"].to_numpy() / merged["n"].to_numpy() if "value" in merged.columns else None
        groups = Groups(*(merged[name].to_numpy() for name in Groups._fields))
        if groups.step.max() >= LAST_STEP:
            groups = groups._replace(step=_from_1(groups.step))
            if self._query.steps.every is None:  # periods of time are counted from the first anyway
                notes.add("the steps of the log are beyond 2^53: they are counted from the first")
        elif groups.step.min() == 0:
            groups = groups._replace(step=groups.step + 1)
            notes.add("the steps of the log start at 0: all are shifted by 1")
        origin = self.origin or 0.0
        if origin:
            notes.add(f"the rewards lie far from 0: they are read relative to the first, {origin:.17g}")
        self._close()
        order = RowOrder(back, identical + self._within.identical(), self._within.known_places(), *self._index.alike())
        query = self._query
        return RewardLog(
            groups,
            self._index.ids(),
            value,
            self.n_rows,
            format,
            query.source,
            notes.texts(),
            order,
            origin,
            self._kept.finish(groups),
        )

    def _fall(self, reduced: Reduced) -> float:
        """Fall of the step since the last chunk, NaN if it goes on; infinity in the first chunk."""
        if self._before is None:
            return np.inf
        fall = self._before.last - int(reduced.sums["step"][0])
        return float(fall) if fall > 0 or (fall == 0 and reduced.files[0] != self._before.files[1]) else np.nan

    def _add_traces(self, reduced: Reduced, prompt: IntArray) -> None:
        """Add what the traces say; those of the last step wait for the next chunk, which may go on with it."""
        if self._before is None or self._before.last != reduced.sums["step"][0]:
            self._close()
        self._open.append(Rows(prompt[reduced.head.group], reduced.head.reward))
        if reduced.tail is not None:
            self._close()
            self._within = self._within.plus(reduced.middle)
            self._open.append(Rows(prompt[reduced.tail.group], reduced.tail.reward))
        if sum(len(rows.group) for rows in self._open) > _STEP_ROWS:
            self._close()

    def _close(self) -> None:
        """Add what the waiting traces say."""
        if self._open:
            self._within = self._within.plus(within(*map(np.concatenate, zip(*self._open, strict=True))))
            self._open = []


def _traces_by_step(
    chunk: Chunk, group: IntArray, step: IntArray, start: IntArray, reward: FloatArray
) -> tuple[Rows, WithinGroups, Rows | None]:
    """Traces of the first step, what those between say, and traces of the last step, from blocks of equal group.

    Rows of counts, where the order of the traces is not known, say nothing.
    """
    if chunk.selection.counts or not len(step):
        return Rows(group[:0], reward[:0]), within_none(), None
    rows = Rows(np.repeat(group, np.diff(start, append=len(step))), reward)
    others = np.flatnonzero(step != step[0])
    if not len(others):
        return rows, within_none(), None
    low, high = int(others[0]), int(np.flatnonzero(step != step[-1])[-1]) + 1
    cuts = (slice(low), slice(low, high), slice(high, None))
    head, middle, tail = (Rows(rows.group[cut], rows.reward[cut]) for cut in cuts)
    return head, within(*middle), tail


def _enters(chunk: Chunk, rows: IntArray) -> BoolArray:
    """Where rows of a chunk are the first, or the first of another file."""
    enters = np.zeros(len(rows), dtype=bool)
    if isinstance(chunk.source, np.ndarray):
        files = chunk.source[rows]
        enters[1:] = files[1:] != files[:-1]
    enters[:1] = True
    return enters


def _keys(texts: pl.Series) -> tuple[pl.Series, dict[str, str]]:
    """Keys of prompts, and loose forms of those that are known by their digests, where the texts differ from them."""
    if not (texts.str.len_bytes() > _LONGEST_KEY).any():
        return texts, {}
    keys, forms = [], {}
    for text in texts.to_list():
        keys.append(prompt_key(text))
        if len(text) > _LONGEST_KEY and (form := loose(text)) != text:
            forms[keys[-1]] = prompt_key(form)
    return pl.Series(keys, dtype=pl.String), forms


def _rewards(chunk: Chunk) -> pl.Series:
    """The weighted sum of the rewards that are there, null if none is."""
    weighted = [numbers(chunk, name) * weight for name, weight in chunk.selection.rewards.items()]
    if len(weighted) == 1:
        return weighted[0]
    there = pl.any_horizontal(pl.all().is_not_null())
    return pl.DataFrame(weighted).select(pl.when(there).then(pl.sum_horizontal(pl.all()))).to_series()


def _traces(chunk: Chunk, origin: float) -> dict[str, AnyArray]:
    """n, s and ss of rows that hold one trace each."""
    reward = _rewards(chunk)
    s = reward.fill_null(origin).to_numpy() - origin
    return {"n": reward.is_not_null().cast(pl.Int64).to_numpy(), "s": s, "ss": s * s}


def _counts(chunk: Chunk) -> dict[str, AnyArray]:
    """n, s and ss of rows that hold a group each: the number of its traces and of the correct ones."""
    assert chunk.selection.counts
    correct, traces = (integers(chunk, name, optional=True) for name in chunk.selection.counts)
    name = chunk.selection.counts[0]
    refuse(chunk, name, (correct > traces).fill_null(False), f"at most {chunk.selection.counts[1]}")
    n = traces.set(correct.is_null() | traces.is_null(), 0)
    s = correct.set(n == 0, 0).cast(pl.Float64).to_numpy()
    return {"n": n.to_numpy(), "s": s, "ss": s}


def _from_1(step: IntArray) -> IntArray:
    """Steps counted from the first one; the ranks of steps that lie too far apart for that."""
    from_first = step - step.min()
    if from_first.max() < LAST_STEP:
        return np.asarray(from_first + 1)
    return np.asarray(np.unique(step, return_inverse=True)[1] + 1, np.int64)
