"""Many series in one smooth: laid out along the first dimension, so far apart that no window meets two."""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.kernels import Exponential, Kernel
from kernadv.regressors._sample import Points

#: exp(-this) is 0 in float64.
UNDERFLOW = 750.0


def lay_out(points: Points, at: Points, kernel: Kernel, width: float) -> tuple[FloatArray, FloatArray]:
    """Coordinates in which smoothing all points is smoothing each series by itself.

    Every series is centred, to keep its digits, and moved along the first dimension.  Between two series lies more than
    the distance at which a weight is 0 in floating point.  Positions keep an absolute precision of 1e-16 times the length of
    all series together.

    Parameters
    ----------
    points : Points of n design points
    at : Points of m queries
        Those of unseen series may lie anywhere.
    kernel : Kernel
    width : float
        Largest bandwidth in the first dimension.

    Returns
    -------
    x : (n, d)
    at : (m, d)
    """
    if points.series is None or at.series is None:
        return points.x, at.x
    code, asked = points.series, np.maximum(at.series, 0)
    count = np.bincount(code)
    centre = np.bincount(code, points.x[:, 0]) / count
    x, q = points.x[:, 0] - centre[code], np.where(at.known, at.x[:, 0] - centre[asked], 0.0)
    low, high = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    for values, series in ((x, code), (q, asked)):
        np.minimum.at(low, series, values)
        np.maximum.at(high, series, values)
    span = high - low
    room = span + _gap(kernel, width)
    start = np.concatenate([[0.0], np.cumsum(room[:-1])]) - low
    return (
        np.column_stack([x + start[code], points.x[:, 1:]]),
        np.column_stack([q + start[asked], at.x[:, 1:]]),
    )


def _gap(kernel: Kernel, width: float) -> float:
    """Distance at which a weight is exactly 0."""
    if np.isfinite(kernel.support):
        return 1.01 * kernel.support * width
    return width * (UNDERFLOW / -log(kernel.rho) if isinstance(kernel, Exponential) else sqrt(2.0 * UNDERFLOW))


def has_past(points: Points, at: Points) -> BoolArray:
    """Whether a point of the query's series lies at or before it in the first dimension.  # (m,)"""
    code = np.zeros(len(points.x), np.int64) if points.series is None else points.series
    asked = np.zeros(len(at.x), np.int64) if at.series is None else np.maximum(at.series, 0)
    first = np.full(int(code.max()) + 1, np.inf)
    np.minimum.at(first, code, points.x[:, 0])
    return np.asarray(first[asked] <= at.x[:, 0])
