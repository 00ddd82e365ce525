"""Columns of a chunk, checked and converted: the only place where values of a log are judged."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from kernadv._arrays import LARGEST_REWARD
from kernadv._errors import LogError
from kernadv.logs._base import Chunk

_MISSING = ("", "na", "n/a", "nan", "null", "none")
_NUMBER = "a finite number, a boolean, or nothing (an unscorable row)"
_INTEGER = "an integer >= 0"
_PROMPT = "a prompt id or the text of the prompt"


def numbers(chunk: Chunk, column: str) -> pl.Series:
    """Return a column as float64; null where the log has null, NaN or an empty text.  Booleans count as 0 and 1."""
    series = chunk.frame[column]
    out = series.cast(pl.Float64) if series.dtype == pl.Boolean else _floats(series)
    if series.dtype == pl.String and out.null_count():
        lower = series.str.strip_chars().str.to_lowercase()
        out = out.set(lower == "true", 1.0).set(lower == "false", 0.0)
    huge = (out.abs() > LARGEST_REWARD).fill_null(False)
    refuse(chunk, column, (out.is_null() & ~_missing(series)) | huge, _NUMBER)
    return out


def integers(chunk: Chunk, column: str, *, optional: bool = False) -> pl.Series:
    """Return a column of integers >= 0 as int64; integral floats and strings of digits are accepted.

    With `optional`, missing values are null in the result; otherwise they are refused.
    """
    series = chunk.frame[column]
    if series.dtype.is_integer():
        out = series.cast(pl.Int64, strict=False)
    else:
        floats = _floats(series)
        out = floats.cast(pl.Int64, strict=False)
        out = out.set(out.cast(pl.Float64) != floats, None)
        if series.dtype == pl.String:  # a float would round integers beyond 2^53
            exact = series.str.strip_chars().str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
            out = exact.zip_with(exact.is_not_null(), out)
    bad = out.is_null() | (out < 0).fill_null(False)
    expected = _INTEGER
    if column == chunk.selection.step:
        expected += f" (times, and other numbers, become steps with --step-every 1h, or --map step=rank:{column})"
    refuse(chunk, column, bad & ~_missing(series) if optional else bad, expected)
    return out


def prompt_texts(chunk: Chunk) -> tuple[pl.Series, bool]:
    """Return the prompts as strings, and whether they are integer ids; a list of messages gets one canonical text."""
    column = chunk.selection.prompt
    series = chunk.frame[column]
    if series.dtype.is_float():
        whole = series == series.floor()
        texts = (
            series.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(False), series.cast(pl.String))
        )
        refuse(chunk, column, texts.is_null() | _not_a_number(series), _PROMPT)
        return texts, bool(whole.all())
    if series.dtype.is_nested():
        texts = canonical_texts(series)
    elif series.dtype == pl.Binary:
        texts = pl.Series([None] * len(series), dtype=pl.String)
    else:
        texts = series.cast(pl.String, strict=False)
    refuse(chunk, column, texts.is_null() | _not_a_number(series), _PROMPT)
    return texts, series.dtype.is_integer()


def canonical(value: Any) -> str:
    """Return one text for equal messages: sorted keys, no white space, absent and null fields alike."""
    return json.dumps(_without_nulls(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def canonical_texts(series: pl.Series) -> pl.Series:
    """Return the canonical text of each entry of a nested column, null for null."""
    texts = [None if item is None else canonical(item) for item in series.to_list()]
    return pl.Series(series.name, texts, dtype=pl.String)


def refuse(chunk: Chunk, column: str, bad: pl.Series, expected: str) -> None:
    """Raise a LogError that shows the first bad value of a column and its row, if there is one."""
    if bad.any():
        at = int(bad.arg_max() or 0)
        shown = repr(chunk.frame[column][at])
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        raise LogError(f"{chunk.place(at)}: column {column!r} must hold {expected}, got {shown}")


def _floats(series: pl.Series) -> pl.Series:
    """Convert numbers, and texts that are numbers, to float64; null for anything else, and for NaN."""
    if series.dtype == pl.String:
        return series.str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)
    if series.dtype.is_numeric():
        return series.cast(pl.Float64).fill_nan(None)
    return pl.Series(series.name, [None] * len(series), dtype=pl.Float64)


def _missing(series: pl.Series) -> pl.Series:
    """Where the log says that there is no value."""
    if series.dtype == pl.String:
        return series.is_null() | series.str.strip_chars().str.to_lowercase().is_in(_MISSING)
    return series.is_null() | _not_a_number(series)


def _not_a_number(series: pl.Series) -> pl.Series:
    if series.dtype.is_float():
        return series.is_nan().fill_null(False)
    return pl.repeat(False, len(series), eager=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value]
    return value
