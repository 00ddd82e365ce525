"""What the inference functions share: the fit they look at, their result, and the checks of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._arrays import check_floats, row_order
from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv._typing import FloatArray, IntArray
from kernadv.regression.local.polynomial import LocalPolynomialSpec

#: What an interval or a band covers: m itself, or E of the estimate, which is m smoothed.
REGRESSION_FUNCTION = "regression function"
SMOOTHED_TARGET = "smoothed target"


class Fit(NamedTuple):
    """A smoother, its data and its bandwidth.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    x : (n, d)
    y : (n, C)
    weights : (n,)
        Observation weights >= 0: the variances of the responses are in inverse proportion.  Their unit does not matter: a
        result in which one would remain is that of a response of the mean weight.  A point of weight 0 is left out of
        everything.
    bandwidth : (d,)
    cluster : (n,) int or None
        Cluster of each point, for cluster-robust variances.
    """

    spec: LocalPolynomialSpec
    x: FloatArray
    y: FloatArray
    weights: FloatArray
    bandwidth: FloatArray
    cluster: IntArray | None = None

    def checked(self) -> Fit:
        """Return the fit without its points of weight 0, the mean weight 1, or raise if its arrays do not belong together.

        Raises
        ------
        ArgumentTypeError
            If it is no `Fit`, or its arrays hold no numbers.
        ArgumentError
            On shapes that do not match, numbers that are not finite, negative weights, a bandwidth that is not positive.
        """
        if not isinstance(self, Fit) or not isinstance(self.spec, LocalPolynomialSpec):
            raise ArgumentTypeError(
                f"expected a Fit with a LocalPolynomialSpec, got {type(self).__name__}; a fitted regressor gives one: "
                "model.as_fit()"
            )
        x, y, weights, bandwidth = (check_floats(getattr(self, name), name) for name in self._fields[1:5])
        cluster = None if self.cluster is None else np.asarray(self.cluster)
        if x.ndim != 2 or y.ndim != 2 or len(y) != len(x) or weights.shape != (len(x),):
            raise ArgumentError(
                f"expected x (n, d), y (n, C) and weights (n,), got shapes {x.shape}, {y.shape} and {weights.shape}"
            )
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
        if kept.all():
            return Fit(self.spec, x, y, weights / weights.mean(), bandwidth, cluster)
        rest = None if cluster is None else cluster[kept]
        return Fit(self.spec, x[kept], y[kept], weights[kept] / weights[kept].mean(), bandwidth, rest)

    def ordered(self) -> Fit:
        """The same points by x, then y and weight: what is drawn for them does not depend on the order they came in."""
        order = row_order(self.x, self.y, self.weights)
        cluster = None if self.cluster is None else self.cluster[order]
        return self._replace(x=self.x[order], y=self.y[order], weights=self.weights[order], cluster=cluster)

    def queries(self, at: FloatArray) -> FloatArray:
        """Return the queries, or raise if they are not (m, d) or not finite.  # (m, d)"""
        queries = check_floats(at, "queries")
        if queries.ndim != 2 or queries.shape[1] != self.x.shape[1]:
            raise ArgumentError(f"expected queries of shape (m, {self.x.shape[1]}), got {queries.shape}")
        if not np.isfinite(queries).all():
            raise ArgumentError(f"queries must be finite, got {queries[~np.isfinite(queries).all(1)][0]}")
        return queries

    def raised(self, by: int | None = None) -> Fit:
        """The fit of a higher degree with the same bandwidth, whose bias is of a smaller order; default: `correction`."""
        spec = self.spec
        degree = spec.degree + (correction(spec) if by is None else by)
        return self._replace(spec=LocalPolynomialSpec(spec.kernel, degree, spec.radial, spec.past))


def correction(spec: LocalPolynomialSpec, order: int = 0) -> int:
    """How many degrees more take the leading bias away: 1, or 2 where ``degree - order`` is even.

    Inside the data the windows are symmetric.  The leading bias of a mean is then that of a line too: only a parabola takes
    it away, and so for every even degree.  One-sided windows are not symmetric.  **Covers** nothing by itself.

    Parameters
    ----------
    spec : LocalPolynomialSpec
    order : int
        Total order of the derivative that is estimated.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 3.3; Calonico, Cattaneo and Farrell
    (2018), JASA 113, section 3.

    Examples
    --------
    >>> from kernadv.regression.inference import correction
    >>> from kernadv.kernels import get
    >>> from kernadv.regression.local.polynomial import LocalPolynomialSpec
    >>> [correction(LocalPolynomialSpec(get("gaussian"), degree)) for degree in range(4)]
    [2, 1, 2, 1]
    """
    return 1 if spec.past or (spec.degree - order) % 2 else 2


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
