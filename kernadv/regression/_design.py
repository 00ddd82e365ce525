"""What a design may be given as, a line, a Series, times, rows with missing values, becomes columns of numbers."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length

from kernadv._arrays import is_tensor
from kernadv._errors import ArgumentError
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray

#: What to do about rows with missing values.
MISSING = ("raise", "drop")
#: Columns of times are counted from here, in this unit.
EPOCH, DAY = np.datetime64(0, "D"), np.timedelta64(1, "D")
#: Kinds of columns by numpy's letter.
KINDS = {"M": "times", "m": "durations"}
DURATIONS = (datetime.timedelta, np.timedelta64)


def as_columns(X: Any) -> Any:
    """X, or one column of it if it is one-dimensional: a list, an array, a tensor, or a Series, whose name is kept."""
    if is_tensor(X) or isinstance(X, np.ndarray):
        return X[:, None] if X.ndim == 1 else X
    if hasattr(X, "columns"):
        return X
    if hasattr(X, "to_frame") and getattr(X, "name", None) != "":
        return X.to_frame()
    if getattr(X, "ndim", 1) != 1:
        return X
    try:
        array = np.asarray(X)
    except ValueError:  # rows of several lengths: the error is that of the check
        return X
    return array[:, None] if array.ndim == 1 else X


def query_columns(X: Any, columns: int) -> Any:
    """The queries of a fit of so many columns, as columns; one-dimensional ones are those of one column.

    Raises
    ------
    ArgumentError
        If they are one-dimensional and the fit had several columns.
    """
    if columns != 1 and not hasattr(X, "columns") and as_columns(X) is not X:
        raise ArgumentError(
            f"X is one-dimensional, and the fit had {columns} columns. Reshape your data: one query is X.reshape(1, -1), "
            f"several are (m, {columns})"
        )
    return as_columns(X)


def response_names(y: Any, columns: int) -> list[str]:
    """Names of the responses: those of a Series or a data frame, else "y", or the numbers of several columns."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return [name if isinstance(name, str) and name else "y"] if columns == 1 else [str(c) for c in range(columns)]


def days(times: AnyArray) -> FloatArray:
    """Times as days since 1970-01-01, durations as days, the same numbers from every unit; NaT becomes NaN."""
    whole = times.astype(f"{times.dtype.kind}8[D]")
    start = EPOCH if times.dtype.kind == "M" else 0 * DAY
    return np.asarray((whole - start) / DAY + (times - whole) / DAY)


def without_times(X: Any) -> tuple[Any, dict[int, str]]:
    """X with numbers instead of times and durations, see `days`, and which columns these were, by `KINDS`.

    Times with a zone are those of UTC.
    """
    if hasattr(X, "columns"):
        names = list(X.columns)
        found = {j: times for j in range(len(names)) if (times := _times(_column(X, j))) is not None}
        if found and hasattr(X, "isetitem"):
            X = X.copy(deep=False)
            for j, times in found.items():
                X.isetitem(j, days(times))
        elif found:
            X = X.with_columns(**{names[j]: days(times) for j, times in found.items()})
    else:
        array = np.asarray(X) if isinstance(X, (list, tuple, np.ndarray)) else None
        if array is None or array.ndim != 2 or array.dtype.kind not in "mMO":
            return X, {}
        found = {j: times for j in range(array.shape[1]) if (times := _times(array[:, j])) is not None}
        if found:
            X = array.astype(object)
            for j, times in found.items():
                X[:, j] = days(times)
    return X, {j: times.dtype.kind for j, times in found.items()}


def check_times(found: dict[int, str], fitted: dict[int, str]) -> None:
    """Raise if queries hold times where the fit did not; numbers are taken as days.

    Raises
    ------
    ArgumentError
    """
    for j, kind in found.items():
        if fitted.get(j) != kind:
            raise ArgumentError(
                f"column {j} was {KINDS.get(fitted.get(j, ''), 'numbers')} in fitting, got {KINDS[kind]}; give the same, "
                "or days since 1970-01-01"
            )


def in_days(bandwidth: Any, times: Collection[int], columns: int) -> Any:
    """A bandwidth with days instead of durations, one for all columns or one a column; anything else as it is.

    Raises
    ------
    ArgumentError
        If a duration is given for a column that holds no times.
    """
    alone = isinstance(bandwidth, DURATIONS)
    if not alone and not (isinstance(bandwidth, (list, tuple, np.ndarray)) and np.ndim(bandwidth) == 1):
        return bandwidth
    each = [bandwidth] * columns if alone else list(bandwidth)
    for j, one in enumerate(each):
        if isinstance(one, DURATIONS) and j not in times:
            raise ArgumentError(f"bandwidth {one!r} is a duration, and column {j} holds no times; give a number")
    if not any(isinstance(one, DURATIONS) for one in each):
        return bandwidth
    return [float(days(np.array(one, "timedelta64[ns]"))) if isinstance(one, DURATIONS) else one for one in each]


def _column(X: Any, j: int) -> Any:
    return X.iloc[:, j] if hasattr(X, "iloc") else X[X.columns[j]]


def _times(column: Any) -> AnyArray | None:
    """A column of times or durations as numpy has them, or None."""
    kind = getattr(column.dtype, "kind", None)
    if kind == "M" and getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert(None)
    if kind is None and not (hasattr(column.dtype, "is_temporal") and column.dtype.is_temporal()):
        return None
    if kind not in (None, "m", "M", "O"):
        return None
    array = column if isinstance(column, np.ndarray) else column.to_numpy()
    if array.dtype.kind == "O":
        first = next((value for value in array if value is not None and value == value), None)
        if isinstance(first, (datetime.date, np.datetime64)):
            array = np.array([_utc(value) for value in array], "datetime64[us]")
        elif isinstance(first, DURATIONS):
            array = array.astype("timedelta64[us]")
    return array if array.dtype.kind in "mM" else None


def _utc(time: Any) -> Any:
    """A time as it is, or if it has a zone that of UTC without one."""
    zone = getattr(time, "tzinfo", None)
    return time if zone is None else time.astimezone(datetime.UTC).replace(tzinfo=None)


def missing_rows(values: Any) -> BoolArray:
    """Rows that hold NaN, NaT, None, NA, or are masked.  # (n,)"""
    if hasattr(values, "isna"):
        found = np.asarray(values.isna())
    elif hasattr(values, "columns"):
        found = np.column_stack([missing_rows(values[name]) for name in values.columns])
    else:
        array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
        if array.dtype.kind in "fcmM":
            found = np.isnan(array) if array.dtype.kind in "fc" else np.isnat(array)
        elif array.dtype.kind == "O":
            absent = [value is None or type(value).__name__ == "NAType" or bool(value != value) for value in array.flat]
            found = np.array(absent, np.bool_).reshape(array.shape)
        else:
            found = np.zeros(array.shape, np.bool_)
        found = found | values.mask if isinstance(values, np.ma.MaskedArray) else found
    return np.asarray(found.reshape(len(found), -1).any(axis=1))


def take_rows(values: Any, rows: IntArray) -> Any:
    """Some rows of anything with rows; a number or None as it is."""
    return values if values is None or np.ndim(values) == 0 else _safe_indexing(values, rows)


def complete_rows(X: Any, *others: Any) -> IntArray:
    """Rows in which nothing is missing.  # (k,)

    Raises
    ------
    ArgumentError
        If there is none.
    """
    each = [X, *(one for one in others if one is not None and np.ndim(one))]
    check_consistent_length(*each)
    absent = np.logical_or.reduce([missing_rows(one) for one in each])
    if absent.all() and len(absent):
        raise ArgumentError(f"each of the {len(absent)} rows has a missing value: missing='drop' leaves none")
    return np.flatnonzero(~absent)
