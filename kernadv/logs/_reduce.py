"""From chunks of rows to groups: every chunk is reduced at once, and partial sums are merged now and then."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from itertools import count

import numpy as np
import polars as pl

from kernadv._errors import LogError
from kernadv._typing import IntArray
from kernadv.groups import Groups, aggregate
from kernadv.logs._base import Chunk, Query, RewardLog, without_rows
from kernadv.logs._values import integers, numbers, prompt_texts, refuse

_PENDING = 1 << 21
#: A longer text of a prompt is known by its digest.
_LONGEST_KEY = 64


def prompt_key(text: str) -> str:
    """Return a text of at most 64 characters as it is, a longer one as ``sha256:<hex digest>``: stable across runs."""
    if len(text) <= _LONGEST_KEY:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class PromptIndex:
    """Row numbers of prompts, in their order of appearance; of a long text only its digest is remembered."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, int] = defaultdict(count().__next__)
        self._integral = True

    def rows(self, texts: pl.Series, integral: bool) -> IntArray:
        """Return the row number of each prompt; a new prompt gets the next one.

        Parameters
        ----------
        texts : (M,) Series of str
            Prompts, see `prompt_texts`.
        integral : bool
            Whether the log holds them as integers.
        """
        self._integral &= integral
        short = not (texts.str.len_bytes() > _LONGEST_KEY).any()
        keys = texts.to_list() if short else map(prompt_key, texts.to_list())
        return np.fromiter(map(self._rows.__getitem__, keys), dtype=np.int64, count=len(texts))

    def ids(self) -> list[str] | list[int]:
        """Return the id of each row: integers if the whole log has integers, strings otherwise."""
        return list(map(int, self._rows)) if self._integral else list(self._rows)


class Reducer:
    """Running sums of a log.  Memory grows with the number of groups and prompts, not with the number of rows."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._index = PromptIndex()
        self._parts: list[pl.DataFrame] = []  # columns prompt, step, n, s, ss and, when asked for, value
        self._pending = self._merged = 0
        self.n_rows = 0

    def add(self, chunk: Chunk) -> None:
        """Reduce one chunk to a row per (prompt, step) and keep that."""
        self.n_rows += len(chunk.frame)
        texts, integral = prompt_texts(chunk)
        sums = _counts(chunk) if chunk.selection.counts else _traces(chunk)
        rows = pl.DataFrame({"prompt": texts, "step": integers(chunk, chunk.selection.step), **sums})
        if chunk.selection.value:
            value = numbers(chunk, chunk.selection.value).fill_null(float("nan"))
            rows = rows.with_columns(value=value * rows["n"])
        usable = rows.filter(pl.col("n") > 0)
        self._query.notes.add("rows without a reward, dropped: {n}", len(rows) - len(usable))
        if len(usable):
            part = usable.group_by("prompt", "step", maintain_order=True).sum()
            self._parts.append(part.with_columns(prompt=self._index.rows(part["prompt"], integral)))
            self._pending += len(part)
        if self._pending > max(_PENDING, self._merged):
            self._merge()

    def finish(self, format: str) -> RewardLog:
        """Return the log.

        Raises
        ------
        LogError
            If no row can be used.
        """
        if not self._parts:
            if not self.n_rows:
                raise without_rows(self._query.source)
            raise LogError(
                f"{self._query.source}: none of the {self.n_rows:,} rows has a reward (all are null or NaN); check the "
                "reward column"
            )
        merged = self._merge()
        value = merged["value"].to_numpy() / merged["n"].to_numpy() if "value" in merged.columns else None
        groups = Groups(*(merged[name].to_numpy() for name in Groups._fields))
        if groups.step.min() == 0:
            groups = groups._replace(step=groups.step + 1)
            self._query.notes.add("the steps of the log start at 0: all are shifted by 1")
        notes = self._query.notes.texts()
        return RewardLog(groups, self._index.ids(), value, self.n_rows, format, self._query.source, notes)

    def _merge(self) -> pl.DataFrame:
        """Merge the rows of equal (prompt, step) and return them sorted."""
        rows = pl.concat(self._parts)
        self._parts.clear()
        prompt, step, n, s, ss = (rows[name].to_numpy() for name in Groups._fields)
        merged = pl.DataFrame(aggregate(prompt, step, n, s, ss)._asdict())
        if "value" in rows.columns:
            value = rows["value"].to_numpy()
            merged = merged.with_columns(value=aggregate(prompt, step, n, value, value).s)
        self._parts.append(merged)
        self._pending, self._merged = 0, len(merged)
        return merged


def _traces(chunk: Chunk) -> dict[str, pl.Series]:
    """n, s and ss of rows that hold one trace each: the weighted sum of the rewards that are there."""
    weighted = [numbers(chunk, name) * weight for name, weight in chunk.selection.rewards.items()]
    if len(weighted) == 1:
        reward = weighted[0]
    else:
        reward = (
            pl.DataFrame(weighted)
            .select(pl.when(pl.any_horizontal(pl.all().is_not_null())).then(pl.sum_horizontal(pl.all())))
            .to_series()
        )
    s = reward.fill_null(0.0)
    return {"n": reward.is_not_null().cast(pl.Int64), "s": s, "ss": s * s}


def _counts(chunk: Chunk) -> dict[str, pl.Series]:
    """n, s and ss of rows that hold a group each: the number of its traces and of the correct ones."""
    assert chunk.selection.counts
    correct, traces = (integers(chunk, name, optional=True) for name in chunk.selection.counts)
    name = chunk.selection.counts[0]
    refuse(chunk, name, (correct > traces).fill_null(False), f"at most {chunk.selection.counts[1]}")
    n = traces.set(correct.is_null() | traces.is_null(), 0)
    s = correct.set(n == 0, 0).cast(pl.Float64)
    return {"n": n, "s": s, "ss": s}
