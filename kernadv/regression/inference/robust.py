"""Robust bias correction: the estimate minus an estimate of its bias, and the standard error of that difference."""

from __future__ import annotations

from dataclasses import replace
from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._errors import check_choice, check_count, check_positive
from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.regression.inference._base import checked
from kernadv.regression.inference.degrees_of_freedom import others
from kernadv.regression.inference.window import ROUNDING, in_window, kernel_weight
from kernadv.regression.local.moments import exponents
from kernadv.regression.local.polynomial import derivative_order
from kernadv.regression.noise import neighbour_residuals
from kernadv.regression.smoother import LinearSmoother

#: Kinds of residuals of the window around each query.
METHODS = ("nearest", "hc0", "hc1", "hc2", "hc3")
#: Share of the variance that the residuals of a window must show on average: with less, a nominal 95% covers 25 to 90%.
SHOWN = 0.2
#: With a smaller share the fit interpolates its window, and residuals are rounding errors.
INTERPOLATED = 1e-9


class RobustEstimate(NamedTuple):
    """The estimate and its bias-corrected form at m queries, for C responses; NaN where undefined.

    Attributes
    ----------
    conventional, conventional_error : (m, C) float64
        Degree p, bandwidth h; refers to the smoothed target.
    corrected, corrected_error : (m, C) float64
        The same less its leading bias, estimated with degree p + 1 and bandwidth b; refers to the regression function.
        The error is NaN where the fit of degree p + 1 interpolates its window.
    freedom : (m, 1) float64
        Satterthwaite degrees of freedom of `corrected_error`: few near a boundary, where few points carry the estimate.
        NaN where the fit nearly interpolates its window: for noise of one variance the residuals would show less than a
        fifth of the variance of the estimate.
    """

    conventional: FloatArray
    conventional_error: FloatArray
    corrected: FloatArray
    corrected_error: FloatArray
    freedom: FloatArray


class _Local(NamedTuple):
    """Local polynomials at all queries, in units of the bandwidth."""

    fit: LinearSmoother
    powers: IntArray  # (E, d)
    coefficients: FloatArray  # (m, E, C)
    inverse: FloatArray  # (m, E, E)
    defined: BoolArray  # (m,)


class _Window(NamedTuple):
    """One local polynomial on the points around one query: ``fitted = P Q' y``."""

    weight: FloatArray  # (k,) omega K
    monomials: FloatArray  # (k, E) P
    dual: FloatArray  # (k, E) Q
    residual: FloatArray  # (k, C)


def robust_estimate(
    fit: LinearSmoother,
    at: FloatArray,
    method: str = "hc2",
    *,
    derivative: tuple[int, ...] | None = None,
    rho: float = 1.0,
    neighbours: int = 3,
    more: int = 1,
) -> RobustEstimate:
    """Bias-correct the estimate; the standard error includes the variance of the correction.

    With hat vector l of the estimate and ``beta_a`` the coefficients of order p + 1 of a local polynomial of degree p + 1
    with bandwidth ``b = h / rho``, the corrected estimate is ``sum_j l_j y_j - sum_{|a| = p + 1} (sum_j l_j (x_j - x)^a)
    beta_a``: again linear in y.  With rho = 1 it is the fit of degree p + 1.  Both variances are ``sum_j l_j^2 e_j^2`` over
    the window, with e from the window's own polynomial (hc0 to hc3), or from nearest neighbours in the window.

    **Covers** the regression function: ``corrected +- t * corrected_error``, t the quantile of Student's t with `freedom`.
    ``conventional +- z * conventional_error`` covers the smoothed target.

    Parameters
    ----------
    fit : LinearSmoother
        Of degree p.
    at : (m, d)
        Queries.
    method : {"nearest", "hc0", "hc1", "hc2", "hc3"}
        hc1 multiplies by k / (k - number of coefficients) with k points in the window; hc2 and hc3 use the leverages of the
        fit of degree p for both.
    derivative : d orders, optional
        As in `smooth`.
    rho : float
        Ratio of the bandwidths h / b.
    neighbours : int
        J of "nearest".
    more : int
        The bias is estimated with degree p + `more` instead of p + 1, in all orders above p.  Inside the data 1 does nothing
        if p less the order of the derivative is even, see `kernadv.regression.inference.correction`.

    Raises
    ------
    ArgumentError
        Unknown method, rho not positive, arrays whose shapes do not match.

    References
    ----------
    Calonico, Cattaneo and Farrell (2018), On the effect of bias estimation on coverage accuracy in nonparametric
    inference, JASA 113.
    Calonico, Cattaneo and Farrell (2019), nprobust, JSS 91, section 3 (the residuals).
    Bell and McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples, Survey
    Methodology 28; Imbens and Kolesar (2016), Robust standard errors in small samples, REStat 98 (the degrees of freedom).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import robust_estimate
    >>> x = np.linspace(0.0, 1.0, 2001)[:, None]
    >>> fit = LocalLinear(0.3, kernel="triangular").fit(x, x**2).as_fit()
    >>> both = robust_estimate(fit, np.array([[0.0]]))  # bias of a line at the end: -h^2 m'' / 20, and m(0) = 0
    >>> round(float(both.conventional[0, 0]), 3), abs(round(float(both.corrected[0, 0]), 9))
    (-0.009, 0.0)
    """
    check_choice(method, "method", METHODS)
    check_positive(rho, "rho", "it is h / b; 1 uses one bandwidth for both")
    check_count(neighbours, "neighbours")
    check_count(more, "more")
    fit = checked(fit)
    fit = fit.take(np.argsort(fit.x[:, 0], kind="stable"))
    at = fit.queries(at)
    first = _local(fit, at)
    second = _local(replace(fit.raised(more), bandwidth=fit.bandwidth / rho), at)
    order = list(derivative_order(fit.spec, at.shape[1], derivative))
    row = first.powers.tolist().index(order)
    unit = prod(factorial(i) for i in order) / float(np.prod(fit.bandwidth ** np.array(order)))
    wide = max(first, second, key=lambda local: float(local.fit.bandwidth[0]))
    reach = fit.spec.kernel.edge * wide.fit.bandwidth[0]
    low = np.searchsorted(fit.x[:, 0], at[:, 0] - reach, "left")
    high = np.searchsorted(fit.x[:, 0], at[:, 0] + reach, "right")
    out = RobustEstimate(*(np.full((len(at), width), np.nan) for width in (*[fit.y.shape[1]] * 4, 1)))
    for q in np.flatnonzero(first.defined):
        near = np.arange(low[q], high[q])
        near = near[kernel_weight(wide.fit, near, at[q]) > 0.0]
        own = _window(first, near, at, q)
        hat = own.weight * (own.monomials @ first.inverse[q, row])
        inflation = _inflation(own, own, method)
        error = _residuals(fit, near, own, inflation, method, neighbours)
        out.conventional[q] = unit * (hat @ fit.y[near])
        out.conventional_error[q] = abs(unit) * np.sqrt(hat**2 @ error**2)
        if second.defined[q]:
            other = _window(second, near, at, q)
            hat = hat - _bias(hat, own, other, second, q)
            inflation = _inflation(own, other, method)
            error = _residuals(fit, near, other, inflation, method, neighbours)
            out.corrected[q] = unit * (hat @ fit.y[near])
            out.corrected_error[q] = abs(unit) * np.sqrt(hat**2 @ error**2)
            out.corrected_error[q, _silent(fit, near, other, out.corrected_error[q])] = np.nan
            if method == "nearest":
                out.freedom[q] = _matched(hat**2, neighbours)
            else:
                out.freedom[q], shown = _satterthwaite(hat**2, inflation, other)
                if shown < INTERPOLATED:
                    out.corrected_error[q] = np.nan
    return out


def _local(fit: LinearSmoother, at: FloatArray) -> _Local:
    """Every coefficient and the whole inverse at every query, from one pass of moments per coefficient."""
    powers = exponents(fit.x.shape[1], fit.spec.degree)
    passes = [fit.smooth(at, tuple(a)) for a in powers.tolist()]
    units = [np.prod(fit.bandwidth**a) / prod(factorial(i) for i in a.tolist()) for a in powers]
    coefficients = np.stack([unit * one.value for unit, one in zip(units, passes, strict=True)], axis=1)
    inverse = np.stack([unit * one.row for unit, one in zip(units, passes, strict=True)], axis=1)
    return _Local(fit, powers, coefficients, inverse, passes[0].defined)


def _window(local: _Local, near: IntArray, at: FloatArray, q: int) -> _Window:
    fit = local.fit
    u = (fit.x[near] - at[q]) / fit.bandwidth
    monomials = np.prod(u[:, None] ** local.powers, axis=2)
    weight = kernel_weight(fit, near, at[q])
    dual = weight[:, None] * (monomials @ local.inverse[q])
    return _Window(weight, monomials, dual, fit.y[near] - monomials @ local.coefficients[q])


def _bias(hat: FloatArray, own: _Window, other: _Window, second: _Local, q: int) -> FloatArray:
    """Hat vector of the leading bias: ``sum_{|a| > p} (sum_j l_j u_j^a) beta_a``, u in units of b.  # (k,)"""
    lowest = own.monomials.shape[1]
    missed = hat @ other.monomials[:, lowest:]
    return np.asarray(other.weight * (other.monomials @ (missed @ second.inverse[q, lowest:])))


def _inflation(own: _Window, fitted: _Window, method: str) -> FloatArray:
    """Factors of the squared residuals of `fitted`; leverages are those of `own`.  # (k,)"""
    points, coefficients = fitted.monomials.shape
    if method == "hc1":
        return np.full(points, points / (points - coefficients) if points > coefficients else np.nan)
    if method not in ("hc2", "hc3"):
        return np.ones(points)
    rest = others((own.monomials * own.dual).sum(1))
    return np.asarray(1.0 / (rest if method == "hc2" else rest**2))


def _residuals(
    fit: LinearSmoother, near: IntArray, fitted: _Window, inflation: FloatArray, method: str, neighbours: int
) -> FloatArray:
    """Residuals of the window, inflated as the method says.  # (k, C)"""
    if method == "nearest":
        unit = 1.0 if fit.x.shape[1] == 1 else fit.bandwidth
        return neighbour_residuals(fit.x[near] / unit, fit.y[near], neighbours, fit.weights[near])
    return np.asarray(fitted.residual * np.sqrt(inflation)[:, None])


def _silent(fit: LinearSmoother, near: IntArray, fitted: _Window, error: FloatArray) -> BoolArray:
    """Responses without a residual: they differ, but not within a place, in no more places than coefficients.  # (C,)"""
    rounding = ROUNDING * np.ptp(fit.y, axis=0)
    silent = error <= rounding
    if silent.any():
        inside = near[in_window(fitted.weight)]
        silent &= np.ptp(fit.y[inside], axis=0) > rounding
        silent &= len(np.unique(fit.x[inside], axis=0)) <= fitted.monomials.shape[1]
    return np.asarray(silent)


def _satterthwaite(variance: FloatArray, inflation: FloatArray, fitted: _Window) -> tuple[float, float]:
    """``(tr D R R')^2 / tr (D R R')^2`` of the variance ``e' D e``, with residuals ``e = R y``, ``R = I - P Q'``.

    D is ``diag(l^2)``, inflated.  ``R R' = I + U S U'`` with ``U = [P, Q]``: only small matrices occur.  Also the share that
    the mean of the estimated variance, tr D R R', has of the variance, tr diag(l^2); where it is too small, NaN.
    """
    squares = variance * inflation
    size = fitted.monomials.shape[1]
    both = np.concatenate([fitted.monomials, fitted.dual], axis=1)
    middle = np.zeros((2 * size, 2 * size))
    middle[:size, :size] = fitted.dual.T @ fitted.dual
    middle[:size, size:] = middle[size:, :size] = -np.eye(size)
    first = middle @ (both.T @ (squares[:, None] * both))
    second = middle @ (both.T @ (squares[:, None] ** 2 * both))
    mean = squares.sum() + np.trace(first)
    spread = (squares**2).sum() + 2.0 * np.trace(second) + np.trace(first @ first)
    shown = float(mean / (variance.sum() or 1.0))
    return float(mean**2 / spread) if spread > 0.0 and shown >= SHOWN - 1e-9 else np.nan, shown


def _matched(squares: FloatArray, neighbours: int) -> float:
    """The same for nearest neighbours, a little too few: as if all were mutual, with correlation -2 / (J + 1)."""
    correlated = 1.0 + 4.0 * neighbours / (neighbours + 1.0) ** 2
    return float(squares.sum() ** 2 / (correlated * (squares**2).sum()))
