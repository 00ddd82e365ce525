"""What the inference functions share: checks of their smoother, and their result."""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import ArrayType

#: What an interval or a band covers: m, or the expectation of the estimate, which is m smoothed; or one more response.
REGRESSION_FUNCTION = "regression function"
SMOOTHED_TARGET = "smoothed target"
NEW_RESPONSE = "new response"


def checked(fit: LinearSmoother) -> LinearSmoother:
    """The smoother without points of weight 0, its mean weight 1.

    Raises
    ------
    ArgumentTypeError
        If it is not a `LinearSmoother`, or its arrays hold no numbers.
    ArgumentError
        For categorical columns, series and bandwidths that change with the query; for shapes that do not match, numbers that
        are not finite, negative weights, a bandwidth that is not positive.
    """
    if not isinstance(fit, LinearSmoother) or not isinstance(fit.spec, LocalPolynomialSpec):
        raise ArgumentTypeError(
            f"expected a LinearSmoother with a LocalPolynomialSpec, got {type(fit).__name__}; a fitted regressor gives one: "
            "model.as_fit()"
        )
    names = ("x", "y", "weights", "bandwidth")
    x, y, weights, bandwidth = (check_floats(getattr(fit, name), name) for name in names)
    cluster = None if fit.cluster is None else np.asarray(fit.cluster)
    if x.ndim != 2 or y.ndim != 2 or len(y) != len(x) or weights.shape != (len(x),):
        raise ArgumentError(
            f"expected x (n, d), y (n, C) and weights (n,), got shapes {x.shape}, {y.shape} and {weights.shape}"
        )
    check_one_curve(fit)
    if bandwidth.shape != (x.shape[1],) or not np.all((bandwidth > 0) & np.isfinite(bandwidth)):
        raise ArgumentError(f"expected one positive bandwidth a dimension ({x.shape[1]}), got {bandwidth}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ArgumentError("x and y must be finite; leave out the points with missing responses")
    fair = np.isfinite(weights) & (weights >= 0)
    if not fair.all():
        raise ArgumentError(f"weights must be finite and not negative, got {weights[~fair][:3]}")
    if cluster is not None and cluster.shape != (len(x),):
        raise ArgumentError(f"expected one cluster a point ({len(x)}), got shape {cluster.shape}")
    kept = weights > 0
    if not kept.any():
        raise ArgumentError("expected at least one point with a positive weight, got none")
    if not kept.all():
        x, y, weights, cluster = x[kept], y[kept], weights[kept], None if cluster is None else cluster[kept]
    return LinearSmoother(fit.spec, x, y, weights / weights.mean(), bandwidth, cluster)


def check_one_curve(fit: LinearSmoother) -> None:
    """Raise unless the smoother is that of one curve with one bandwidth."""
    if fit.series is not None:
        raise ArgumentError("a fit with groups is of several curves: fit one group, or ask interval and band")
    if fit.categories or np.ndim(fit.bandwidth) == 2:
        reason = "categorical columns" if fit.categories else "a bandwidth that changes with the query"
        raise ArgumentError(
            f"kernadv.regression.inference does not know {reason}; ask interval, band, or predict with return_std"
        )


class Interval(NamedTuple, Generic[ArrayType]):
    """Intervals at m queries for C responses; of a regressor in the shape and type of its `predict`.

    Attributes
    ----------
    estimate, low, high : (m, C) float64
        NaN where undefined.
    covers : {"regression function", "smoothed target", "new response"}
        What the interval covers at its level: m(x), the expectation of the estimate, which is m smoothed, or one more
        response.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 101)
    >>> model = LocalLinear(0.3).fit(x, x**2 + 0.1 * (-1.0) ** np.arange(101))
    >>> estimate, low, high, covers = model.interval([0.5])
    >>> bool(low[0] < 0.25 < high[0]), covers
    (True, 'regression function')
    """

    estimate: ArrayType
    low: ArrayType
    high: ArrayType
    covers: str
