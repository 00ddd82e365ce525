"""Nearest points on a line."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray, IntArray


def nearest(x: FloatArray, series: IntArray, queries: FloatArray, query_series: IntArray, k: int) -> FloatArray:
    """Distance to the k-th nearest point of the same series, or to the furthest of fewer.  # (m,)

    By bisection for the k consecutive points that are nearest, in O(m log n).

    Parameters
    ----------
    x : (n,) ascending within each series
    series : (n,) int ascending
    queries : (m,)
    query_series : (m,) int
    k : int
    """
    begin, end = np.searchsorted(series, query_series, "left"), np.searchsorted(series, query_series, "right")
    count = np.minimum(k, end - begin)
    low, high = begin, end - count
    while (searching := low < high).any():
        middle = (low + high) // 2
        after = np.minimum(middle + count, len(x) - 1)
        forward = searching & (queries - x[middle] > x[after] - queries)
        high = np.where(searching & ~forward, middle, high)
        low = np.where(forward, middle + 1, low)
    return np.asarray(np.maximum(np.abs(queries - x[low]), np.abs(x[low + count - 1] - queries)))
