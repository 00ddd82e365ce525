"""Distance to the k-th nearest design point.

At the k-th distance all ties count: what is nearest does not depend on the order of the rows.  A distance of 0, where k
points or more lie at the query, stays 0: these points are then the whole window (see
`kernadv.regression.local.polynomial.smooth`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray, IntArray
from kernadv.regression.points import Points
from kernadv.regression.series import common

#: Queries whose distances to all points are held at once.
ROWS = 256
#: Distances held at once, 16 MB.
BLOCK = 2_000_000
#: Trees are slower than matrix products in more dimensions than this.
DIMENSIONS = 15
#: Candidates beyond k that the rounding of these may have pushed out of their place.
SPARE = 8
#: Other names of the Euclidean distance.
EUCLIDEAN = ("euclidean", "l2", "minkowski")
#: Distances that are 1 less a quotient: smaller ones are the rounding errors of 0.
ROUNDING = {"cosine": 1e-14, "correlation": 1e-14}


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


def window_distance(
    x: FloatArray, series: IntArray, queries: FloatArray, query_series: IntArray, k: int, *, radial: bool
) -> FloatArray:
    """Bandwidth at which a query's window reaches k points of its series; 0 if k points lie at the query.  # (m,)

    In a series of fewer points, to the furthest.  For radial kernels it is Euclidean, for products the largest difference of
    a coordinate.

    Parameters
    ----------
    x : (n, d)
        On a line ascending within each series.
    series : (n,) int ascending
    queries : (m, d)
    query_series : (m,) int
    k : int
        Neighbours, at least 1; a point counts as its own first one.
    radial : bool
    """
    if x.shape[1] == 1:
        return nearest(x[:, 0], series, queries[:, 0], query_series, k)
    out = np.empty(len(queries))
    sizes = np.bincount(series)
    for low in range(0, len(queries), ROWS):
        part = slice(low, low + ROWS)
        difference = np.abs(queries[part, None] - x)
        distance = np.linalg.norm(difference, axis=2) if radial else difference.max(2)
        distance[query_series[part, None] != series] = np.inf
        distance.sort(axis=1)
        out[part] = distance[np.arange(len(distance)), np.minimum(k, sizes[query_series[part]]) - 1]
    return out


def neighbour_distance(points: Points, at: Points, k: int, *, distinct: bool) -> FloatArray:
    """Distance to the k-th nearest point of the query's series; 0 if k points lie at the query.  # (m,)

    Parameters
    ----------
    points : Points of n design points
    at : Points of m queries
        Those of series without points get any distance.
    k : int
        At most the number of points of each series.
    distinct : bool
        Points in the same place count once.
    """
    series = np.zeros(len(points.x), np.int64) if points.series is None else points.series
    asked = np.zeros(len(at.x), np.int64) if at.series is None else at.series
    x = points.x
    if distinct:
        places = np.unique(np.column_stack([series, x]), axis=0)
        series, x = places[:, 0].astype(np.int64), places[:, 1:]
    out = np.ones(len(at.x))
    if x.shape[1] == 1:
        order, known = np.lexsort((x[:, 0], series)), np.isin(asked, series)
        out[known] = nearest(x[order, 0], series[order], at.x[known, 0], asked[known], k)
        return out
    own, queries = common(series, asked)
    for s in range(len(own.begin) - 1):
        rows = queries.own(s, s + 1)
        out[rows] = _kth(x[own.own(s, s + 1)], at.x[rows], k)
    return out


def checked_metric(metric: Any, points: Points) -> Any:
    """The metric, or an error if no neighbours can be found with it.

    Raises
    ------
    ArgumentError
        If it is unknown, or there are series, which only Euclidean distances keep apart.
    """
    if isinstance(metric, str) and metric in EUCLIDEAN:
        return EUCLIDEAN[0]
    if points.series is not None:
        raise ArgumentError(f"metric={metric!r} does not work with groups; use 'euclidean', or fit each group")
    try:
        NearestNeighbors(n_neighbors=1, metric=metric).fit(points.x[:2]).kneighbors(points.x[:1])
        pairwise_distances(points.x[:1], points.x[:2], metric=metric)
    except (TypeError, ValueError):
        raise ArgumentError(
            "metric must be a distance of sklearn.metrics.pairwise_distances that needs no parameters, or a function of "
            f"two rows, got {metric!r}; for instance 'euclidean', 'manhattan', 'cosine'"
        ) from None
    return metric


def metric_distances(at: FloatArray, x: FloatArray, metric: Any) -> FloatArray:
    """Distances of queries and points in another metric, of `checked_metric`.  # (m, n)

    Parameters
    ----------
    at : (m, d)
    x : (n, d)
    metric : str or callable
        See `sklearn.metrics.pairwise_distances`.
    """
    out: FloatArray = pairwise_distances(at, x, metric=metric)
    if isinstance(metric, str) and metric in ROUNDING:
        out[out < ROUNDING[metric]] = 0.0
    return out


def metric_distance(points: Points, at: Points, k: int, metric: Any, *, distinct: bool) -> FloatArray:
    """`neighbour_distance` in another metric, of `checked_metric`, without series.  # (m,)"""
    places = np.unique(points.x, axis=0) if distinct else points.x
    if callable(metric):
        search = NearestNeighbors(n_neighbors=k, metric=metric).fit(places)
        return np.asarray(search.kneighbors(at.x)[0][:, -1])
    out = np.empty(len(at.x))
    for batch in gen_batches(len(out), max(1, BLOCK // len(places))):
        out[batch] = np.partition(metric_distances(at.x[batch], places, metric), k - 1, axis=1)[:, k - 1]
    return out


def _kth(x: FloatArray, q: FloatArray, k: int) -> FloatArray:
    """Euclidean distance of each query to the k-th nearest point, in several dimensions.  # (m,)"""
    if 2 * k >= len(x):
        return _from_all(x, q, k)
    if x.shape[1] > DIMENSIONS:
        return _from_products(x, q, k)
    return np.asarray(cKDTree(x).query(q, k=[k])[0][:, 0])


def _from_all(x: FloatArray, q: FloatArray, k: int) -> FloatArray:
    """From all distances, a block of queries at a time."""
    out = np.empty(len(q))
    for batch in gen_batches(len(q), max(1, BLOCK // len(x))):
        out[batch] = np.partition(cdist(q[batch], x), k - 1, axis=1)[:, k - 1]
    return out


def _from_products(x: FloatArray, q: FloatArray, k: int) -> FloatArray:
    """From the candidates that a matrix product gives, ``|q - x|^2 = |q|^2 + |x|^2 - 2 q x``: their distances written out.

    The product loses digits between points that are close.  Where it does not prove that the candidates hold the k nearest
    points, all distances decide.
    """
    centre = x.mean(0)
    near, asked = x - centre, q - centre
    search = NearestNeighbors(n_neighbors=min(k + SPARE, len(x)), algorithm="brute").fit(near)
    largest = float((near * near).sum(1).max())
    out = np.empty(len(q))
    for batch in gen_batches(len(q), max(1, BLOCK // (search.n_neighbors * x.shape[1]))):
        found, index = search.kneighbors(asked[batch])
        chosen: IntArray = index
        own = np.sqrt(((x[chosen] - q[batch, None]) ** 2).sum(2))
        out[batch] = np.partition(own, k - 1, axis=1)[:, k - 1]
        slack = 8.0 * np.finfo(np.float64).eps * x.shape[1] * (largest + (asked[batch] ** 2).sum(1))
        unsure = np.flatnonzero(found[:, -1] ** 2 - slack < out[batch] ** 2) + batch.start
        if len(unsure):
            out[unsure] = _from_all(x, q[unsure], k)
    return out
