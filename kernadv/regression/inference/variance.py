"""Standard errors of an estimate ``mhat(x) = sum_j l_j(x) y_j``.

All of them measure the scatter of the estimate around its own mean, not its bias.

| method | variance of the estimate | assumes |
|---|---|---|
| homoskedastic | sigma^2 sum l_j^2 / omega_j, sigma^2 from all residuals | independent, variances sigma^2 / omega |
| difference | the same, sigma^2 from second differences and ties | the same; no bandwidth enters sigma^2; a line |
| hc0, hc1, hc2, hc3 | sum l_j^2 e_j^2 c_j | independent |
| nearest | sum l_j^2 e_j^2, e_j from nearest neighbours | independent, variance times omega smooth in x |
| asymptotic | R(K)^d s^2(x) / sum_j K_j | the same, interior |
| cluster | sum over clusters of (sum l_j e_j)^2 | clusters independent |
| hac | Newey-West along the first dimension, unbiased for independent errors | correlation that fades with distance |

omega are the observation weights, l the weights of the responses in the estimate.  No method depends on the order of the
points or on the unit of omega.
"""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError, check_choice, check_count
from kernadv.regression.inference._base import checked
from kernadv.regression.inference.degrees_of_freedom import others, traces
from kernadv.regression.inference.dependent import cluster_variance, newey_west_variance
from kernadv.regression.local.moments import local_moments
from kernadv.regression.local.polynomial import LocalValues, leverage
from kernadv.regression.noise import difference_variance, neighbour_residuals
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

ONE_VARIANCE = ("homoskedastic", "difference")
EACH_VARIANCE = ("hc0", "hc1", "hc2", "hc3", "nearest")
#: A local variance below this share of the mean square is a rounding error.
ROUNDING = 1e-12
#: Share of a variance that points without a residual may have.
LOST = 1e-10
METHODS = (*ONE_VARIANCE, *EACH_VARIANCE, "asymptotic", "cluster", "hac")


def standard_error(
    fit: LinearSmoother,
    at: FloatArray,
    method: str = "hc3",
    *,
    derivative: tuple[int, ...] | None = None,
    neighbours: int = 3,
    lag: int | None = None,
) -> FloatArray:
    """Standard error of the estimate, or of a derivative of it, at the queries.  # (m, C)

    **Covers** the smoothed target E mhat(x): ``estimate +- z * standard_error`` covers m(x) only if the bias is
    negligible; see `kernadv.regression.inference.intervals.robust_bias_corrected`.

    Parameters
    ----------
    fit : LinearSmoother
    at : (m, d)
        Queries.
    method : str
        One of the table above.
    derivative : d orders, optional
        As in `smooth`; not for "asymptotic".
    neighbours : int
        J of "nearest".
    lag : int, optional
        L of "hac"; default: by the number of distinct points.

    Returns
    -------
    (m, C) float64
        NaN where the estimate is undefined, or rests on a point without a residual: its window holds too few points, or,
        for hc2 and hc3, its leverage is 1.

    Raises
    ------
    ArgumentError
        Unknown method, arrays whose shapes do not match, too few residual degrees of freedom, no clusters.

    References
    ----------
    White (1980), Econometrica 48 (HC0); MacKinnon and White (1985), Journal of Econometrics 29 (HC1 to HC3).
    Hayfield and Racine (2008), Nonparametric econometrics: the np package, JSS 27 (asymptotic).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import standard_error
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [1.0, 3.0, 1.0, 3.0]).as_fit()  # the mean of y
    >>> float(standard_error(fit, np.zeros((1, 1)), "hc0")[0, 0])  # sqrt(sum (y - 2)^2) / 4
    0.5
    >>> round(float(standard_error(fit, np.zeros((1, 1)), "homoskedastic")[0, 0]), 4)  # sqrt(sum (y - 2)^2 / 3 / 4)
    0.5774
    """
    check_choice(method, "method", METHODS)
    fit = checked(fit)
    at = fit.queries(at)
    values = fit.smooth(at, derivative)
    if method in ONE_VARIANCE:
        norm = fit.squared_norm(at, values, 1.0 / fit.weights)
        variance = norm[:, None] * residual_variance(fit, method)
    elif method in EACH_VARIANCE:
        variance = _heteroskedastic(fit, at, values, response_variance(fit, method, neighbours))
    elif method == "asymptotic":
        variance = _asymptotic(fit, at, derivative)
    else:
        variance = _dependent(fit, at, values, method, lag)
    return np.asarray(np.sqrt(np.where(values.defined[:, None], np.maximum(variance, 0.0), np.nan)))


def residual_variance(fit: LinearSmoother, method: str = "homoskedastic") -> FloatArray:
    """The variance sigma^2 of a response of the mean weight; in general it is ``sigma^2 / omega``.  # (C,)

    **Covers** neither target: it is the variance of the noise.  "homoskedastic" overstates it by the squared smoothing bias,
    "difference" does not.

    Parameters
    ----------
    fit : LinearSmoother
    method : {"homoskedastic", "difference"}
        ``sum omega e^2 / freedom`` with the residual degrees of freedom of `effective_degrees_of_freedom`; or the mean
        square of the distances of the responses from the lines through their neighbours, see
        `kernadv.regression.noise.difference_variance`.

    References
    ----------
    Loader (1999), Local Regression and Likelihood, section 2.3.2.
    Gasser, Sroka and Jennen-Steinmetz (1986), Residual variance and residual pattern in nonlinear regression,
    Biometrika 73.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import residual_variance
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [1.0, 3.0, 1.0, 3.0]).as_fit()  # the mean of y
    >>> float(residual_variance(fit)[0])  # sum (y - 2)^2 / 3
    1.3333333333333333
    """
    check_choice(method, "method", ONE_VARIANCE)
    fit = checked(fit)
    if method == "difference":
        if fit.x.shape[1] != 1:
            raise ArgumentError(
                f"difference-based variance needs at least 3 points on a line, got x of shape {fit.x.shape}"
            )
        return difference_variance(fit.x[:, 0], fit.y, fit.weights)
    own = fit.smooth(fit.x)
    freedom = traces(fit, own).enough().residual
    return np.asarray(fit.weights[own.defined] @ (fit.y - own.value)[own.defined] ** 2 / freedom)


def response_variance(fit: LinearSmoother, method: str = "hc3", neighbours: int = 3) -> FloatArray:
    """Variance of each response: ``e_j^2`` times 1, n / freedom, 1 / (1 - l_jj), 1 / (1 - l_jj)^2, or by neighbours.

    **Covers** neither target by itself: single entries are no estimates, their weighted sums are.

    Parameters
    ----------
    fit : LinearSmoother
    method : {"hc0", "hc1", "hc2", "hc3", "nearest"}
        freedom in HC1 is that of `effective_degrees_of_freedom`.
    neighbours : int
        J of "nearest"; distances are in units of the bandwidth.

    Returns
    -------
    (n, C) float64, NaN where there is no residual

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import response_variance
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [1.0, 3.0, 1.0, 5.0]).as_fit()  # the mean of y
    >>> response_variance(fit, "hc0")[:, 0]  # (y - 2.5)^2
    array([2.25, 0.25, 2.25, 6.25])
    >>> response_variance(fit, "hc3")[:, 0]  # as if each point had been left out: (y - mean of the others)^2
    array([ 4.        ,  0.44444444,  4.        , 11.11111111])
    """
    check_choice(method, "method", EACH_VARIANCE)
    fit = checked(fit)
    if method == "nearest":
        unit = 1.0 if fit.x.shape[1] == 1 else fit.bandwidth
        return neighbour_residuals(fit.x / unit, fit.y, check_count(neighbours, "neighbours"), fit.weights) ** 2
    own = fit.smooth(fit.x)
    squared = (fit.y - own.value) ** 2
    if method == "hc0":
        return np.asarray(squared)
    if method == "hc1":
        freedom = traces(fit, own).enough()
        return np.asarray(squared * (freedom.points / freedom.residual))
    rest = others(leverage(own, fit.weights))[:, None]
    return np.asarray(squared / (rest if method == "hc2" else rest**2))


def _heteroskedastic(fit: LinearSmoother, at: FloatArray, values: LocalValues, each: FloatArray) -> FloatArray:
    """``sum_j l_j^2 each_j``; NaN where a response without a variance has a weight."""

    def norm(variance: FloatArray) -> FloatArray:
        return fit.squared_norm(at, values, variance)

    unknown = np.asarray(np.isnan(each).any(1))
    known = np.where(unknown[:, None], 0.0, each)
    out = np.stack([norm(column) for column in np.ascontiguousarray(known.T)], axis=1)
    if unknown.any():
        lost = norm(unknown.astype(np.float64)) > LOST * norm(np.ones(len(unknown)))
        out[lost] = np.nan
    return out


def _asymptotic(fit: LinearSmoother, at: FloatArray, derivative: tuple[int, ...] | None) -> FloatArray:
    """``R(K)^d s^2(x) / sum_j k_j``, k the kernel as a density and s^2 the local weighted variance around the local mean."""
    if derivative is not None and any(derivative):
        raise ArgumentError("the asymptotic standard error is that of the value; use another method for derivatives")
    if fit.spec.radial or fit.spec.past:
        raise ArgumentError("the asymptotic standard error is for two-sided product kernels; use another method")
    kernel, d, responses = fit.spec.kernel, fit.x.shape[1], fit.y.shape[1]
    centred = fit.y - fit.y.mean(0)
    weights = fit.weights
    channels = np.concatenate([[weights], weights * centred.T, weights * (centred**2).T, [np.ones(len(weights))]])
    sums = local_moments(fit.x, channels, at, fit.bandwidth, kernel, 0)[:, :, 0]
    total = np.where(sums[:, :1] > 0, sums[:, :1], np.nan)
    square = sums[:, 1 + responses : -1] / total
    spread = square - (sums[:, 1 : 1 + responses] / total) ** 2
    spread = np.where(spread > ROUNDING * square, spread, 0.0 * square)
    return np.asarray(kernel.roughness**d * spread * (2.0 * kernel.moment(0)) ** d / sums[:, -1:])


def _dependent(fit: LinearSmoother, at: FloatArray, values: LocalValues, method: str, lag: int | None) -> FloatArray:
    own = fit.smooth(fit.x)
    if not own.defined.all():
        raise ArgumentError(
            f"method {method!r} needs the residual of every point, and {int((~own.defined).sum())} have too few "
            "neighbours within the bandwidth; widen it"
        )
    residuals = fit.y - own.value
    if method == "hac":
        return newey_west_variance(fit, at, values, residuals, lag)
    return cluster_variance(fit, at, values, residuals, traces(fit, own).enough().residual)
