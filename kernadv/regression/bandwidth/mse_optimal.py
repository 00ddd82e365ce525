"""The bandwidth that minimises the estimated mean squared error at each query: direct plug-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from kernadv._errors import ArgumentError, check_count
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._formula import formula_data
from kernadv.regression.bandwidth._local_rule import local_selection, pilot, window
from kernadv.regression.bandwidth._ordered import Ordered
from kernadv.regression.smoother import LinearSmoother


@dataclass(frozen=True)
class MSEOptimal(Selector):
    """Direct plug-in bandwidth of a local polynomial, one a query, with the bias and the variance of the window itself.

    At a query c the error of the coefficient nu of a fit of degree p with bandwidth h is about
    ``h^(2(p+1-nu)) (B1 + h B2)^2 + V / (n h^(2 nu + 1))``.  Where p - nu is odd, B1 leads, and

        h = ((2 nu + 1) V / (2 n (p + 1 - nu) (B1^2 + R)))^(1 / (2 p + 3)).

    Where it is even, B1 is 0 inside a uniform design, and h minimises ``h^(2(p+1-nu)) ((B1 + h B2)^2 + R) + V / (n h^(2 nu +
    1))`` over the range of x.  B1 and V come from the weighted design in a normal-reference window and from
    nearest-neighbour residuals, so they are right at the boundary and under heteroscedasticity; the derivatives of order
    p + 1 and p + 2 in B1 and B2 from fits of a higher degree, whose bandwidths follow from the same formula one stage
    before, the first ones from polynomials over the whole range; R is three times the variance of the estimate of B1 (not
    in the first stage), which keeps h bounded where the derivative is near 0.  The result is the one of the R package
    nprobust (``lpbwselect(bwselect="mse-dpi")``); in the even case without R only, because there nprobust adds R to B1,
    whose square has the unit of R, so that its h changes with the units of x and y.

    Parameters
    ----------
    derivative : int
        nu: the bandwidth is for the derivative of this order; at most the degree.
    regularise : bool
        Whether R is used.
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
    derivative: int = 0
    regularise: bool = True
    fewest: int = 21
    knots: int = 200

    def __post_init__(self) -> None:
        check_count(self.fewest, "fewest")
        check_count(self.knots, "knots", 2)
        check_count(self.derivative, "derivative", 0)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """A bandwidth (m, 1) at the queries, by default the design points; see `Selector.select`."""
        degree = smoother.spec.degree
        if self.derivative > degree:
            raise ArgumentError(f"derivative={self.derivative} needs a degree as high, got {degree}")
        sample = formula_data(self.name, smoother, degrees=(0, 1, 2, 3))
        queries = (smoother.x if at is None else at)[:, 0] - smoother.x[sample.row[0], 0]
        return local_selection(
            sample, queries, lambda c: self.at(sample, c), "direct plug-in of the pointwise MSE", self.knots
        )

    def at(self, sample: Ordered, centre: float) -> float:
        """Bandwidth at one query."""
        distance = np.sort(np.abs(sample.x[:, 0] - centre))
        low, high = float(distance[min(self.fewest, len(distance)) - 1]), float(distance[-1])
        own = min(max(pilot(sample), low), high)
        p, width = sample.spec.degree, float(sample.span[0])
        even = (p - self.derivative) % 2 == 0

        def stage(degree: int, row: int, widths: tuple[float, float], first: bool = False) -> float:
            pieces = _error(sample, centre, degree, row, own, widths, self.regularise and not first)
            return min(max(_best(pieces, degree, row, width, len(sample.x), even), low), high)

        first = stage(p + 2, p + 2, (width, width), first=True)
        second = stage(p + 3, p + 3, (width, width), first=True) if even else width
        third = stage(p + 1, p + 1, (first, second))
        return stage(p, self.derivative, (third, first))


class _Error(NamedTuple):
    """What the mean squared error of a coefficient is made of, see `MSEOptimal`."""

    variance: float  # V
    first: FloatArray  # (C,) B1
    second: FloatArray  # (C,) B2
    spread: float  # R


def _error(
    sample: Ordered, centre: float, degree: int, row: int, own: float, widths: tuple[float, float], regularise: bool
) -> _Error:
    """Constants from a window `own`, derivatives from fits of one and two degrees more in windows `widths`."""
    near = window(sample, sample.spec.kernel, centre, own, degree)
    variance = len(sample.x) * own * float(near.variance(row).sum())
    far = [window(sample, sample.spec.kernel, centre, width, degree + 1 + i) for i, width in enumerate(widths)]
    lever = [
        float(near.hat[row] @ near.u ** (degree + 1 + i)) / width ** (degree + 1 + i) for i, width in enumerate(widths)
    ]
    spread = 3.0 * lever[0] ** 2 * float(far[0].variance(degree + 1).sum()) if regularise else 0.0
    return _Error(
        variance, lever[0] * far[0].coefficients[degree + 1], lever[1] * far[1].coefficients[degree + 2], spread
    )


def _best(error: _Error, degree: int, row: int, width: float, n: int, even: bool) -> float:
    """Bandwidth with the smallest error."""
    power, spread = 2 * (degree + 1 - row), 2 * row + 1
    if not even:
        bias = float((error.first**2).sum()) + error.spread
        return (
            float((spread * error.variance / (n * power * bias)) ** (1.0 / (2 * degree + 3))) if bias > 0.0 else np.inf
        )
    if not (error.first.any() or error.second.any()):
        return np.inf

    a, b = width * error.second, error.first
    square, mixed, plain = float(a @ a), 2.0 * float(a @ b), float(b @ b) + error.spread
    noise = error.variance / n / width**power / width**spread

    def mse(share: float) -> float:
        return share**power * (plain + share * (mixed + share * square)) + noise / share**spread

    def slope(share: float) -> float:
        bias = power * plain + share * ((power + 1) * mixed + share * (power + 2) * square)
        return share ** (power + spread) * bias - spread * noise

    share = float(minimize_scalar(mse, bounds=(1e-15, 1.0), method="bounded", options={"xatol": 1e-7}).x)
    near = (1.0 - 1e-3) * share, (1.0 + 1e-3) * share
    if slope(near[0]) < 0.0 < slope(near[1]):  # a minimum is found to half the digits, a root to all
        share = float(brentq(slope, *near, xtol=1e-300, rtol=1e-14))
    return width * share


SELECTORS = (MSEOptimal(),)
