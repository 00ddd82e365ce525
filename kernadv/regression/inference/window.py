"""Intervals around an estimate; NaN, or wider, where the responses in its window say too little."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaincinv, stdtrit

from kernadv._jit import compiled
from kernadv.regression.inference._base import Interval
from kernadv.regression.local._pairs import Pairs, over_windows
from kernadv.regression.local.moments import in_units
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Responses at one place from which their mean has an interval of its own.
REPLICATES = 5
#: An interval this many times as wide as the range of the responses in its window is undefined.
WIDEST = 100.0
#: Points with less than this share of the largest kernel weight are not in the window.
NEGLIGIBLE = 1e-6
#: Ranges of responses, and half-widths, below this share of the range of all of them are rounding errors.
ROUNDING = 1e-12


def extremes(fit: LinearSmoother, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The smallest and the largest response in the window of each query; NaN where it is empty.  # (m, C) each"""
    order, spec = np.argsort(fit.x[:, 0], kind="stable"), fit.spec
    z, q, _ = in_units(fit.x[order], at, fit.bandwidth)
    low, high = (np.full((len(at), fit.y.shape[1]), np.nan) for _ in range(2))

    def part(own: slice, pairs: Pairs, channels: FloatArray) -> None:
        _find_extremes(pairs.weight, *pairs[2:], channels, low[own], high[own])

    channels = np.concatenate([fit.weights[None], fit.y.T])[:, order]
    over_windows(part, z, channels, q, spec.kernel, None, spec.radial, spec.past)
    return low, high


@compiled()
def _find_extremes(
    weight: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    channels: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> None:
    start = 0
    for m in range(begin, upto):
        largest = 0.0
        for p in range(start, ends[m]):
            largest = max(largest, weight[p] * channels[0, point[p]])
        for p in range(start, ends[m]):
            each = weight[p] * channels[0, point[p]]
            if each > 0.0 and each > NEGLIGIBLE * largest:
                for c in range(low.shape[1]):
                    y = channels[1 + c, point[p]]
                    low[m, c] = y if not low[m, c] <= y else low[m, c]
                    high[m, c] = y if not high[m, c] >= y else high[m, c]
        start = ends[m]


def of_places(fit: LinearSmoother, at: Any, tail: float, found: Interval) -> Interval[FloatArray]:
    """The interval, and where it is undefined that of the mean of the responses at the query itself, if these are enough.

    Their mean is unbiased, and its limits are those of Student's t: for x that takes few values, whose windows hold too few
    places for a correction of the bias.

    Parameters
    ----------
    fit : LinearSmoother
    at : Points, or (m, d) array
    tail : float
    found : Interval of these queries
    """
    undefined = np.isnan(found.low)
    if not undefined.any():
        return found
    if not isinstance(at, Points):
        at = Points(fit.queries(at), np.empty((len(at), 0), np.int64), None)
    query, place = _places(at, fit.points)
    count, weight = np.bincount(place, minlength=1 + query.max()), fit.weights
    total = np.bincount(place, weight, len(count))
    estimate, low, high = (limit.copy() for limit in found[:3])
    for c, y in enumerate(fit.y.T):
        rows = np.flatnonzero(undefined[:, c] & (count[query] >= REPLICATES))
        mean = np.bincount(place, weight * y, len(count)) / np.where(total > 0.0, total, 1.0)
        square = np.bincount(place, weight * (y - mean[place]) ** 2, len(count))
        freedom = np.maximum(count - 1.0, 1.0)
        half = stdtrit(freedom, 1.0 - tail) * np.sqrt(square / freedom / np.where(total > 0.0, total, 1.0))
        rows = rows[half[query[rows]] > ROUNDING * np.ptp(y)]
        estimate[rows, c] = mean[query[rows]]
        low[rows, c], high[rows, c] = estimate[rows, c] - half[query[rows]], estimate[rows, c] + half[query[rows]]
    return Interval(estimate, low, high, found.covers)


def replicated(fit: LinearSmoother) -> bool:
    """Whether responses at some place are enough for an interval of their mean."""
    return bool(np.bincount(_places(fit.points, fit.points)[1]).max() >= REPLICATES)


def _places(at: Points, own: Points) -> tuple[IntArray, IntArray]:
    """The same number for queries and points in the same place, of the same series and levels.  # (m,), (n,)"""
    columns = [np.concatenate([at.x, own.x]) + 0.0, np.concatenate([at.levels, own.levels])]  # -0 is 0
    if at.series is not None and own.series is not None:
        columns.append(np.concatenate([at.series, own.series])[:, None])
    number = np.unique(np.hstack(columns), axis=0, return_inverse=True)[1].ravel()
    return number[: len(at.x)], number[len(at.x) :]


def in_window(weight: FloatArray) -> BoolArray:
    """Which points of a query (or of each row) have a weight that counts."""
    weight = np.abs(weight)
    return np.asarray((weight > 0.0) & (weight > NEGLIGIBLE * weight.max(axis=-1, initial=0.0, keepdims=True)))


def interval_around(
    estimate: FloatArray,
    half: FloatArray | tuple[FloatArray, FloatArray],
    y: FloatArray,
    window: tuple[FloatArray, FloatArray],
    size: FloatArray,
    tail: float | FloatArray,
    covers: str,
) -> Interval[FloatArray]:
    """``estimate -+ half``, or less one half and plus another, with two exceptions.

    * Where that is more than 100 times as wide as the range of the responses in its window: NaN.
    * Where it has no width because all responses in the window are the same, though others differ: the window shows no
      noise, but there may be some.  If more than a share q of such responses differed, one would have been seen; q is the
      upper limit of Jeffreys for none in n_eff.  The limits are the means of responses of which a share q is as small, or
      as large, as any.

    Parameters
    ----------
    estimate : (m, C)
    half : (m, C), or two of them
    y : (n, C)
        All responses.
    window : (m, C) and (m, C)
        The smallest and the largest response in each window.
    size : (m,)
        n_eff.
    tail : float or (C,)
        Chance of an error on one side.
    covers : str
    """
    below, above = half if isinstance(half, tuple) else (half, half)
    lower, upper, least, most = estimate - below, estimate + above, y.min(axis=0), y.max(axis=0)
    (low, high), rounding = window, ROUNDING * (most - least)
    seen = np.where(high - low > rounding, high - low, most - least)
    undecided = (upper - lower > WIDEST * seen) & (most > least)
    agree = (high - low <= rounding) & (upper - lower <= rounding) & (most > least)
    lower, upper = (np.where(undecided, np.nan, limit) for limit in (lower, upper))
    if agree.any():
        share = betaincinv(0.5, 0.5 + size[:, None], 1.0 - np.asarray(tail))
        lower = np.where(agree, low - share * (low - least), lower)
        upper = np.where(agree, high + share * (most - high), upper)
    return Interval(estimate, lower, upper, covers)
