"""Distance to the k-th nearest design point."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray, IntArray
from kernadv.bandwidth._line import nearest
from kernadv.bandwidth._sample import Sample

#: Queries whose distances to all points are held at once.
ROWS = 256


def neighbour_distance(sample: Sample, k: int, at: FloatArray | None = None) -> FloatArray:
    """Distance of each query to the k-th nearest point of its series, always positive.  # (m,)

    Where the k nearest are all at distance 0, the next one apart is taken; in a series of fewer points, the furthest.

    Parameters
    ----------
    sample : Sample
    k : int
        Neighbours, at least 1; a point counts as its own first one.
    at : (m, d), optional
        Queries to a sample of one series; default: the design points.
    """
    line = sample.x.shape[1] == 1
    queries = sample.x if at is None else at
    series = sample.series if at is None else np.zeros(len(at), np.int64)
    find = _on_a_line if line else _by_blocks
    distance = find(sample, queries, series, k)
    size = int(np.bincount(sample.series).max())
    zero = np.flatnonzero(distance <= 0.0)
    while len(zero) and k < size:
        k = min(2 * k, size)
        distance[zero] = find(sample, queries[zero], series[zero], k)
        zero = zero[distance[zero] <= 0.0]
    distance[zero] = sample.span.max()
    return distance


def _on_a_line(sample: Sample, queries: FloatArray, series: IntArray, k: int) -> FloatArray:
    """By bisection."""
    return nearest(sample.x[:, 0], sample.series, queries[:, 0], series, k)


def _by_blocks(sample: Sample, queries: FloatArray, series: IntArray, k: int) -> FloatArray:
    """From all distances, a block of queries at a time."""
    out = np.empty(len(queries))
    sizes = np.bincount(sample.series)
    for low in range(0, len(queries), ROWS):
        part = slice(low, low + ROWS)
        difference = np.abs(queries[part, None] - sample.x)
        distance = np.linalg.norm(difference, axis=2) if sample.how.radial else difference.max(2)
        distance[series[part, None] != sample.series] = np.inf
        distance.sort(axis=1)
        out[part] = distance[np.arange(len(distance)), np.minimum(k, sizes[series[part]]) - 1]
    return out
