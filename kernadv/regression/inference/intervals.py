"""Pointwise intervals; each says what it covers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from kernadv._errors import ArgumentError, check_choice, check_level
from kernadv.regression.inference import robust
from kernadv.regression.inference._base import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval, checked
from kernadv.regression.inference.degrees_of_freedom import effective_sample_size
from kernadv.regression.inference.skewness import half_widths, residual_skewness
from kernadv.regression.inference.two_values import (
    PROPORTION,
    PROPORTIONS,
    by_column,
    proportion_interval,
    wider,
)
from kernadv.regression.inference.variance import standard_error
from kernadv.regression.inference.window import extremes, interval_around, of_places
from kernadv.regression.local.polynomial import derivative_order
from kernadv.regression.smoother import LinearSmoother, correction
from kernadv.typing import BoolArray, FloatArray

METHODS = ("auto", "normal", "robust", *PROPORTIONS)


class IntervalParts(NamedTuple):
    """How intervals are computed, from moments or from rows of the hat matrix: functions of a smoother and queries."""

    normal: Callable[..., Interval]  # and of the level
    robust: Callable[..., Interval]  # and of the level
    estimate_and_size: Callable[..., tuple[FloatArray, FloatArray]]  # the estimate (m, C) and n_eff (m,)


#: Fewest degrees of freedom of an interval: 1, less rounding.
ENOUGH = 1.0 - 1e-9


def interval(fit: LinearSmoother, at: FloatArray, level: float = 0.95, method: str = "auto") -> Interval[FloatArray]:
    """Interval of the method that suits the data.

    Errors are taken as independent.  For others ask a regressor: ``interval(X, errors="cluster")`` or ``"serial"``.

    **Covers** what the method covers, as the result says; "auto" covers the regression function.

    Parameters
    ----------
    fit : LinearSmoother
    at : (m, d)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"auto", "normal", "robust", "wilson", "jeffreys", "uniform"}
        "auto" is `robust_bias_corrected`, except for columns of two values, where the standard error is 0 in every window
        that holds only one of them.  These get the wider limits of two `proportion` (jeffreys), with and without bias
        correction; where the window is too small for the correction, those without, which cover the smoothed target.

    Returns
    -------
    Interval
        NaN where the responses of the window say too little: they are too few for the correction
        (`robust_bias_corrected`), the limits are farther apart than 100 times their range, or all responses of the column
        are the same.  With "auto" and "robust", a query at which five responses or more lie has the interval of their mean
        instead.  A column of zeros, ones or minus ones alone counts as one of 0 and 1, or of -1 and 1.  Where only the
        responses of the window are the same, the limits allow for a share q of responses as small, or as large, as any of
        the column; q is the upper limit of Jeffreys for none in n_eff.

    Raises
    ------
    ArgumentError
        As the function of that method.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalPolynomial
    >>> from kernadv.regression.inference import interval
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> won = (x > 0.5).astype(float)
    >>> for degree, y in [(0, won), (0, x), (1, won)]:
    ...     fit = LocalPolynomial(degree, bandwidth=0.3, kernel="triangular").fit(x, y).as_fit()
    ...     print(interval(fit, x).covers)
    regression function
    regression function
    regression function
    """
    return make_interval(checked(fit), at, level, method, MOMENTS)


def make_interval(
    fit: LinearSmoother, at: Any, level: float, method: str, parts: IntervalParts
) -> Interval[FloatArray]:
    """`interval`, computed from these parts; `at` is what they take."""
    check_choice(method, "method", METHODS)
    tail = 0.5 * (1.0 - check_level(level))
    if method == "normal":
        return parts.normal(fit, at, level)

    def robust(columns: BoolArray) -> Interval[FloatArray]:
        own = fit.responses(columns)
        return of_places(own, at, tail, parts.robust(own, at, level))

    if method == "robust":
        return robust(np.ones(fit.y.shape[1], np.bool_))
    if method in PROPORTIONS:
        return proportion_interval(fit.y, *parts.estimate_and_size(fit, at), tail, method, SMOOTHED_TARGET)

    def two(columns: BoolArray) -> Interval[FloatArray]:
        own = fit.responses(columns)
        sizes = (parts.estimate_and_size(one, at) for one in (own.raised(), own))
        return wider(*(proportion_interval(own.y, *size, tail, PROPORTION, REGRESSION_FUNCTION) for size in sizes))

    return by_column(fit.y, two, robust)


def normal(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    method: str = "hc3",
    *,
    derivative: tuple[int, ...] | None = None,
    neighbours: int = 3,
    lag: int | None = None,
) -> Interval[FloatArray]:
    """``mhat(x) +- z se(x)``.

    **Covers** the smoothed target E mhat(x); m(x) itself only if the bandwidth is so small that the bias is negligible.
    Its quantiles are normal: where few points carry the estimate, as at boundaries, a nominal 95% covers 1 or 2% less.

    Parameters
    ----------
    fit, at, method, derivative, neighbours, lag
        As in `kernadv.regression.inference.variance.standard_error`.
    level : float
        Strictly between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import normal
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [1.0, 3.0, 1.0, 3.0]).as_fit()  # the mean of y
    >>> result = normal(fit, np.zeros((1, 1)), method="hc0")
    >>> round(float(result.low[0, 0]), 2), round(float(result.high[0, 0]), 2), result.covers  # 2 -+ 1.96 / 2
    (1.02, 2.98, 'smoothed target')
    """
    z, tail = ndtri(0.5 + 0.5 * check_level(level)), 0.5 * (1.0 - level)
    fit = checked(fit)
    error = standard_error(fit, at, method, derivative=derivative, neighbours=neighbours, lag=lag)
    return around(fit, at, z * error, tail, SMOOTHED_TARGET, derivative=derivative)


def robust_bias_corrected(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    method: str = "hc2",
    *,
    derivative: tuple[int, ...] | None = None,
    rho: float = 1.0,
    neighbours: int = 3,
    lag: int | None = None,
    reference: str = "t",
) -> Interval[FloatArray]:
    """The bias-corrected estimate -+ a quantile times its own standard error.

    **Covers** the regression function m(x), at boundaries too, with a bandwidth that suits the estimate itself.  The bias is
    estimated with one degree more, or two where one does nothing, see `kernadv.regression.inference.correction`.

    Parameters
    ----------
    fit, at, derivative, rho, neighbours
        As in `kernadv.regression.inference.robust.robust_estimate`.
    level : float
        Strictly between 0 and 1.
    method : str
        "nearest", "hc0" to "hc3": residuals of the window at each query, as in `robust_estimate`.  With rho = 1 also
        "homoskedastic", "difference", "cluster" and "hac": the `standard_error` of the fit of `correction` degrees more.
    lag : int, optional
        L of "hac".
    reference : {"t", "normal", "hall"}
        Quantiles of the normal distribution, as in the paper, or of Student's t with the Satterthwaite degrees of freedom
        of the standard error, for the methods that have them.  Close to a boundary a nominal 95% with normal quantiles
        covers 91-93% at n = 500.  "hall": those of Student's t, and limits that allow for the skewness of the residuals, see
        `kernadv.regression.inference.skewness`; with 100 lognormal responses 95% cover 96 to 97% instead of 85 to 88%.

    References
    ----------
    Calonico, Cattaneo and Farrell (2018), On the effect of bias estimation on coverage accuracy in nonparametric
    inference, JASA 113.
    Hall (1992), On the removal of skewness by transformation, JRSS B 54.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import robust_bias_corrected
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> fit = LocalLinear(0.3, kernel="triangular").fit(x, x**2).as_fit()  # no noise
    >>> result = robust_bias_corrected(fit, np.array([[1.0]]))  # the bias of a parabola is all corrected
    >>> round(float(result.low[0, 0]), 9), round(float(result.high[0, 0]), 9), result.covers
    (1.0, 1.0, 'regression function')
    """
    z, tail = ndtri(0.5 + 0.5 * check_level(level)), 0.5 * (1.0 - level)
    check_choice(method, "method", (*robust.METHODS, "homoskedastic", "difference", "cluster", "hac"))
    check_choice(reference, "reference", ("t", "normal", "hall"))
    fit = checked(fit)
    derivative = derivative_order(fit.spec, fit.x.shape[1], derivative)
    more = correction(fit.spec, sum(derivative))
    up = fit.raised(more)
    if method in robust.METHODS:
        both = robust.robust_estimate(fit, at, method, derivative=derivative, rho=rho, neighbours=neighbours, more=more)
        freedom = np.where(both.freedom >= ENOUGH, both.freedom, np.nan)
        quantile = np.full_like(freedom, z) if reference == "normal" else stdtrit(freedom, 0.5 + 0.5 * level)
        skewness = both.skew * residual_skewness(up) if reference == "hall" else np.zeros_like(both.skew)
        half = half_widths(both.corrected_error, quantile, skewness)
        return around(up, at, half, tail, REGRESSION_FUNCTION, derivative=derivative, estimate=both.corrected)
    if rho != 1.0:
        raise ArgumentError(f"method {method!r} corrects with one bandwidth: rho must be 1, got {rho!r}")
    error = standard_error(up, at, method, derivative=derivative, lag=lag)
    return around(up, at, z * error, tail, REGRESSION_FUNCTION, derivative=derivative)


def proportion(
    fit: LinearSmoother, at: FloatArray, level: float = 0.95, method: str = PROPORTION, *, bias_corrected: bool = False
) -> Interval[FloatArray]:
    """Intervals from responses of two values, such as 0 and 1, n_eff = 1 / sum l_j^2 of them behind each estimate.

    Never empty, never outside the two values.  Where all responses in the window agree, one limit is their value, and the
    width is positive.  Errors are taken as independent.

    **Covers** the smoothed target E mhat(x); with `bias_corrected`, the regression function.  A nominal 95% at a
    probability of .02 and n_eff from 8 to 10 covers, computed exactly for one-sided windows of the kernels: Jeffreys 94-99%,
    Wilson 90-94%, uniform 87-92%; for equal weights Jeffreys 98-99%, Wilson 85-99%, uniform 82-85%.

    Parameters
    ----------
    fit : LinearSmoother
        Responses of two values in each column; zeros, ones or minus ones alone count as one of 0 and 1, or of -1 and 1.
        Estimates of degree >= 1 are clipped to the two values.
    at : (m, d)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"wilson", "jeffreys", "uniform"}
        Wilson's score interval, or the equal-tailed interval of Beta(a + n_eff p, a + n_eff (1 - p)) with a = 1/2
        (Jeffreys) or a = 1.  Jeffreys is shorter near 0 and 1, a little wider between.
    bias_corrected : bool
        Use the fit of `correction` degrees more with the same bandwidth, with its smaller n_eff.

    References
    ----------
    Wilson (1927), JASA 22.  Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion, Statistical
    Science 16.
    Kott (2017), Survey Methodology 43; Franco, Little, Louis and Slud (2019), Journal of Survey Statistics and
    Methodology 7 (the effective sample size instead of n).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import proportion
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [0.0, 0.0, 0.0, 0.0]).as_fit()  # the mean of y
    >>> low, high = proportion(fit, np.zeros((1, 1)), method="wilson")[1:3]
    >>> float(low[0, 0]), round(float(high[0, 0]), 4)  # no success in 4: 0 and z^2 / (4 + z^2), z = 1.96
    (0.0, 0.4899)
    """
    tail = 0.5 * (1.0 - check_level(level))
    check_choice(method, "method", PROPORTIONS)
    fit = checked(fit)
    covers = REGRESSION_FUNCTION if bias_corrected else SMOOTHED_TARGET
    chosen = fit.raised() if bias_corrected else fit
    return proportion_interval(fit.y, *estimate_and_size(chosen, at), tail, method, covers)


def estimate_and_size(fit: LinearSmoother, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The estimate (m, C) and n_eff (m,) at the queries."""
    return fit.smooth(fit.queries(at)).value, effective_sample_size(fit, at)


def around(
    fit: LinearSmoother,
    at: FloatArray,
    half: FloatArray | tuple[FloatArray, FloatArray],
    tail: float | FloatArray,
    covers: str,
    *,
    derivative: tuple[int, ...] | None = None,
    estimate: FloatArray | None = None,
) -> Interval[FloatArray]:
    """`interval_around` an estimate, by default that of the fit; for derivatives plainly ``estimate -+ half``."""
    at = fit.queries(at)
    if estimate is None:
        estimate = fit.smooth(at, derivative).value
    if derivative is not None and any(derivative):
        below, above = half if isinstance(half, tuple) else (half, half)
        return Interval(estimate, estimate - below, estimate + above, covers)
    return interval_around(estimate, half, fit.y, extremes(fit, at), effective_sample_size(fit, at), tail, covers)


MOMENTS = IntervalParts(normal, partial(robust_bias_corrected, reference="hall"), estimate_and_size)
