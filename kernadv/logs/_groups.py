"""A row that is a group: a list of rewards becomes a row a trace, the mean of 0/1 rewards their counts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl

from kernadv._errors import LogError
from kernadv.logs._base import Chunk, Query, some
from kernadv.logs._columns import POSITION
from kernadv.logs._values import canonical, numbers, refuse

#: A mean of G rewards, times G, is this close to a whole number.
_WHOLE = 1e-4
_COUNTS = ("number of right traces", "number of traces")
_LIST = (
    "a number, or a list of numbers, which are the rewards of a group, one a trace; of values of tokens, turns or fields, "
    "log the one reward of the trace"
)


def ungrouped(chunk: Chunk, query: Query) -> Chunk:
    """Return a chunk whose rows are traces, or groups with counts.

    Raises
    ------
    LogError
        If lists hold something else than numbers, those of a row differ in length, or a reward is not the mean of `traces`
        rewards of 0 or 1.
    """
    chunk = _unlisted(chunk, query)
    if chunk.selection.counts or (query.traces is None and chunk.selection.step != POSITION):
        return chunk
    if len(chunk.selection.rewards) > 1:
        raise LogError(f"{query.source}: traces needs one reward column; choose with --reward COLUMN")
    (column,) = chunk.selection.rewards
    means = numbers(chunk, column)
    if query.traces is None:
        expected = "0 or 1; if it is a mean of G rewards of 0 or 1, say --traces G, and if not, --traces 1"
        refuse(chunk, column, ~means.is_in([0.0, 1.0]) & means.is_not_null(), expected)
        return chunk
    if query.traces == 1:
        return chunk
    right = (means * query.traces).round()
    off = (right - means * query.traces).abs() > _WHOLE
    expected = f"the mean of {query.traces} rewards of 0 or 1"
    refuse(chunk, column, (off | (means < 0) | (means > 1)).fill_null(False), expected)
    counts = [right.alias(_COUNTS[0]), pl.repeat(query.traces, len(right), eager=True).alias(_COUNTS[1])]
    selection = replace(chunk.selection, rewards={}, counts=_COUNTS)
    return chunk._replace(frame=chunk.frame.with_columns(counts), selection=selection)


def _unlisted(chunk: Chunk, query: Query) -> Chunk:
    """Return a chunk with a row for each entry of the lists of rewards."""
    selection = chunk.selection
    for name in {selection.step, selection.value, *(selection.counts or ())} - {None}:
        _refuse_nested(chunk, name, "a number in each row")
    of_traces = [*selection.rewards, *([selection.weight] if selection.weight else [])]
    lists = {name: found for name in of_traces if (found := _lists(chunk, name)) is not None}
    if not lists:
        return chunk
    lengths = {name: found.list.len().fill_null(1).clip(1).to_numpy() for name, found in lists.items()}
    first, length = next(iter(lengths.items()))
    for name in of_traces:
        other = lengths.get(name, np.ones_like(length))
        if (other != length).any():
            at = int((other != length).argmax())
            raise LogError(
                f"{chunk.place(at)}: columns {first!r} and {name!r} must hold lists of the same length, got lengths "
                f"{length[at]} and {other[at]}"
            )
    query.notes.add(f"a row is a group, with one reward a trace in the list of {', '.join(lists)}")
    rows = chunk.take(np.repeat(np.arange(len(length)), length))
    frame = rows.frame.with_columns(_flat(found) for found in lists.values())
    return rows._replace(frame=frame)


def _flat(lists: pl.Series) -> pl.Series:
    """Entries of lists, one after the other; null for a list without any."""
    nothing = pl.repeat(None, len(lists), dtype=lists.dtype, eager=True)
    return lists.zip_with(lists.list.len().fill_null(0) > 0, nothing).explode()


def _lists(chunk: Chunk, name: str) -> pl.Series | None:
    """Return the lists of numbers of a column; None if it has no lists."""
    series = chunk.frame[name]
    if series.dtype == pl.String and series.str.starts_with("[").any():
        return pl.Series(name, [_parsed(chunk, name, k, text) for k, text in enumerate(series)], pl.List(pl.String))
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if isinstance(series.dtype, pl.List):
        inner = series.dtype.inner
        if inner in (pl.Boolean, pl.Null) or (isinstance(inner, pl.DataType) and inner.is_numeric()):
            return series.cast(pl.List(pl.Float64))
    _refuse_nested(chunk, name, _LIST)
    return None


def _parsed(chunk: Chunk, name: str, at: int, text: str | None) -> list[str | None] | None:
    """Entries of a list written as JSON, as texts."""
    if text is None or not text.startswith("["):
        return [text]
    try:
        entries = json.loads(text)
    except ValueError:
        entries = [text]
    if not all(entry is None or isinstance(entry, (int, float)) for entry in entries):
        raise _nested(chunk, name, at, _LIST)
    return [None if entry is None else repr(entry) for entry in entries]


def _refuse_nested(chunk: Chunk, name: str, expected: str) -> None:
    """Raise if the column holds lists or structures."""
    series = chunk.frame[name]
    if series.dtype.is_nested() and series.null_count() < len(series):
        raise _nested(chunk, name, int(series.is_not_null().arg_max() or 0), expected)


def _nested(chunk: Chunk, name: str, at: int, expected: str) -> LogError:
    series = chunk.frame[name]
    fields = [f"{name}.{field.name}" for field in series.dtype.fields] if isinstance(series.dtype, pl.Struct) else []
    hint = f". Fields found, to be named as columns: {some(fields)}" if fields else ""
    shown = canonical(series[at : at + 1].to_list()[0])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return LogError(f"{chunk.place(at)}: column {name!r} must hold {expected}, got {shown}{hint}")
