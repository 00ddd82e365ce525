"""Robust bias correction: the estimate minus an estimate of its bias, and the standard error of that difference."""

from __future__ import annotations

from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._errors import check_choice, check_count, check_positive
from kernadv.regression.inference._base import checked
from kernadv.regression.inference._window_sums import correct
from kernadv.regression.inference.window import ROUNDING
from kernadv.regression.local._pairs import Pairs, over_windows
from kernadv.regression.local.moments import exponents, in_units
from kernadv.regression.local.monomials import monomials
from kernadv.regression.local.polynomial import derivative_order, kernel_weights
from kernadv.regression.noise import neighbour_residuals
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import FloatArray

#: Kinds of residuals of the window around each query.
METHODS = ("nearest", "hc0", "hc1", "hc2", "hc3")
#: Squared residuals are divided by these powers of 1 less the leverage.
POWERS = {"hc2": 1, "hc3": 2}


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
    skew : (m, 1) float64
        Skewness of `corrected` if the responses have skewness 1 and variances inverse to their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import robust_estimate
    >>> x = np.linspace(0.0, 1.0, 200)[:, None]
    >>> fit = LocalLinear(0.3).fit(x, x[:, 0] ** 2 + 0.1 * (-1.0) ** np.arange(200)).as_fit()
    >>> found = robust_estimate(fit, np.array([[0.0], [0.5]]))
    >>> found.corrected.shape, bool(found.freedom[0, 0] < found.freedom[1, 0])  # at an end fewer points tell of errors
    ((2, 1), True)
    """

    conventional: FloatArray
    conventional_error: FloatArray
    corrected: FloatArray
    corrected_error: FloatArray
    freedom: FloatArray
    skew: FloatArray


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
    spec, dimensions = fit.spec, fit.x.shape[1]
    order = derivative_order(spec, dimensions, derivative)
    wide = fit.bandwidth * max(1.0, 1.0 / rho)
    out = RobustEstimate(*(np.full((len(at), width), np.nan) for width in (*[fit.y.shape[1]] * 4, 1, 1)))
    settings = (
        monomials(dimensions, spec.degree + more).parents,
        coefficients(dimensions, spec.degree),
        exponents(dimensions, spec.degree).tolist().index(list(order)),
        float(np.prod(wide ** np.array(order))) / prod(factorial(i) for i in order),
        rho == 1.0,
        POWERS.get(method, 0),
        method == "hc1",
        neighbours if method == "nearest" else 0,
        ROUNDING * np.ptp(fit.y, axis=0),
    )

    def part(own: slice, pairs: Pairs, channels: FloatArray) -> None:
        lags = pairs.u[:, : len(pairs.weight)].T
        first = pairs.weight if rho >= 1.0 else kernel_weights(spec, lags / rho)
        second = pairs.weight if rho <= 1.0 else kernel_weights(spec, lags * rho)
        given = np.empty((0, 0))
        if method == "nearest":
            given = _by_neighbours(pairs, lags, channels, neighbours)
        correct(first, second, *pairs[1:], channels, given, *settings, *(each[own] for each in out))

    z, q, _ = in_units(fit.x, at, wide)
    over_windows(part, z, np.concatenate([fit.weights[None], fit.y.T]), q, spec.kernel, None, spec.radial, spec.past)
    return out


def _by_neighbours(pairs: Pairs, lags: FloatArray, channels: FloatArray, neighbours: int) -> FloatArray:
    """Residuals from the nearest neighbours within each window.  # (C, p)"""
    out, low = np.empty((len(channels) - 1, len(lags))), 0
    for high in pairs.ends[pairs.begin : pairs.upto].tolist():
        near = low + np.flatnonzero(pairs.weight[low:high])
        weights, *y = channels[:, pairs.point[near]]
        out[:, near] = neighbour_residuals(lags[near], np.stack(y, axis=1), neighbours, weights).T
        low = high
    return out
