"""Distance to the k-th nearest design point."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray, IntArray
from kernadv.kernels import KERNELS
from kernadv.regressors._sample import Points
from kernadv.regressors._series import lay_out

#: Queries whose neighbours are looked at together.
QUERIES = 4096


def neighbour_distance(points: Points, at: Points, k: int, *, distinct: bool) -> FloatArray:
    """Distance to the k-th nearest point of the query's series; never 0.  # (m,)

    Parameters
    ----------
    points : Points of n design points
    at : Points of m queries
        Those of unseen series get any distance.
    k : int
        At most the number of points of each series.
    distinct : bool
        Points in the same place count once.
    """
    known = at.known
    out = np.ones(len(at.x))
    if not known.any():
        return out
    asked = at.take(known)
    everything = np.concatenate([points.x, asked.x])
    diameter = float(np.linalg.norm(np.ptp(everything, axis=0)))
    x, q = lay_out(points, asked, KERNELS["uniform"], 2.0 * diameter + 1.0)
    places, first = np.unique(x, axis=0, return_index=True)
    distance = _kth(places, points.x[first], q, asked.x, k) if distinct else _kth(x, points.x, q, asked.x, k)
    alone = np.flatnonzero(distance == 0.0)
    if len(alone):
        nearest = _kth(places, points.x[first], q[alone], asked.x[alone], min(2, len(places)))
        distance[alone] = np.where((nearest > 0.0) & (nearest <= diameter), nearest, 1.0)
    out[known] = distance
    return out


def checked_metric(metric: Any, points: Points) -> Any:
    """The metric, or an error if no neighbours can be found with it.

    Raises
    ------
    ArgumentError
        If it is unknown, or there are series, which only Euclidean distances keep apart.
    """
    if isinstance(metric, str) and metric == "euclidean":
        return metric
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


def metric_distance(points: Points, at: Points, k: int, metric: Any, *, distinct: bool) -> FloatArray:
    """The same for another distance, of `checked_metric`, without series.  # (m,)

    Parameters
    ----------
    points, at, k, distinct
        As in `neighbour_distance`.
    metric : str or callable
        See `sklearn.metrics.pairwise_distances`.
    """
    places = np.unique(points.x, axis=0) if distinct else points.x
    search = NearestNeighbors(n_neighbors=k, metric=metric).fit(places)
    out: FloatArray = search.kneighbors(at.x)[0][:, -1]
    for q in np.flatnonzero(out <= 0.0):
        apart = pairwise_distances(at.x[q : q + 1], places, metric=metric)
        out[q] = apart[apart > 0.0].min(initial=np.inf)
    return np.where(np.isfinite(out), out, 1.0)


def _kth(places: FloatArray, x: FloatArray, q: FloatArray, at: FloatArray, k: int) -> FloatArray:
    """Largest distance among the k nearest places, from the coordinates before they were laid out.  # (m,)"""
    search = NearestNeighbors(n_neighbors=k).fit(places)
    out = np.empty(len(q))
    for batch in gen_batches(len(q), QUERIES):
        index: IntArray = search.kneighbors(q[batch], return_distance=False)
        square = np.zeros(index.shape)
        for i in range(x.shape[1]):
            square += (x[index, i] - at[batch, i, None]) ** 2
        out[batch] = np.sqrt(square.max(axis=1))
    return out
