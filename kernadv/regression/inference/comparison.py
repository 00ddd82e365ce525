"""Two fits of the same responses compared: does the larger one fit better than chance explains?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import fdtrc

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray


class Comparison(NamedTuple):
    """F test of two fits, of C responses.

    Attributes
    ----------
    statistic, p_value : (C,) float64
        NaN where the larger fit leaves no residual.
    numerator_df, denominator_df : float
        Approximate degrees of freedom.
    edf : (2,) float64
        ``tr S`` of the smaller and of the larger fit; the others in the same order.
    rss : (2, C) float64
        Residual sums of squares, weighted.
    delta1, delta2 : (2,) float64
        ``tr D`` and ``tr D^2`` with ``D = R'R`` and R = I - S, for responses times the roots of their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import compare
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> y = np.sin(6 * x) + 0.1 * np.cos(1000 * x)
    >>> test = compare(LocalLinear(1e6).fit(x, y), LocalLinear(0.2).fit(x, y))  # a straight line against a curve
    >>> test.edf.round(1).tolist()[0], bool(test.p_value[0] < 0.001)
    (2.0, True)
    """

    statistic: FloatArray
    p_value: FloatArray
    numerator_df: float
    denominator_df: float
    edf: FloatArray
    rss: FloatArray
    delta1: FloatArray
    delta2: FloatArray


def compare(fit_1: Any, fit_2: Any) -> Comparison:
    """F test of whether the larger of two fits explains more than the smaller one, with approximate degrees of freedom.

    ``F = ((RSS_0 - RSS_1) / (delta1_0 - delta1_1)) / (RSS_1 / delta1_1)`` is compared with an F distribution of
    ``(delta1_0 - delta1_1)^2 / tr (D_0 - D_1)^2`` and ``delta1_1^2 / delta2_1`` degrees of freedom; fit 0 has the smaller
    ``tr S``.  F and the deltas are those of R's ``anova.loess`` with exact statistics, which puts ``|delta2_0 - delta2_1|``
    for the trace; the two are equal for nested projections, else the trace gives more degrees of freedom and smaller
    p-values.

    **Covers** neither target.  It assumes independent normal errors of variance sigma^2 / weight, fits without bias, and
    bandwidths that were not chosen from these responses.

    Costs O(n^3) and a few matrices of n x n numbers.

    Parameters
    ----------
    fit_1, fit_2 : fitted regressor or LinearSmoother
        Of the same responses and weights in the same order; columns, degrees, kernels and bandwidths may differ.  A
        `LinearSmoother` with a bandwidth for each point must have those of its design points.

    Raises
    ------
    ArgumentError
        If the responses or weights differ, a point has no estimate, or the smaller fit does not leave more degrees of
        freedom to the residuals.

    References
    ----------
    Cleveland and Devlin (1988), Locally weighted regression: an approach to regression analysis by local fitting, JASA 83,
    section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression import LocalLinear, NadarayaWatson
    >>> from kernadv.regression.inference import compare
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([0.0, 1.0, 3.0, 4.0])
    >>> mean, line = (model(1e9, kernel="uniform").fit(x, y) for model in (NadarayaWatson, LocalLinear))
    >>> test = compare(mean, line)  # the F test of a slope, with 1 and 2 degrees of freedom
    >>> float(test.statistic[0].round(6)), round(test.numerator_df, 6), round(test.denominator_df, 6)
    (98.0, 1.0, 2.0)
    """
    smoothers = [smoother_of(fit) for fit in (fit_1, fit_2)]
    one, two = smoothers
    if one.y.shape != two.y.shape or not (one.y == two.y).all():
        raise ArgumentError(
            "the fits must be of the same responses in the same order, and without robust steps; got "
            f"{one.y.shape} and {two.y.shape} responses" + (" that differ" if one.y.shape == two.y.shape else "")
        )
    if not np.allclose(one.weights / one.weights.mean(), two.weights / two.weights.mean(), rtol=1e-12):
        raise ArgumentError("the fits must have the same weights; only their unit may differ")
    small, large = sorted((_parts(smoother) for smoother in smoothers), key=lambda part: part[0])
    edf, rss = np.array([small[0], large[0]]), np.stack([small[1], large[1]])
    delta1 = np.array([np.trace(part[2]) for part in (small, large)])
    delta2 = np.array([(part[2] ** 2).sum() for part in (small, large)])
    if not delta1[0] > delta1[1]:
        raise ArgumentError(
            f"the smaller fit (tr S = {edf[0]:.3g}) must leave more degrees of freedom than the larger one ({edf[1]:.3g}), "
            f"got {delta1[0]:.4g} and {delta1[1]:.4g}; such fits are not nested, and no F test compares them"
        )
    gained = delta1[0] - delta1[1]
    numerator, denominator = float(gained**2 / ((small[2] - large[2]) ** 2).sum()), float(delta1[1] ** 2 / delta2[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = ((rss[0] - rss[1]) / gained) / (rss[1] / delta1[1])
    p_value = np.asarray(fdtrc(numerator, denominator, np.maximum(statistic, 0.0)))
    return Comparison(statistic, p_value, numerator, denominator, edf, rss, delta1, delta2)


def smoother_of(fit: Any) -> LinearSmoother:
    """The smoother of a fitted regressor, with bandwidths for its design points if these differ; or the given one."""
    if isinstance(fit, LinearSmoother):
        return fit
    if isinstance(fit, type) or not hasattr(fit, "_for_tests"):
        raise ArgumentTypeError(f"expected a fitted regressor or a LinearSmoother, got {fit!r:.80}")
    smoother: LinearSmoother = fit._for_tests()
    return smoother


def _parts(fit: LinearSmoother) -> tuple[float, FloatArray, FloatArray]:
    """``tr S``, the residual sums of squares (C,) and ``D = R'R`` (n, n)."""
    hat = fit.hat(fit.points)
    unknown = int(np.isnan(hat[:, 0]).sum())
    if unknown:
        raise ArgumentError(
            f"{unknown} of {len(hat)} points have no estimate; widen the bandwidth, or lower the degree"
        )
    root = np.sqrt(fit.weights / fit.weights.mean())
    residual = root[:, None] * (fit.y - hat @ fit.y)
    rest = np.eye(len(hat)) - root[:, None] * hat / root
    return float(np.trace(hat)), (residual**2).sum(axis=0), rest.T @ rest
