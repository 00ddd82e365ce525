"""Pointwise intervals, each saying what it covers."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from kernadv._errors import ArgumentError, check_choice, check_level
from kernadv._typing import FloatArray
from kernadv.inference import robust
from kernadv.inference._base import REGRESSION_FUNCTION, SMOOTHED_TARGET, Fit, Interval, correction
from kernadv.inference.degrees_of_freedom import effective_sample_size
from kernadv.inference.variance import standard_error
from kernadv.smoothers.local_polynomial import derivative_order, smooth

PROPORTIONS = ("wilson", "jeffreys", "uniform")
#: The one that "auto" takes: with weights and rare successes Wilson covers less.
PROPORTION = "jeffreys"
#: Responses of a window agree if a smaller share differs: rounding errors.
AGREE = 1e-12
METHODS = ("auto", "normal", "robust", *PROPORTIONS)


def interval(fit: Fit, at: FloatArray, level: float = 0.95, method: str = "auto") -> Interval:
    """Interval of the method that suits the data.

    **Covers** what the method covers; the result says which.

    Parameters
    ----------
    fit : Fit
    at : (m, d)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"auto", "normal", "robust", "wilson", "jeffreys", "uniform"}
        auto: `proportion` (jeffreys) if all responses are 0 or 1 and the degree is 0, because there a standard error is 0
        wherever a window holds one kind of response only; otherwise `robust_bias_corrected`.

    Raises
    ------
    ArgumentError
        As the function of that method.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.inference import Fit, interval
    >>> from kernadv.kernels import get
    >>> from kernadv.smoothers.local_polynomial import LocalPolynomialFit
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> won = (x > 0.5).astype(float)
    >>> for degree, y in [(0, won), (0, x), (1, won)]:
    ...     fit = Fit(LocalPolynomialFit(get("triangular"), degree), x, y, np.ones(21), np.array([0.3]))
    ...     print(interval(fit, x).covers)
    smoothed target
    regression function
    regression function
    """
    check_choice(method, "method", METHODS)
    if method == "auto":
        fit = Fit.checked(fit)
        method = PROPORTION if fit.how.degree == 0 and _binary(fit.y) else "robust"
    if method == "normal":
        return normal(fit, at, level)
    if method == "robust":
        return robust_bias_corrected(fit, at, level)
    return proportion(fit, at, level, method)


def normal(
    fit: Fit,
    at: FloatArray,
    level: float = 0.95,
    method: str = "hc3",
    *,
    derivative: tuple[int, ...] | None = None,
    neighbours: int = 3,
    lag: int | None = None,
) -> Interval:
    """``mhat(x) +- z se(x)``.

    **Covers** the smoothed target E mhat(x); m(x) itself only if the bandwidth is so small that the bias is negligible.
    Its quantiles are normal: where few points carry the estimate, as at boundaries, 95% cover a point or two less.

    Parameters
    ----------
    fit, at, method, derivative, neighbours, lag
        As in `kernadv.inference.variance.standard_error`.
    level : float
        Strictly between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.inference import Fit, normal
    >>> from kernadv.kernels import get
    >>> from kernadv.smoothers.local_polynomial import LocalPolynomialFit
    >>> y = np.array([[1.0], [3.0], [1.0], [3.0]])
    >>> fit = Fit(LocalPolynomialFit(get("uniform")), np.zeros((4, 1)), y, np.ones(4), np.array([1.0]))  # the mean of y
    >>> result = normal(fit, np.zeros((1, 1)), method="hc0")
    >>> round(float(result.low[0, 0]), 2), round(float(result.high[0, 0]), 2), result.covers  # 2 -+ 1.96 / 2
    (1.02, 2.98, 'smoothed target')
    """
    z = _quantile(level)
    error = standard_error(fit, at, method, derivative=derivative, neighbours=neighbours, lag=lag)
    return _around(_estimate(fit, at, derivative), z * error, SMOOTHED_TARGET)


def robust_bias_corrected(
    fit: Fit,
    at: FloatArray,
    level: float = 0.95,
    method: str = "hc2",
    *,
    derivative: tuple[int, ...] | None = None,
    rho: float = 1.0,
    neighbours: int = 3,
    lag: int | None = None,
    reference: str = "t",
) -> Interval:
    """Centre at the bias-corrected estimate, with the standard error of that.

    **Covers** the regression function m(x), at boundaries too, for a bandwidth that is good for the estimate itself.  The
    bias is estimated with one degree more, or two where one would not do, see `kernadv.inference.correction`.

    Parameters
    ----------
    fit, at, derivative, rho, neighbours
        As in `kernadv.inference.robust.robust_estimate`.
    level : float
        Strictly between 0 and 1.
    method : str
        One of its methods (nearest, hc0 to hc3: residuals of the window at each query); or, with rho = 1, "homoskedastic",
        "difference", "cluster" or "hac": the `standard_error` of the fit of `correction` degrees more.
    lag : int, optional
        L of "hac".
    reference : {"t", "normal"}
        Quantiles of Student's t with the Satterthwaite degrees of freedom of the standard error, for the methods that have
        them, or of the normal distribution, as the reference does.  Close to a boundary 95% by the normal quantiles
        cover 91-93% at n = 500.

    References
    ----------
    Calonico, Cattaneo and Farrell (2018), On the effect of bias estimation on coverage accuracy in nonparametric
    inference, JASA 113.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.inference import Fit, robust_bias_corrected
    >>> from kernadv.kernels import get
    >>> from kernadv.smoothers.local_polynomial import LocalPolynomialFit
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> fit = Fit(LocalPolynomialFit(get("triangular"), degree=1), x, x**2, np.ones(21), np.array([0.3]))  # no noise
    >>> result = robust_bias_corrected(fit, np.array([[1.0]]))  # the bias of a parabola is all corrected
    >>> round(float(result.low[0, 0]), 9), round(float(result.high[0, 0]), 9), result.covers
    (1.0, 1.0, 'regression function')
    """
    z = _quantile(level)
    check_choice(method, "method", (*robust.METHODS, "homoskedastic", "difference", "cluster", "hac"))
    check_choice(reference, "reference", ("t", "normal"))
    fit = Fit.checked(fit)
    derivative = derivative_order(fit.how, fit.x.shape[1], derivative)
    more = correction(fit.how, sum(derivative))
    if method in robust.METHODS:
        both = robust.robust_estimate(fit, at, method, derivative=derivative, rho=rho, neighbours=neighbours, more=more)
        times = stdtrit(both.freedom, 0.5 + 0.5 * level) if reference == "t" else z
        return _around(both.corrected, times * both.corrected_error, REGRESSION_FUNCTION)
    if rho != 1.0:
        raise ArgumentError(f"method {method!r} corrects with one bandwidth: rho must be 1, got {rho!r}")
    up = fit.raised(more)
    error = standard_error(up, at, method, derivative=derivative, lag=lag)
    return _around(_estimate(up, at, derivative), z * error, REGRESSION_FUNCTION)


def proportion(
    fit: Fit, at: FloatArray, level: float = 0.95, method: str = PROPORTION, *, bias_corrected: bool = False
) -> Interval:
    """Intervals of a probability from 0/1 responses, with n_eff = 1 / sum l_j^2 responses behind each estimate.

    Never empty, never outside [0, 1], and of positive width where all responses in the window agree; there the nearer
    limit is 0 or 1 itself.

    **Covers** the smoothed target E mhat(x); with `bias_corrected`, the regression function.  A nominal 95% at a
    probability of .02 and n_eff from 8 to 10 covers, computed exactly for one-sided windows of the kernels: Jeffreys 94-99%,
    Wilson 90-94%, uniform 87-92%; for equal weights Jeffreys 98-99%, Wilson 85-99%, uniform 82-85%.

    Parameters
    ----------
    fit : Fit
        Responses 0 or 1.  Estimates of degree >= 1 are clipped to [0, 1].
    at : (m, d)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"wilson", "jeffreys", "uniform"}
        Wilson's score interval, or the equal-tailed interval of Beta(a + n_eff p, a + n_eff (1 - p)) with a = 1/2
        (Jeffreys) or a = 1.  Jeffreys is shorter near 0 and 1, a little wider between.
    bias_corrected : bool
        Use the fit of `correction` degrees more with the same bandwidth, and its smaller n_eff.

    References
    ----------
    Wilson (1927), JASA 22.  Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion, Statistical
    Science 16.
    Kott (2017), Survey Methodology 43; Franco, Little, Louis and Slud (2019), Journal of Survey Statistics and
    Methodology 7 (the effective sample size in the place of n).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.inference import Fit, proportion
    >>> from kernadv.kernels import get
    >>> from kernadv.smoothers.local_polynomial import LocalPolynomialFit
    >>> y = np.array([[0.0], [0.0], [0.0], [0.0]])
    >>> fit = Fit(LocalPolynomialFit(get("uniform")), np.zeros((4, 1)), y, np.ones(4), np.array([1.0]))  # the mean of y
    >>> low, high = proportion(fit, np.zeros((1, 1)), method="wilson")[1:3]
    >>> float(low[0, 0]), round(float(high[0, 0]), 4)  # no success in 4: 0 and z^2 / (4 + z^2), z = 1.96
    (0.0, 0.4899)
    """
    check_level(level)
    check_choice(method, "method", PROPORTIONS)
    fit = Fit.checked(fit)
    if not _binary(fit.y):
        raise ArgumentError(
            f"method {method!r} needs responses that are 0 or 1, got values from {fit.y.min()} to {fit.y.max()}; "
            "use method='robust'"
        )
    if bias_corrected:
        fit = fit.raised()
    estimate = np.clip(_estimate(fit, at, None), 0.0, 1.0)
    size = np.broadcast_to(effective_sample_size(fit, at)[:, None], estimate.shape)
    low, high = np.full(estimate.shape, np.nan), np.full(estimate.shape, np.nan)
    known = ~np.isnan(estimate)
    low[known], high[known] = proportion_limits(estimate[known] * size[known], size[known], level, method)
    return Interval(estimate, low, high, REGRESSION_FUNCTION if bias_corrected else SMOOTHED_TARGET)


def proportion_limits(count: FloatArray, size: FloatArray, level: float, method: str) -> tuple[FloatArray, FloatArray]:
    """Limits for `count` successes in `size` trials, neither of them necessarily whole.

    References
    ----------
    Brown, Cai and DasGupta (2001), section 3.1.2: the limit is 0 itself without a success, and 1 without a failure.
    """
    rest, tail = size - count, 0.5 * (1.0 - level)
    if method == "wilson":
        from statsmodels.stats.proportion import proportion_confint  # slow to import, and needed here only

        low, high = proportion_confint(count, size, alpha=1.0 - level, method=method)
    else:
        prior = {"jeffreys": 0.5, "uniform": 1.0}[method]
        low, high = (betaincinv(prior + count, prior + rest, quantile) for quantile in (tail, 1.0 - tail))
    return np.where(count <= AGREE * size, 0.0, low), np.where(rest <= AGREE * size, 1.0, high)


def _estimate(fit: Fit, at: FloatArray, derivative: tuple[int, ...] | None) -> FloatArray:
    fit = Fit.checked(fit)
    return smooth(fit.how, fit.x, fit.y, fit.weights, fit.queries(at), fit.bandwidth, derivative).value


def _around(estimate: FloatArray, half: FloatArray, covers: str) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, covers)


def _quantile(level: float) -> float:
    """Two-sided normal quantile."""
    return float(ndtri(0.5 + 0.5 * check_level(level)))


def _binary(y: FloatArray) -> bool:
    return bool(np.isin(y, (0.0, 1.0)).all())
