"""Nearest neighbours: the distance to the k-th, and weights inversely proportional to the distance.

All points at the k-th distance count, so the order of the rows does not matter.  If k points or more lie at the query, the
distance is 0 and they are the whole window (see `kernadv.regression.local.polynomial.smooth`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from kernadv._errors import ArgumentError
from kernadv._jit import compiled
from kernadv.kernels import TIE, Kernel
from kernadv.regression._threads import blocks
from kernadv.regression.local.moments import ascending
from kernadv.regression.series import Points, common
from kernadv.typing import FloatArray, IntArray

#: Distances held at once, 16 MB.
BLOCK = 2_000_000
#: Trees are slower than matrix products in more dimensions than this.
DIMENSIONS = 15
#: Most neighbours whose rows are kept; windows of more are as fast without.
FEW = 20
#: Candidates beyond k, since the rounding of these products may change the order.
SPARE = 8
#: Distances that are the difference on a line, and that trees can use.
DIFFERENCES = ("euclidean", "chebyshev")
#: Other names of the Euclidean distance.
EUCLIDEAN = ("euclidean", "l2", "minkowski")
#: These distances are 1 minus a quotient: smaller values are rounding errors of 0.
ROUNDING = {"cosine": 1e-14, "correlation": 1e-14}


@dataclass(frozen=True)
class InverseDistance(Kernel):
    """``K(u) = 1 / |u|`` on [-1, 1], infinite at 0: a point at the query itself takes all the weight.

    Only for neighbours: with a fixed bandwidth its moments are infinite.

    References
    ----------
    Shepard (1968), A two-dimensional interpolation function for irregularly-spaced data, Proceedings of the 23rd ACM
    National Conference.
    """

    closed = True
    name = "inverse_distance"

    def formula(self, u: Any, xp: Any) -> Any:
        """K at 0 <= u <= 1."""
        return xp.where(u > 0.0, 1.0 / xp.where(u > 0.0, u, 1.0), math.inf)

    def moment(self, k: int) -> float:
        """mu_k = 1 / k."""
        return 1.0 / k if k > 0 else math.inf

    def square_moment(self, k: int) -> float:
        """nu_k = 1 / (k - 1)."""
        return 1.0 / (k - 1) if k > 1 else math.inf


def nearest(x: FloatArray, series: IntArray, queries: FloatArray, query_series: IntArray, k: int) -> FloatArray:
    """Distance to the k-th nearest point of the same series, or to the furthest of fewer.  # (m,)

    Finds the k nearest points, which are consecutive, by bisection in O(m log n).

    Parameters
    ----------
    x : (n,) ascending within each series
    series : (n,) int ascending
    queries : (m,)
    query_series : (m,) int
    k : int
    """
    begin, end = np.searchsorted(series, query_series, "left"), np.searchsorted(series, query_series, "right")
    out = np.empty(len(queries))
    _nearest(x, queries, begin, end, k, out)
    return out


@compiled()
def _nearest(x: FloatArray, queries: FloatArray, begin: IntArray, end: IntArray, k: int, out: FloatArray) -> None:
    for m in range(len(queries)):
        q, count = queries[m], min(k, end[m] - begin[m])
        low, high = begin[m], end[m] - count
        while low < high:
            middle = (low + high) // 2
            if q - x[middle] > x[middle + count] - q:
                low = middle + 1
            else:
                high = middle
        out[m] = max(abs(q - x[low]), abs(x[low + count - 1] - q))


def neighbour_distance(
    x: FloatArray,
    series: IntArray | None,
    at: FloatArray,
    asked: IntArray | None,
    k: int,
    metric: Any = "euclidean",
    *,
    distinct: bool = False,
) -> FloatArray:
    """Distance to the k-th nearest point of the query's series, or to the furthest of fewer.  # (m,)

    It is 0 if k points lie at the query, and 1 for queries of series without points.

    Parameters
    ----------
    x : (n, d)
    series : (n,) int, or None
        Series of each point, from 0 on; None: there is only one.
    at : (m, d)
    asked : (m,) int, or None
        Series of each query; negative: of none.
    k : int
        Neighbours, at least 1; a point counts as its own first one.
    metric : str or callable
        Of `checked_metric`, or "chebyshev", the largest difference of a coordinate.
    distinct : bool
        Points in the same place count once.
    """
    if series is None and x.shape[1] == 1 and metric in DIFFERENCES and not distinct:
        z = x[ascending(x[:, 0]), 0]
        out = np.empty(len(at))
        _nearest(z, at[:, 0], np.zeros(len(at), np.int64), np.full(len(at), len(z)), k, out)
        return out
    series = np.zeros(len(x), np.int64) if series is None else series
    asked = np.zeros(len(at), np.int64) if asked is None else asked
    if distinct:
        places = np.unique(np.column_stack([series, x]), axis=0)
        series, x = places[:, 0].astype(np.int64), places[:, 1:]
    out = np.ones(len(at))
    if x.shape[1] == 1 and metric in DIFFERENCES:
        order, known = np.lexsort((x[:, 0], series)), np.isin(asked, series)
        out[known] = nearest(x[order, 0], series[order], at[known, 0], asked[known], k)
        return out
    own, queries = common(series, asked)
    for s in range(len(own.begin) - 1):
        points, rows = x[own.own(s, s + 1)], queries.own(s, s + 1)
        out[rows] = _kth(points, at[rows], min(k, len(points)), metric)
    return out


def checked_metric(metric: Any, points: Points) -> Any:
    """The metric by its usual name, or an error if neighbours cannot be found with it.

    Raises
    ------
    ArgumentError
        If it is unknown, or there are series, which are kept apart only for the Euclidean distance.
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


def distances(at: FloatArray, x: FloatArray, metric: Any) -> FloatArray:
    """Distances of queries and points in a metric of `checked_metric`.  # (m, n)

    Parameters
    ----------
    at : (m, d)
    x : (n, d)
    metric : str or callable
    """
    if metric == "euclidean":
        return np.asarray(cdist(at, x))  # written out: that of scikit-learn loses digits between points that are close
    out: FloatArray = pairwise_distances(at, x, metric=metric)
    if isinstance(metric, str) and metric in ROUNDING:
        out[out < ROUNDING[metric]] = 0.0
    return out


def searchable(x: FloatArray, k: int) -> bool:
    """Whether the rows of the k nearest points are few, and a tree finds them sooner than all distances do."""
    return 1 < x.shape[1] <= DIMENSIONS and 2 * k < len(x) and k <= FEW


def nearest_in(tree: cKDTree, q: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Distance of each query to the k-th nearest point (m,), and rows of the k nearest (m, k); -1 where others are as near.

    So it is where all k lie at the query.
    """
    distance, near = tree.query(q, k=k + 1, workers=numba.config.NUMBA_NUM_THREADS)
    unsure = (distance[:, k] <= distance[:, k - 1] * (1.0 + 2.0 * TIE)) | (distance[:, k - 1] == 0.0)
    near = near[:, :k].astype(np.int64)
    near[unsure] = -1
    return np.ascontiguousarray(distance[:, k - 1]), near


def _kth(x: FloatArray, q: FloatArray, k: int, metric: Any) -> FloatArray:
    """Distance of each query to the k-th nearest point.  # (m,)"""
    if callable(metric):
        return np.asarray(NearestNeighbors(n_neighbors=k, metric=metric).fit(x).kneighbors(q)[0][:, -1])
    if metric in DIFFERENCES and 2 * k < len(x):
        if x.shape[1] <= DIMENSIONS:
            return np.asarray(cKDTree(x).query(q, k=[k], p=2 if metric == "euclidean" else np.inf)[0][:, 0])
        if metric == "euclidean":
            return _from_products(x, q, k)
    out = np.empty(len(q))
    for batch in blocks(len(q), BLOCK // len(x)):
        out[batch] = np.partition(distances(q[batch], x, metric), k - 1, axis=1)[:, k - 1]
    return out


def _from_products(x: FloatArray, q: FloatArray, k: int) -> FloatArray:
    """From candidates by a matrix product, ``|q - x|^2 = |q|^2 + |x|^2 - 2 q x``, and their distances written out.

    The product loses digits between points that are close.  Where it does not prove that the k nearest points are among the
    candidates, all distances are computed.
    """
    centre = x.mean(0)
    near, asked = x - centre, q - centre
    search = NearestNeighbors(n_neighbors=min(k + SPARE, len(x)), algorithm="brute").fit(near)
    largest = float((near * near).sum(1).max())
    out = np.empty(len(q))
    for batch in blocks(len(q), BLOCK // (search.n_neighbors * x.shape[1])):
        found, index = search.kneighbors(asked[batch])
        chosen: IntArray = index
        own = np.sqrt(((x[chosen] - q[batch, None]) ** 2).sum(2))
        out[batch] = np.partition(own, k - 1, axis=1)[:, k - 1]
        slack = 8.0 * np.finfo(np.float64).eps * x.shape[1] * (largest + (asked[batch] ** 2).sum(1))
        unsure = np.flatnonzero(found[:, -1] ** 2 - slack < out[batch] ** 2) + batch.start
        if len(unsure):
            out[unsure] = np.partition(cdist(q[unsure], x), k - 1, axis=1)[:, k - 1]
    return out
