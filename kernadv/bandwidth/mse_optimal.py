"""The bandwidth that minimises the estimated mean squared error at each query: direct plug-in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray, IntArray
from kernadv.bandwidth._base import Selection, Selector
from kernadv.bandwidth._formula import formula_sample
from kernadv.bandwidth._local_rule import local_selection, pilot, window
from kernadv.bandwidth._sample import Sample
from kernadv.smoothers.local_polynomial import LocalPolynomialFit


@dataclass(frozen=True)
class MSEOptimal(Selector):
    """Direct plug-in bandwidth of a local linear fit, one a query, with the bias and the variance of the window itself.

    At a query c the error of the coefficient nu of a fit of degree o with bandwidth h is about
    ``h^(2(o+1-nu)) (B m^(o+1)(c))^2 + V / (n h^(2 nu + 1))``, so that

        h = ((2 nu + 1) V / (2 n (o + 1 - nu) ((B m^(o+1))^2 + R)))^(1 / (2 o + 3)).

    B and V come from the weighted design in a normal-reference window and from nearest-neighbour residuals, so they are
    right at the boundary and under heteroscedasticity; m^(o+1) from a fit one degree higher whose bandwidth follows from
    the same formula one stage before, the first one from a quartic over the whole range; R is three times the variance of
    that estimate, which keeps h bounded where the derivative is near 0 (not in the first stage).  The result is the one of
    the R package nprobust (``lpbwselect(bwselect="mse-dpi")``).

    Parameters
    ----------
    fewest : int
        No bandwidth is below the distance to this many points.
    knots : int
        Most queries for which the rule is computed; between them its logarithm is interpolated.

    References
    ----------
    Calonico, Cattaneo and Farrell (2018), On the effect of bias estimation on coverage accuracy in nonparametric
    inference, JASA 113.
    Calonico, Cattaneo and Farrell (2019), nprobust: nonparametric kernel-based estimation and robust bias-corrected
    inference, Journal of Statistical Software 91.
    """

    name = "mse_optimal"
    fewest: int = 21
    knots: int = 200

    def __post_init__(self) -> None:
        if self.fewest < 1 or self.knots < 2:
            raise ArgumentError(f"expected fewest >= 1 and knots >= 2, got {self.fewest!r} and {self.knots!r}")

    def select(
        self,
        how: LocalPolynomialFit,
        x: FloatArray,
        y: FloatArray,
        weights: FloatArray,
        *,
        at: FloatArray | None = None,
        series: IntArray | None = None,
    ) -> Selection:
        """A bandwidth (m, 1) at the queries, by default the design points; see `Selector.select`."""
        sample = formula_sample(self.name, how, x, y, weights, series, degrees=(1,))
        queries = (x if at is None else at)[:, 0] - x[sample.order[0], 0]
        return local_selection(
            sample, queries, lambda c: self.at(sample, c), "direct plug-in of the pointwise MSE", self.knots
        )

    def at(self, sample: Sample, centre: float) -> float:
        """Bandwidth at one query."""
        distance = np.sort(np.abs(sample.x[:, 0] - centre))
        low, high = float(distance[min(self.fewest, len(distance)) - 1]), float(distance[-1])
        own = min(max(pilot(sample), low), high)
        width = float(sample.span[0])
        for degree, row in ((3, 3), (2, 2), (1, 0)):
            width = _stage(sample, centre, degree, row, own, width, regularise=degree < 3)
            width = min(max(width, low), high)
        return width


def _stage(
    sample: Sample, centre: float, degree: int, row: int, own: float, width: float, *, regularise: bool
) -> float:
    """Bandwidth for a coefficient, from a window `own` and a fit of one degree more in a window `width`."""
    near = window(sample, sample.how.kernel, centre, own, degree)
    variance = len(sample.x) * own * near.variance(row)
    lever = float(near.hat[row] @ near.u ** (degree + 1))
    far = window(sample, sample.how.kernel, centre, width, degree + 1)
    unit = width ** (degree + 1)
    bias = float((far.coefficients[degree + 1] ** 2).sum()) * (lever / unit) ** 2
    if regularise:
        bias += 3.0 * (lever / unit) ** 2 * far.variance(degree + 1)
    if not bias > 0.0:
        return float("inf")
    power = 1.0 / (2 * degree + 3)
    return float(((2 * row + 1) * variance / (len(sample.x) * 2 * (degree + 1 - row) * bias)) ** power)


SELECTORS = (MSEOptimal(),)
