"""What the local plug-in rules share: the pilot scale, queries, nearest-neighbour residuals, weighted least squares."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernadv._typing import FloatArray
from kernadv.kernels import Kernel
from kernadv.regression.bandwidth._base import Selection
from kernadv.regression.bandwidth._constants import from_gaussian
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.bandwidth.rule_of_thumb import spread
from kernadv.regression.noise import neighbour_residuals

#: Rounded normal-reference constants; other kernels get theirs unrounded.
REFERENCE = {"uniform": 1.843, "triangular": 2.576, "epanechnikov": 2.34, "gaussian": 1.06}
#: Neighbours from which the residual of a point is taken.
NEIGHBORS = 3


def pilot(sample: Ordered) -> float:
    """Normal-reference bandwidth ``C_K min(sd, IQR / 1.349) n^(-1/5)``."""
    kernel = sample.spec.kernel
    constant = REFERENCE.get(kernel.name, 1.06 * from_gaussian(kernel))
    return float(constant * spread(sample.x)[0] * len(sample.x) ** -0.2)


def local_selection(
    sample: Ordered,
    queries: FloatArray,
    rule: Callable[[float], float],
    criterion: str,
    knots: int,
) -> Selection:
    """Result of a rule that gives a bandwidth a query.

    Parameters
    ----------
    sample : Ordered
    queries : (m,)
        From the smallest design point on.
    rule : callable
        Bandwidth at a query.
    criterion : str
    knots : int
        With more distinct queries than this, the rule is applied to so many quantiles of them, and the logarithm of the
        bandwidth interpolated linearly.
    """
    places = np.unique(queries)
    if len(places) > knots:
        places = np.unique(np.quantile(places, np.linspace(0.0, 1.0, knots)))
    low, high = (float(bound[0]) for bound in sample.bounds())
    varies = bool(sample.variance.any())
    raw = np.array([rule(float(c)) if varies else np.inf for c in places])
    kept = np.clip(raw, low, high)
    bandwidth = np.exp(np.interp(queries, places, np.log(kept)))
    exact = np.searchsorted(places, queries)
    exact = np.minimum(exact, len(places) - 1)
    bandwidth = np.where(places[exact] == queries, kept[exact], bandwidth)[:, None]
    nothing = np.full(1, np.nan)
    return Selection(
        bandwidth,
        np.array([[np.median(kept)]]),
        nothing,
        criterion,
        bool((raw != kept).any()),
        bool((raw >= high).all()),
    )


class Window(NamedTuple):
    """Weighted least squares of a polynomial in ``u = (x - c) / width`` around c.

    Attributes
    ----------
    u : (k,)
    weights : (k,)
    y : (k, C)
    coefficients : (order + 1, C)
        In units of the width.
    hat : (order + 1, k)
        ``coefficients = hat y``.
    residuals : (k, C)
        `neighbour_residuals` within the window.
    """

    u: FloatArray
    weights: FloatArray
    y: FloatArray
    coefficients: FloatArray
    hat: FloatArray
    residuals: FloatArray

    def variance(self, row: int) -> FloatArray:
        """Variance of a coefficient for each response.  # (C,)"""
        return np.asarray(self.hat[row] ** 2 @ self.residuals**2)


def window(sample: Ordered, kernel: Kernel, centre: float, width: float, order: int) -> Window:
    """Fit a polynomial around `centre`."""
    u = (sample.x[:, 0] - centre) / width
    weight = kernel.profile(u) * sample.weights
    inside = weight > 0.0
    u, weight, y = u[inside], weight[inside], sample.y[inside]
    root = np.sqrt(weight)
    hat = np.linalg.pinv(root[:, None] * u[:, None] ** np.arange(order + 1), rcond=1e-13) * root
    x, own = sample.x[inside, 0], sample.weights[inside]
    residuals = neighbour_residuals(x[:, None], y, NEIGHBORS, own) if len(u) > 1 else np.zeros_like(y)
    return Window(u, weight, y, hat @ y, hat, residuals)
