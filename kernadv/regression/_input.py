"""Input of the regressors: numpy arrays, data frames and torch tensors in, the same type of numbers out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length

from kernadv._arrays import check_floats, is_tensor, read_tensor
from kernadv._errors import ArgumentError
from kernadv.regression.columns import Category
from kernadv.regression.series import Points
from kernadv.typing import AnyArray, FloatArray, IntArray

#: Largest weight; the smallest is its inverse.
EXTREME = 1e100
#: Most rows that frequencies may ask for.
ROWS = 100_000_000


def to_numpy(values: Any, name: str) -> Any:
    """A torch tensor as a numpy array in main memory; anything else as it is."""
    return read_tensor(values, name) if is_tensor(values) else values


def back(x: Any) -> Callable[[Any], Any]:
    """A function that turns float64 results, arrays or tensors, into the type of x.

    This is a tensor of its device and dtype, or an array of float32 or float64.  For integers these are float64 arrays, or
    tensors of torch's default type.
    """
    if is_tensor(x):
        like = x.detach() if x.is_floating_point() else x.detach().float()
        return lambda result: result.to(like) if is_tensor(result) else like.new_tensor(result)
    dtype = np.float32 if getattr(x, "dtype", None) == np.float32 else np.float64
    return lambda result: to_numpy(result, "the result").astype(dtype)


def ordered_levels(X: Any) -> dict[str, list[Any]]:
    """Levels of the columns of a data frame whose type has an order: ordered categories of pandas, polars' Enum."""
    found = {}
    for name in getattr(X, "columns", ()):
        dtype = getattr(X[name], "dtype", None)
        levels = getattr(dtype, "categories", None)
        if levels is not None and getattr(dtype, "ordered", True) and type(dtype).__name__ != "Categorical":
            found[name] = list(levels)
    return found


def read_points(x: AnyArray, categories: list[Category], series: IntArray | None) -> Points:
    """Split a validated design into its continuous and categorical columns."""
    if not categories:
        return Points(np.asarray(x, np.float64), np.empty((len(x), 0), np.int64), series)
    columns = [category.column for category in categories]
    rest = np.delete(x, columns, axis=1)
    continuous = check_array(rest, dtype=np.float64) if rest.shape[1] else np.empty((len(x), 0))
    levels = np.column_stack([category.code(x[:, category.column]) for category in categories])
    return Points(continuous, levels, series)


def read_response(y: Any) -> FloatArray:
    """Responses as an (n, C) array, or an `ArgumentError` if they are not numbers."""
    try:
        array = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"y must hold numbers, got {y!r:.80}") from None
    return array.reshape(len(array), -1)


def read_weights(weights: Any, x: AnyArray) -> FloatArray:
    """Observation weights divided by the largest; 1 if none are given.  # (n,)

    Raises
    ------
    ArgumentError
        If one is negative, all are 0, or their squares do not fit into floating-point numbers.
    """
    if weights is None:
        return np.ones(len(x))
    given = check_floats(to_numpy(weights, "sample_weight"), "sample_weight")
    if not given.ndim:
        given = np.full(len(x), float(given))
    if (given < 0.0).any():
        raise ArgumentError(f"sample_weight must not be negative, got {given.min()} in row {given.argmin()}")
    if given.size and not given.any():
        raise ArgumentError("sample_weight is zero in every row: nothing is left to fit")
    checked: FloatArray = np.asarray(_check_sample_weight(given, x, dtype=np.float64))
    some = checked[checked > 0.0]
    if some.max() > EXTREME or some.min() < 1.0 / EXTREME:
        raise ArgumentError(
            f"sample_weight must lie between {1.0 / EXTREME:g} and {EXTREME:g}, or be 0, got {some.min():g} to "
            f"{some.max():g}; only their ratios matter to the estimates: divide by their mean"
        )
    return np.asarray(checked / some.max())


def read_frequency(frequency: Any, x: AnyArray) -> IntArray:
    """Each row of x (n, ...) as often as its frequency says.  # (N,)

    Raises
    ------
    ArgumentError
        If there is not one frequency a row, one is negative or not whole, all are 0, or their sum is beyond `ROWS`.
    """
    given = check_floats(to_numpy(frequency, "frequency"), "frequency")
    if given.shape != (len(x),):
        raise ArgumentError(f"frequency must be one whole number a row ({len(x)}), got shape {given.shape}")
    bad = ~(np.isfinite(given) & (given >= 0.0) & (given == np.rint(given)))
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(
            f"frequency must hold whole numbers >= 0, how often each row is there, got {given[row]} in row {row}; "
            "sample_weight takes inverse variances"
        )
    if not given.any():
        raise ArgumentError("frequency is zero in every row: nothing is left to fit")
    if given.sum() > ROWS:
        raise ArgumentError(
            f"frequency asks for {given.sum():g} rows, more than {ROWS:,}; fit the mean response of each place, with "
            "these numbers as sample_weight"
        )
    return np.repeat(np.arange(len(x)), given.astype(np.int64))


def read_names(groups: Any, x: AnyArray, name: str = "groups") -> AnyArray:
    """Name of the group of each row of x, or of its cluster.  # (n,) str or int

    Raises
    ------
    ArgumentError
        If there is not one name a row.
    """
    try:
        names = np.asarray(to_numpy(groups, name))
    except ValueError:
        raise ArgumentError(f"{name} must be one str or int a row, got {groups!r:.80}") from None
    if names.dtype.kind == "O" and names.size and all(isinstance(each, str) for each in names.flat):
        names = names.astype(np.str_)  # strings of a data frame
    if names.ndim != 1 or names.dtype.kind not in "iuUb":
        raise ArgumentError(
            f"{name} must be one str or int a row, got an array of shape {names.shape} and type {names.dtype}"
        )
    check_consistent_length(x, names)
    return names


def find_groups(names: AnyArray, known: AnyArray) -> IntArray:
    """Index of each name among the groups seen in fitting, -1 for another.  # (n,)

    Raises
    ------
    ArgumentError
        If the names are text and were numbers in fitting, or the reverse.
    """
    if (known.dtype.kind == "U") != (names.dtype.kind == "U"):
        raise ArgumentError(f"groups were {known.dtype} in fitting, got {names.dtype}")
    place = np.minimum(np.searchsorted(known, names), len(known) - 1)
    return np.where(known[place] == names, place, -1).astype(np.int64)
