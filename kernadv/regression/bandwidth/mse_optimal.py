"""The bandwidth that minimises the estimated mean squared error at each query: direct plug-in, and a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from kernadv._errors import ArgumentError, check_count
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._constants import from_gaussian
from kernadv.regression.bandwidth._ordered import Ordered, prepare_curve
from kernadv.regression.bandwidth.rule_of_thumb import quartic, spread
from kernadv.regression.noise import neighbour_residuals
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

#: Rounded normal-reference constants; other kernels get theirs unrounded.
REFERENCE = {"uniform": 1.843, "triangular": 2.576, "epanechnikov": 2.34, "gaussian": 1.06}
#: Neighbours from which the residual of a point is taken.
NEIGHBORS = 3


@dataclass(frozen=True)
class MSEOptimal(Selector):
    """Direct plug-in bandwidth of a local polynomial, one per query, with the bias and the variance of its own window.

    At a query c the error of the coefficient nu of a fit of degree p with bandwidth h is about
    ``h^(2(p+1-nu)) (B1 + h B2)^2 + V / (n h^(2 nu + 1))``.  Where p - nu is odd, B1 leads, and

        h = ((2 nu + 1) V / (2 n (p + 1 - nu) (B1^2 + R)))^(1 / (2 p + 3)).

    Where it is even, B1 is 0 inside a uniform design, and h minimises ``h^(2(p+1-nu)) ((B1 + h B2)^2 + R) + V / (n h^(2 nu +
    1))`` over the range of x.

    B1 and V come from the weighted design in a normal-reference window and from nearest-neighbour residuals, so they are
    right at the boundary and under heteroscedasticity.  The derivatives of order p + 1 and p + 2 in B1 and B2 come from
    fits of a higher degree.  The bandwidths of these follow from the same formula one stage before, those of the first
    stage from polynomials over the whole range.  R is three times the variance of the estimate of B1 (not in the first
    stage); it keeps h bounded where the derivative is near 0.

    The result is that of the R package nprobust (``lpbwselect(bwselect="mse-dpi")``), in the even case only without R:
    there nprobust adds R to B1, whose square has the unit of R, and its h changes with the units of x and y.

    Parameters
    ----------
    derivative : int
        nu: the bandwidth is for the derivative of this order; at most the degree.
    regularise : bool
        Whether R is used.
    fewest : int
        No bandwidth is below the distance to this many points.
    knots : int
        Largest number of queries for which the rule is computed; its logarithm is interpolated between them.

    References
    ----------
    Calonico, Cattaneo and Farrell (2018), On the effect of bias estimation on coverage accuracy in nonparametric
    inference, JASA 113.
    Calonico, Cattaneo and Farrell (2019), nprobust: nonparametric kernel-based estimation and robust bias-corrected
    inference, Journal of Statistical Software 91.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import MSEOptimal
    >>> rng = np.random.default_rng(0)
    >>> x = rng.random(400)
    >>> fit = LocalLinear(0.2, kernel="triangular").fit(x, np.sin(6 * x) + 0.3 * rng.normal(size=400)).as_fit()
    >>> MSEOptimal().select(fit, at=np.array([[0.0], [0.5]])).bandwidth.shape
    (2, 1)
    >>> from kernadv.regression.bandwidth import LeaveOneOut
    >>> sample = LeaveOneOut().prepare(fit)  # checked, sorted, x from 0 on
    >>> bool(MSEOptimal().at(sample, centre=0.5) < np.ptp(x))
    True
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
        sample = prepare_curve(self.name, smoother, degrees=(0, 1, 2, 3))
        queries = sample.shifted(smoother, at)[:, 0]
        return _interpolated(
            lambda unit: partial(self.at, unit), sample, queries, self.knots, "direct plug-in of the pointwise MSE"
        )

    def at(self, sample: Ordered, centre: float) -> float:
        """Bandwidth at one query."""
        distance = np.sort(np.abs(sample.x[:, 0] - centre))
        low, high = float(distance[min(self.fewest, len(distance)) - 1]), float(distance[-1])
        own = min(max(_pilot(sample), low), high)
        p, width = sample.spec.degree, float(sample.span[0])
        even = (p - self.derivative) % 2 == 0

        def stage(degree: int, row: int, widths: tuple[float, float], first: bool = False) -> float:
            error = _error(sample, centre, degree, row, own, widths, self.regularise and not first)
            return min(max(_best(error, degree, row, width, len(sample.x), even), low), high)

        first = stage(p + 2, p + 2, (width, width), first=True)
        second = stage(p + 3, p + 3, (width, width), first=True) if even else width
        third = stage(p + 1, p + 1, (first, second))
        return stage(p, self.derivative, (third, first))


@dataclass(frozen=True)
class MSERule(Selector):
    """``h = (V sigma^2 / (4 n f(c) (B m''(c) / 2)^2))^(1/5)`` for local linear fits, one per query.

    sigma^2 comes from a quartic over the whole design, f(c) from the share of points in a normal-reference window, m''(c)
    from a local quartic with the range as its bandwidth; B and V are the boundary constants of the kernel, at every query.
    The result is that of the R package nprobust (``lpbwselect(bwselect="mse-rot")``).

    Parameters
    ----------
    knots : int
        Largest number of queries for which the rule is computed; its logarithm is interpolated between them.

    References
    ----------
    Calonico, Cattaneo and Farrell (2019), nprobust: nonparametric kernel-based estimation and robust bias-corrected
    inference, Journal of Statistical Software 91.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> LocalLinear("mse_rule").fit(x, np.sin(6 * x) + 0.1 * np.cos(1000 * x)).bandwidth_.shape
    (60, 1)
    """

    name = "mse_rule"
    knots: int = 200

    def __post_init__(self) -> None:
        check_count(self.knots, "knots", 2)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """A bandwidth (m, 1) at the queries, by default the design points; see `Selector.select`."""
        sample = prepare_curve(self.name, smoother, degrees=(1,))
        n, side = len(sample.x), sample.spec.kernel.one_sided
        _, _, noise = quartic(sample)

        def rule(unit: Ordered) -> Callable[[float], float]:
            own = _pilot(unit)

            def at_one(centre: float) -> float:
                near = int((np.abs(unit.x[:, 0] - centre) <= own).sum())
                second = _window(unit, centre, 1.0, 4).coefficients[2]  # m'' / 2
                bias = (2.0 * side.ll_bias) ** 2 * float((second**2).sum())
                density = max(near, 1) / (2.0 * n * own)
                return float((side.ll_variance * noise / density / (4.0 * n * bias)) ** 0.2) if bias > 0.0 else np.inf

            return at_one

        queries = sample.shifted(smoother, at)[:, 0]
        return _interpolated(rule, sample, queries, self.knots, "rule of thumb of the pointwise MSE")


class _Error(NamedTuple):
    """The parts of the mean squared error of a coefficient, see `MSEOptimal`."""

    variance: float  # V
    first: FloatArray  # (C,) B1
    second: FloatArray  # (C,) B2
    penalty: float  # R


def _error(
    sample: Ordered, centre: float, degree: int, row: int, own: float, widths: tuple[float, float], regularise: bool
) -> _Error:
    """Constants from a window `own`, derivatives from fits of one and two degrees more in windows `widths`."""
    near = _window(sample, centre, own, degree)
    variance = len(sample.x) * own * float(near.variance(row).sum())
    far = [_window(sample, centre, width, degree + 1 + i) for i, width in enumerate(widths)]
    lever = [
        float(near.hat[row] @ near.u ** (degree + 1 + i)) / width ** (degree + 1 + i) for i, width in enumerate(widths)
    ]
    penalty = 3.0 * lever[0] ** 2 * float(far[0].variance(degree + 1).sum()) if regularise else 0.0
    first, second = (lever[i] * far[i].coefficients[degree + 1 + i] for i in range(2))
    return _Error(variance, first, second, penalty)


def _best(error: _Error, degree: int, row: int, width: float, n: int, even: bool) -> float:
    """Bandwidth with the smallest error."""
    rise, fall = 2 * (degree + 1 - row), 2 * row + 1
    if not even:
        bias = float((error.first**2).sum()) + error.penalty
        return float((fall * error.variance / (n * rise * bias)) ** (1.0 / (2 * degree + 3))) if bias > 0.0 else np.inf
    if not (error.first.any() or error.second.any()):
        return np.inf

    a, b = width * error.second, error.first
    square, mixed, plain = float(a @ a), 2.0 * float(a @ b), float(b @ b) + error.penalty
    noise = error.variance / n / width**rise / width**fall

    def mse(share: float) -> float:
        return share**rise * (plain + share * (mixed + share * square)) + noise / share**fall

    def slope(share: float) -> float:
        bias = rise * plain + share * ((rise + 1) * mixed + share * (rise + 2) * square)
        return share ** (rise + fall) * bias - fall * noise

    share = float(minimize_scalar(mse, bounds=(1e-15, 1.0), method="bounded", options={"xatol": 1e-7}).x)
    near = (1.0 - 1e-3) * share, (1.0 + 1e-3) * share
    if slope(near[0]) < 0.0 < slope(near[1]):  # a minimum is found to half the digits, a root to all
        share = float(brentq(slope, *near, xtol=1e-300, rtol=1e-14))
    return width * share


def _pilot(sample: Ordered) -> float:
    """Normal-reference bandwidth ``C_K min(sd, IQR / 1.349) n^(-1/5)``."""
    kernel = sample.spec.kernel
    constant = REFERENCE.get(kernel.name, 1.06 * from_gaussian(kernel))
    return float(constant * spread(sample.x)[0] * len(sample.x) ** -0.2)


def _interpolated(
    rule: Callable[[Ordered], Callable[[float], float]],
    sample: Ordered,
    queries: FloatArray,
    knots: int,
    criterion: str,
) -> Selection:
    """Result of a rule for one query: at each of them, or interpolated log-linearly between `knots` quantiles of them.

    The rule is made from the sample, and called, in units of the range of the design: powers of any x then stay numbers.
    """
    span = float(sample.span[0])
    unit, queries = replace(sample, x=sample.x / span), queries / span
    places = np.unique(queries)
    if len(places) > knots:
        places = np.unique(np.quantile(places, np.linspace(0.0, 1.0, knots)))
    low, high = (float(bound[0]) for bound in unit.bounds())
    at_one, varies = rule(unit), bool(sample.variance.any())
    raw = np.array([at_one(float(c)) if varies else np.inf for c in places])
    kept = np.clip(raw, low, high)
    between = np.exp(np.interp(queries, places, np.log(kept)))
    exact = np.minimum(np.searchsorted(places, queries), len(places) - 1)
    bandwidth = span * np.where(places[exact] == queries, kept[exact], between)[:, None]
    outside, straight = bool((raw != kept).any()), bool((raw >= high).all())
    return Selection(bandwidth, np.array([[span * np.median(kept)]]), np.full(1, np.nan), criterion, outside, straight)


class _Window(NamedTuple):
    """Weighted least squares of a polynomial in ``u = (x - c) / width`` around c."""

    x: FloatArray  # (k,)
    y: FloatArray  # (k, C)
    weights: FloatArray  # (k,) of the observations
    u: FloatArray  # (k,)
    hat: FloatArray  # (order + 1, k)
    coefficients: FloatArray  # (order + 1, C) hat y

    def variance(self, row: int) -> FloatArray:
        """Variance of a coefficient for each response, from nearest-neighbour residuals.  # (C,)"""
        if len(self.x) < 2:
            return np.zeros(self.y.shape[1])
        residuals = neighbour_residuals(self.x[:, None], self.y, NEIGHBORS, self.weights)
        return np.asarray(self.hat[row] ** 2 @ residuals**2)


def _window(sample: Ordered, centre: float, width: float, order: int) -> _Window:
    """Fit a polynomial around `centre`."""
    u = (sample.x[:, 0] - centre) / width
    weight = sample.spec.kernel.profile(u) * sample.weights
    inside = weight > 0.0
    x, y, own, u, root = (
        sample.x[inside, 0],
        sample.y[inside],
        sample.weights[inside],
        u[inside],
        np.sqrt(weight[inside]),
    )
    hat = np.linalg.pinv(root[:, None] * u[:, None] ** np.arange(order + 1), rcond=1e-13) * root
    return _Window(x, y, own, u, hat, hat @ y)


SELECTORS = (MSEOptimal(), MSERule())
