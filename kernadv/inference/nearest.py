"""Variance of each response from its nearest neighbours in x: no smoother, hence no smoothing bias."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from kernadv._typing import FloatArray, IntArray

#: Distances within this ratio are ties, so that a regular grid has them whatever its rounding errors.
TIE = 1.0 + 1e-9


def neighbour_residuals(x: FloatArray, y: FloatArray, neighbours: int) -> FloatArray:
    """``e_j = sqrt(J / (J + 1)) (y_j - mean of the J nearest other responses)``, with all ties; NaN if alone.  # (n, C)

    E e_j^2 is the variance of y_j when m and the variance hardly change between neighbours.  J is `neighbours`, more with
    ties at the J-th distance, fewer if the sample is that small.

    Parameters
    ----------
    x : (n, d)
        Design points, in units in which distances compare.
    y : (n, C)
    neighbours : int

    References
    ----------
    Abadie and Imbens (2006), Large sample properties of matching estimators, Econometrica 74, section 4.
    Calonico, Cattaneo and Farrell (2018), JASA 113, supplement (nearest-neighbour residuals, J = 3).
    """
    nearest = min(neighbours, len(x) - 1)
    if nearest < 1:
        return np.full(y.shape, np.nan)
    total, count = _on_line(x[:, 0], y, nearest) if x.shape[1] == 1 else _in_space(x, y, nearest)
    found = count[:, None]
    return np.asarray(np.sqrt(found / (found + 1.0)) * (y - total / found))


def _on_line(x: FloatArray, y: FloatArray, nearest: int) -> tuple[FloatArray, IntArray]:
    """Sum and number of the neighbouring responses on a line, from running sums."""
    order = np.argsort(x, kind="stable")
    z, v = x[order], y[order]
    beyond = np.full(nearest, np.inf)
    padded = np.concatenate([-beyond, z, beyond])
    lags = [lag for lag in range(-nearest, nearest + 1) if lag]
    gaps = np.stack([np.abs(padded[nearest + lag : nearest + lag + len(z)] - z) for lag in lags])
    reach = np.partition(gaps, nearest - 1, axis=0)[nearest - 1] * TIE
    low, high = np.searchsorted(z, z - reach, "left"), np.searchsorted(z, z + reach, "right")
    sums = np.concatenate([np.zeros((1, y.shape[1])), np.cumsum(v, axis=0)])
    total, count = np.empty(y.shape), np.empty(len(x), np.int64)
    total[order] = sums[high] - sums[low] - v
    count[order] = high - low - 1
    return total, count


def _in_space(x: FloatArray, y: FloatArray, nearest: int) -> tuple[FloatArray, IntArray]:
    """Sum and number of the neighbouring responses in several dimensions, from a tree."""
    tree = cKDTree(x)
    reach = tree.query(x, k=nearest + 1)[0][:, -1] * TIE
    balls = tree.query_ball_point(x, reach)
    count = np.array([len(ball) for ball in balls], np.int64)
    total = np.add.reduceat(y[np.concatenate(balls)], np.cumsum(count) - count, axis=0) - y
    return total, count - 1
