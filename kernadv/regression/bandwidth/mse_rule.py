"""A rule of thumb for the bandwidth that minimises the mean squared error at each query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import check_count
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._formula import formula_data
from kernadv.regression.bandwidth._local_rule import local_selection, pilot, window
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.smoother import LinearSmoother

#: Degree of the polynomials for the noise and for the second derivative.
QUARTIC = 4


@dataclass(frozen=True)
class MSERule(Selector):
    """``h = (V sigma^2 / (4 n f(c) (B m''(c) / 2)^2))^(1/5)`` for local linear fits, one a query.

    sigma^2 is that of a quartic over the whole design, f(c) the share of points in a normal-reference window, m''(c) from
    a local quartic with the range as its bandwidth, B and V the boundary constants of the kernel, at every query.  The
    result is the one of the R package nprobust (``lpbwselect(bwselect="mse-rot")``).

    Parameters
    ----------
    knots : int
        Most queries for which the rule is computed; between them its logarithm is interpolated.

    References
    ----------
    Calonico, Cattaneo and Farrell (2019), nprobust: nonparametric kernel-based estimation and robust bias-corrected
    inference, Journal of Statistical Software 91.
    """

    name = "mse_rule"
    knots: int = 200

    def __post_init__(self) -> None:
        check_count(self.knots, "knots", 2)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """A bandwidth (m, 1) at the queries, by default the design points; see `Selector.select`."""
        sample = formula_data(self.name, smoother, degrees=(1,))
        queries = (smoother.x if at is None else at)[:, 0] - smoother.x[sample.row[0], 0]
        half = float(sample.span[0]) / 2.0
        design = np.polynomial.legendre.legvander(sample.x[:, 0] / half - 1.0, QUARTIC)
        root = np.sqrt(sample.weights)[:, None]
        fitted = design @ np.linalg.lstsq(root * design, root * sample.y, rcond=None)[0]
        squares = float((sample.weights @ (sample.y - fitted) ** 2).sum())
        noise = squares / max(len(sample.x) - QUARTIC - 1, 1)
        return local_selection(
            sample, queries, lambda c: _rule(sample, c, noise), "rule of thumb of the pointwise MSE", self.knots
        )


def _rule(sample: Ordered, centre: float, noise: float) -> float:
    """Bandwidth at one query."""
    n, own, span = len(sample.x), pilot(sample), float(sample.span[0])
    near = int((np.abs(sample.x[:, 0] - centre) <= own).sum())
    second = window(sample, sample.spec.kernel, centre, span, QUARTIC).coefficients[2] / span**2  # m'' / 2
    side = sample.spec.kernel.one_sided
    bias = (2.0 * side.ll_bias) ** 2 * float((second**2).sum())
    density = max(near, 1) / (2.0 * n * own)
    if not bias > 0.0:
        return float("inf")
    return float((side.ll_variance * noise / density / (4.0 * n * bias)) ** 0.2)


SELECTORS = (MSERule(),)
