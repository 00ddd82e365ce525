"""Variance of each response from its nearest neighbours in x: no smoother, hence no smoothing bias."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from kernadv._typing import FloatArray

#: Distances within this ratio are ties, so that a regular grid has them whatever its rounding errors.
TIE = 1.0 + 1e-9


def neighbour_residuals(x: FloatArray, y: FloatArray, neighbours: int, weights: FloatArray | None = None) -> FloatArray:
    """``e_j = sqrt(W / (W + w_j)) (y_j - weighted mean of the J nearest other responses)``; NaN if alone.  # (n, C)

    W is the sum of their weights: J, if all are 1.  E e_j^2 is the variance of y_j when m and the variance times the weight
    hardly change between neighbours.  J is `neighbours`, more with ties at the J-th distance, which all count, fewer if the
    sample is that small.

    Parameters
    ----------
    x : (n, d)
        Design points, in units in which distances compare.
    y : (n, C)
    neighbours : int
    weights : (n,), optional
        The variances of responses at one x are in inverse proportion; default 1.

    References
    ----------
    Abadie and Imbens (2006), Large sample properties of matching estimators, Econometrica 74, section 4.
    Calonico, Cattaneo and Farrell (2018), JASA 113, supplement (nearest-neighbour residuals, J = 3).
    """
    nearest = min(neighbours, len(x) - 1)
    if nearest < 1:
        return np.full(y.shape, np.nan)
    w = np.ones(len(x)) if weights is None else weights
    own = np.column_stack([w, w[:, None] * y])
    others = _on_line(x[:, 0], own, nearest) if x.shape[1] == 1 else _in_space(x, own, nearest)
    weight = others[:, :1]
    return np.asarray(np.sqrt(weight / (weight + own[:, :1])) * (y - others[:, 1:] / weight))


def _on_line(x: FloatArray, values: FloatArray, nearest: int) -> FloatArray:
    """Sums of the values of the neighbours on a line, from running sums.  # like values"""
    order = np.argsort(x, kind="stable")
    z, v = x[order], values[order]
    beyond = np.full(nearest, np.inf)
    padded = np.concatenate([-beyond, z, beyond])
    lags = [lag for lag in range(-nearest, nearest + 1) if lag]
    gaps = np.stack([np.abs(padded[nearest + lag : nearest + lag + len(z)] - z) for lag in lags])
    reach = np.partition(gaps, nearest - 1, axis=0)[nearest - 1] * TIE
    low, high = np.searchsorted(z, z - reach, "left"), np.searchsorted(z, z + reach, "right")
    sums = np.zeros((len(v) + 1, v.shape[1]))
    np.cumsum(v, axis=0, out=sums[1:])
    total = np.empty(v.shape)
    total[order] = sums[high] - sums[low] - v
    return total


def _in_space(x: FloatArray, values: FloatArray, nearest: int) -> FloatArray:
    """Sums of the values of the neighbours in several dimensions, from a tree.  # like values"""
    tree = cKDTree(x)
    reach = tree.query(x, k=nearest + 1)[0][:, -1] * TIE
    balls = tree.query_ball_point(x, reach)
    count = np.array([len(ball) for ball in balls])
    return np.asarray(np.add.reduceat(values[np.concatenate(balls)], np.cumsum(count) - count, axis=0) - values)
