"""Are the residuals correlated along their series?  Then use the hac, cluster or block variants, or a smaller bandwidth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, check_count
from kernadv.typing import FloatArray, IntArray


class Autocorrelation(NamedTuple):
    """Autocorrelations of the residuals of S series.

    Attributes
    ----------
    series : (S,)
        Labels, ascending.
    points : (S,) int
        Distinct times.
    correlation : (S, L) float64
        At lags 1 to L; NaN for a constant series, and where the series is not longer than the lag.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import autocorrelation
    >>> residual = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    >>> found = autocorrelation(residual, np.tile(np.arange(4.0), 2), lags=1, series=np.repeat([0, 1], 4))
    >>> found.points, found.correlation[:, 0], found.pooled
    (array([4, 4]), array([-0.75,  0.25]), array([-0.25]))
    """

    series: IntArray
    points: IntArray
    correlation: FloatArray

    @property
    def pooled(self) -> FloatArray:
        """Mean over the series, weighted by their points.  # (L,)"""
        weight = np.where(np.isnan(self.correlation), 0.0, self.points[:, None])
        total = weight.sum(0)
        return np.asarray((weight * np.nan_to_num(self.correlation)).sum(0) / np.where(total > 0, total, np.nan))


class Portmanteau(NamedTuple):
    """Ljung-Box test of S series.

    Attributes
    ----------
    series : (S,)
    statistic, p_value : (S,) float64
        NaN for a constant series, and for one with no more points than lags.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import ljung_box
    >>> noise = np.random.default_rng(0).normal(size=200)
    >>> test = ljung_box(noise, np.arange(200.0), lags=5)
    >>> bool(test.p_value[0] > 0.05)  # nothing to see
    True
    """

    series: IntArray
    statistic: FloatArray
    p_value: FloatArray


def autocorrelation(
    residual: FloatArray, time: FloatArray, lags: int = 10, series: IntArray | None = None
) -> Autocorrelation:
    """``r_k = sum_t e_t e_{t-k} / sum_t e_t^2`` of each series, its mean removed; all series in one pass.

    **Covers** neither target: it tests the noise model behind the intervals.  Lags count distinct times, not distances.
    Residuals that share a series and a time count as one, their sum over the square root of their number: if they are
    independent, that has the variance of a single residual.  Too little smoothing makes r_1 negative, too much positive.

    Parameters
    ----------
    residual : (n,)
    time : (n,)
        Orders the points of a series.
    lags : int
        L.
    series : (n,) int, optional
        Default: one series.

    Raises
    ------
    ArgumentError
        Lengths that differ, residuals that are not finite, lags below 1.

    References
    ----------
    Box and Jenkins (1970), Time Series Analysis: Forecasting and Control, section 2.1.
    Driscoll and Kraay (1998), Review of Economics and Statistics 80 (sums at each time).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import autocorrelation
    >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), np.arange(4.0), lags=2).correlation  # -3/4 and 2/4
    array([[-0.75,  0.5 ]])
    """
    check_count(lags, "lags")
    residual, time = check_floats(residual, "residual"), check_floats(time, "time")
    label = np.zeros(residual.shape, np.int64) if series is None else np.asarray(series)
    if residual.ndim != 1 or time.shape != residual.shape or label.shape != residual.shape:
        raise ArgumentError(
            f"expected one residual, time and series a point, got shapes {residual.shape}, {time.shape}, {label.shape}"
        )
    if not len(residual) or not (np.isfinite(residual).all() and np.isfinite(time).all()):
        raise ArgumentError("residuals and times must be finite, and at least one; leave out undefined ones")
    order = np.lexsort((time, label))
    names, code, points = np.unique(label[order], return_inverse=True, return_counts=True)
    value = residual[order]
    centred = value - (np.bincount(code, value) / points)[code]
    centred[np.abs(centred) <= 1e-12 * np.abs(value)] = 0.0  # a constant series has rounding errors, no correlation
    new = np.append(True, (np.diff(time[order]) != 0.0) | (np.diff(code) > 0))
    first = np.flatnonzero(new)
    centred = np.add.reduceat(centred, first) / np.sqrt(np.diff(first, append=len(value)))
    code = code[first]
    points = np.bincount(code)
    energy = np.bincount(code, centred**2)
    out = np.full((len(names), lags), np.nan)
    for lag in range(1, min(lags, len(centred) - 1) + 1):
        product = np.where(code[lag:] == code[:-lag], centred[lag:] * centred[:-lag], 0.0)
        known = (energy > 0.0) & (points > lag)
        out[known, lag - 1] = np.bincount(code[lag:], product, len(names))[known] / energy[known]
    return Autocorrelation(names, points, out)


def ljung_box(
    residual: FloatArray,
    time: FloatArray,
    lags: int = 10,
    series: IntArray | None = None,
    fitted: int = 0,
) -> Portmanteau:
    """``Q = n (n + 2) sum_{k=1}^L r_k^2 / (n - k)`` of each series, against chi^2 with L - fitted degrees of freedom.

    **Covers** neither target: small p-values say that the intervals for independent responses are too short.

    Parameters
    ----------
    residual, time, lags, series
        As in `autocorrelation`.
    fitted : int
        Parameters fitted to the noise; 0 to lags - 1.

    References
    ----------
    Ljung and Box (1978), On a measure of lack of fit in time series models, Biometrika 65.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import ljung_box
    >>> test = ljung_box(np.tile([1.0, -1.0], 20), np.arange(40.0), lags=1)
    >>> round(float(test.statistic[0]), 4)  # 40 * 42 * (39 / 40)^2 / 39
    40.95
    >>> bool(test.p_value[0] < 1e-9)
    True
    """
    if not check_count(fitted, "fitted", 0) < check_count(lags, "lags"):
        raise ArgumentError(f"fitted must lie between 0 and lags - 1 = {lags - 1}, got {fitted}")
    names, points, correlation = autocorrelation(residual, time, lags, series)
    left = points[:, None] - np.arange(1.0, lags + 1)
    terms = correlation**2 / np.where(left > 0, left, np.nan)
    statistic = points * (points + 2.0) * terms.sum(1)
    return Portmanteau(names, statistic, np.asarray(chdtrc(lags - fitted, statistic)))
