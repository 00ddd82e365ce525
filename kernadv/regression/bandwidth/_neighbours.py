"""Distance to the k-th nearest design point."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._line import nearest
from kernadv.regression.bandwidth._sample import Sample

#: Queries whose distances to all points are held at once.
ROWS = 256


def neighbour_distance(sample: Sample, k: int, at: FloatArray | None = None) -> FloatArray:
    """Distance of each query to the k-th nearest point of its series; 0 if k points lie at the query.  # (m,)

    In a series of fewer points, to the furthest.  For radial kernels it is Euclidean, for products the largest difference of
    a coordinate.

    Parameters
    ----------
    sample : Sample
    k : int
        Neighbours, at least 1; a point counts as its own first one.
    at : (m, d), optional
        Queries to a sample of one series; default: the design points.
    """
    queries = sample.x if at is None else at
    series = sample.series if at is None else np.zeros(len(at), np.int64)
    if sample.x.shape[1] == 1:
        return nearest(sample.x[:, 0], sample.series, queries[:, 0], series, k)
    out = np.empty(len(queries))
    sizes = np.bincount(sample.series)
    for low in range(0, len(queries), ROWS):
        part = slice(low, low + ROWS)
        difference = np.abs(queries[part, None] - sample.x)
        distance = np.linalg.norm(difference, axis=2) if sample.spec.radial else difference.max(2)
        distance[series[part, None] != sample.series] = np.inf
        distance.sort(axis=1)
        out[part] = distance[np.arange(len(distance)), np.minimum(k, sizes[series[part]]) - 1]
    return out
