"""Noise of the responses around their curve, without a smoother: from neighbours on a line or in space."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from kernadv._errors import ArgumentError
from kernadv.typing import FloatArray

#: Distances within this ratio are ties, so that rounding does not break the ties of a regular grid.
TIE = 1.0 + 1e-9


def difference_variance(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean square of ``(a y_(i-1) + b y_(i+1) - y_i) / sqrt(a^2 / w_(i-1) + b^2 / w_(i+1) + 1 / w_i)``.  # (C,)

    ``a y_(i-1) + b y_(i+1)`` is the line through the neighbours of x_i, at x_i.  Responses at one x are replicates.  Their
    squares about their weighted mean, the pure error, are added, with one degree of freedom less than there are of them; the
    mean, with their total weight, is then the only response there.  So the order of the rows does not matter.

    Parameters
    ----------
    x : (n,)
    y : (n, C)
    weights : (n,)
        All positive, inversely proportional to the variances of the responses; the result is the variance at weight 1.

    Raises
    ------
    ArgumentError
        If there are fewer than three distinct x and no two responses at one x.

    References
    ----------
    Gasser, Sroka and Jennen-Steinmetz (1986), Residual variance and residual pattern in nonlinear regression,
    Biometrika 73.
    Draper and Smith (1998), Applied Regression Analysis, section 2.1 (pure error).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.0, 1.0, 2.0]), np.array([[1.0], [3.0], [1.0]])
    >>> float(difference_variance(x, y, np.ones(3))[0])  # (1 - 3)^2 / (1/4 + 1/4 + 1)
    2.6666666666666665
    >>> float(difference_variance(np.zeros(3), y, np.ones(3))[0])  # sum (y - 5/3)^2 / 2
    1.3333333333333335
    """
    order = np.argsort(x, kind="stable")
    x, y, w = x[order], y[order], weights[order]
    new = np.append(True, np.diff(x) > 0.0)
    first, place = np.flatnonzero(new), np.cumsum(new) - 1
    spots = len(first)
    freedom = len(x) - spots + max(spots - 2, 0)
    if freedom < 1:
        raise ArgumentError(f"difference-based variance needs at least 3 points on a line, or ties, got {len(x)}")
    squares = np.zeros(y.shape[1])
    if spots < len(x):
        total = np.add.reduceat(w, first)
        mean = np.add.reduceat(w[:, None] * y, first) / total[:, None]
        squares += w @ (y - mean[place]) ** 2
        x, y, w = x[first], mean, total
    right = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    left = 1.0 - right
    residual = left[:, None] * y[:-2] + right[:, None] * y[2:] - y[1:-1]
    scale = left**2 / w[:-2] + right**2 / w[2:] + 1.0 / w[1:-1]
    return np.asarray((squares + (residual**2 / scale[:, None]).sum(0)) / freedom)


def neighbour_residuals(x: FloatArray, y: FloatArray, neighbours: int, weights: FloatArray | None = None) -> FloatArray:
    """``e_j = sqrt(W / (W + w_j)) (y_j - weighted mean of the J nearest other responses)``; NaN if alone.  # (n, C)

    W is the sum of their weights, J if all are 1.  E e_j^2 is the variance of y_j if m, and the variance times the weight,
    hardly change between neighbours.  J is `neighbours`; ties at the J-th distance all count; small samples have fewer.

    Parameters
    ----------
    x : (n, d)
        Design points, in units that make distances comparable.
    y : (n, C)
    neighbours : int
    weights : (n,), optional
        Inversely proportional to the variances of responses at one x; default 1.

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
