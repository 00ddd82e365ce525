"""What the inference functions share: the fit they look at, and their result."""

from __future__ import annotations

from typing import NamedTuple

from kernadv._typing import FloatArray, IntArray
from kernadv.smoothers.local_polynomial import LocalPolynomialFit


class Fit(NamedTuple):
    """A smoother, its data and its bandwidth.

    Attributes
    ----------
    how : LocalPolynomialFit
    x : (n, d)
    y : (n, C)
    weights : (n,)
    bandwidth : (d,)
    cluster : (n,) int or None
        Cluster of each point, for cluster-robust variances.
    """

    how: LocalPolynomialFit
    x: FloatArray
    y: FloatArray
    weights: FloatArray
    bandwidth: FloatArray
    cluster: IntArray | None = None


class Interval(NamedTuple):
    """Intervals at m queries for C responses.

    Attributes
    ----------
    estimate, low, high : (m, C) float64
        NaN where undefined.
    covers : {"regression function", "smoothed target"}
        What the interval covers with the stated level: m(x) itself, or E of the estimate, which is m smoothed.
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    covers: str
