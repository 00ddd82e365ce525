"""Local polynomials from linearly binned data, the approximation that the plug-in rule is defined with.

References
----------
Fan and Marron (1994), Fast implementations of nonparametric curve estimators, JCGS 3.
Wand and Jones (1995), Kernel Smoothing, appendix D.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._typing import FloatArray

#: Lag, in standard deviations, at which the Gaussian weights are cut.
CUT = 4.0


class Bins(NamedTuple):
    """Sums of linearly binned data on M equally spaced grid points.

    Attributes
    ----------
    step : float
        Distance of the grid points.
    counts : (M,)
        Weights.
    sums : (C, M)
        Weighted responses.
    """

    step: float
    counts: FloatArray
    sums: FloatArray


def linear_bins(x: FloatArray, y: FloatArray, weights: FloatArray, size: int) -> Bins:
    """Share every point between the two grid points around it, in proportion to its nearness.

    Parameters
    ----------
    x : (n,) ascending
    y : (n, C)
    weights : (n,)
    size : int
        M; the grid spans the range of x.
    """
    step = float(x[-1] - x[0]) / (size - 1)
    place = (x - x[0]) / step
    left = np.minimum(place.astype(np.int64), size - 2)
    share = np.clip(place - left, 0.0, 1.0)
    table = np.zeros((1 + y.shape[1], size))
    for row, values in zip(table, [weights, *(weights * y.T)], strict=True):
        row += np.bincount(left, (1.0 - share) * values, size) + np.bincount(left + 1, share * values, size)
    return Bins(step, table[0], table[1:])


class BinnedFit(NamedTuple):
    """Local polynomial fit at the grid points.

    Attributes
    ----------
    value : (C, M)
        Estimate of the derivative.
    leverage, norm : (M,)
        ``l_g(g)`` and ``sum_j l_j(g)^2`` of a point at the grid point.
    """

    value: FloatArray
    leverage: FloatArray
    norm: FloatArray


def binned_fit(bins: Bins, bandwidth: float, degree: int, derivative: int) -> BinnedFit:
    """Gaussian local polynomial of a degree: its derivative of an order at every grid point."""
    half = min(int(CUT * bandwidth / bins.step), len(bins.counts) - 1)
    lag = np.arange(-half, half + 1) * (bins.step / bandwidth)
    weight = np.exp(-0.5 * lag * lag)
    order = 2 * degree + 1
    s = np.stack([_moving(weight * lag**k, bins.counts) for k in range(order)])
    s2 = np.stack([_moving(weight**2 * lag**k, bins.counts) for k in range(order)])
    t = np.stack([[_moving(weight * lag**k, row) for k in range(degree + 1)] for row in bins.sums])  # (C, p + 1, M)
    index = np.add.outer(np.arange(degree + 1), np.arange(degree + 1))
    inverse = np.linalg.pinv(s[index].transpose(2, 0, 1), hermitian=True)  # (M, p + 1, p + 1)
    row = inverse[:, derivative]
    factor = float(np.prod(np.arange(1, derivative + 1))) / bandwidth**derivative
    value = factor * np.einsum("ma,cam->cm", row, t)
    norm = np.einsum("ma,mab,mb->m", row, s2[index].transpose(2, 0, 1), row)
    return BinnedFit(value, factor * row[:, 0], factor**2 * norm)


def _moving(weight: FloatArray, values: FloatArray) -> FloatArray:
    """``sum_l weight_l values_(g + l)`` at every grid point g.  # (M,)"""
    half = len(weight) // 2
    return np.asarray(np.convolve(values, weight[::-1])[half : half + len(values)], dtype=np.float64)
