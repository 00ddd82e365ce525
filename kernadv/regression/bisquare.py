"""Robust steps: responses far from their fit count less in the next one.

References
----------
Cleveland (1979), Robust locally weighted regression and smoothing scatterplots, JASA 74.
Cleveland and Grosse (1991), Computational methods for local regression, Statistics and Computing 1 (pseudovalues).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Residuals of this many median absolute residuals have no weight.
REACH = 6.0
#: Shares of that reach below which the weight is 1, and above which it is 0, as in lowess.
INSIDE, OUTSIDE = 0.001, 0.999
#: The fit is exact if the reach is below this share of the mean absolute residual, as in lowess.
EXACT = 1e-7


class Robust(NamedTuple):
    """The outcome of the steps for one response at n design points.

    Attributes
    ----------
    weights : (n,) float64
        Bisquare weights of the last fit, 0 to 1.
    pseudovalues : (n,) float64
        Responses whose plain linear fit has about the value and the variance of the robust one.
    """

    weights: FloatArray
    pseudovalues: FloatArray


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def robust_steps(fit: LinearSmoother, steps: int) -> Robust:
    """Fit, weigh each response by its residual, and fit again, `steps` times.

    The weight is ``(1 - (e / 6s)^2)^2``, and 0 from 6s on, where s is the median absolute residual of the point's series.
    Points without an estimate keep the weight that they have.  Where s is 0, more than half of the residuals are, and the
    steps end.

    The pseudovalues are ``yhat + c w e`` with the residual e and the weight w of the last fit.  c is n over the sum of the
    derivatives of ``e w(e)``, with s from the residuals times the roots of the observation weights.

    Parameters
    ----------
    fit : LinearSmoother
        Of one response, with its bandwidths at the design points.
    steps : int

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.kernels import get
    >>> from kernadv.regression import LinearSmoother, LocalPolynomialSpec
    >>> x = np.zeros((5, 1))
    >>> y = np.array([[0.0], [1.0], [2.0], [3.0], [94.0]])
    >>> mean = LinearSmoother(LocalPolynomialSpec(get("uniform")), x, y, np.ones(5), np.array([1.0]))
    >>> robust_steps(mean, 6).weights.round(3)
    array([0.945, 0.994, 0.994, 0.945, 0.   ])
    """
    y, points, weights = fit.y[:, 0], fit.points, np.ones(len(fit.y))
    series = np.zeros(len(y), np.int64) if fit.series is None else fit.series
    value = fit.estimate(points).value[:, 0]
    for _ in range(steps):
        reach, known = _reach(np.abs(y - value), series)
        if not known.any():
            break
        weights = np.where(known, _bisquare(np.abs(y - value) / reach), weights)
        value = replace(fit, weights=fit.weights * weights).estimate(points).value[:, 0]
    residual = y - value
    size = np.abs(residual) * np.sqrt(fit.weights / fit.weights.mean())
    reach, known = _reach(size, series)
    change = np.where(known, np.sqrt(weights) * (1.0 - 5.0 * (size / reach) ** 2), 1.0)
    count, total = np.bincount(series), np.bincount(series, change)
    return Robust(weights, np.where(np.isnan(value), y, value + (count / total)[series] * weights * residual))


def _bisquare(share: FloatArray) -> FloatArray:
    weight = (1.0 - np.minimum(share, 1.0) ** 2) ** 2
    return np.where(share <= INSIDE, 1.0, np.where(share > OUTSIDE, 0.0, weight))


def _reach(size: FloatArray, series: IntArray) -> tuple[FloatArray, BoolArray]:
    """Six median sizes (n,) of each point's series, and whether the point has a size (n,) and its series is not exact."""
    reach = np.full(len(size), np.nan)
    for own in np.unique(series):
        rows = np.flatnonzero((series == own) & ~np.isnan(size))
        if len(rows):
            six = REACH * float(np.median(size[rows]))
            reach[rows] = six if six > EXACT * float(size[rows].mean()) else np.nan
    return reach, ~np.isnan(reach)
