"""Selectors that minimise a criterion over bandwidths; every bandwidth is scored on the same points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_count, check_positive, check_range
from kernadv.regression._threads import in_parallel
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._ordered import Ordered, prepare
from kernadv.regression.bandwidth._search import refine
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray

#: A curve whose values differ by less than this share is flat.
FLAT = 0.01
#: Share by which a curve rises from its minimum towards narrow bandwidths before they are believed to be worse.
RISEN = 0.05
#: Mean squares below this share of the variance of the responses are rounding errors.
ROUNDING = 1e-20


class Errors(NamedTuple):
    """Errors at n design points.

    Attributes
    ----------
    error : (n, C)
        Response minus estimate; NaN where the estimate is undefined.
    leverage : (n,)
        Own weight of the response in the estimate; 0 for estimates from other points.
    """

    error: FloatArray
    leverage: FloatArray


@dataclass(frozen=True)
class CriterionSelector(Selector):
    """Minimises a criterion over a log grid of bandwidths and refines the minimum by golden sections.

    In d dimensions the grid scales the standard deviations by one factor; the refinement then goes through the dimensions.

    A criterion is undefined at points whose window holds too few others.  Points that are undefined even at the widest
    bandwidth (no past, a series of one point) are left out.  A bandwidth that leaves any other point undefined scores inf,
    so a few isolated points can rule out every narrow bandwidth.  If the curve stops there before it has risen, it is
    computed again without the points, at most the share `undefined`, that stop it, **the same ones for every bandwidth**.
    The second curve is used if its minimum lies at a bandwidth that the first one ruled out.

    Parameters
    ----------
    size : int
        Bandwidths of the grid.
    undefined : float
        Share of the points that may be left out because their windows are too empty.
    bounds : (low, high), optional
        Ends of the grid on a line, in units of x; default: see `kernadv.regression.bandwidth._ordered.Ordered.bounds`.

    Raises
    ------
    ArgumentError
        If a setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import LeaveOneOut
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> fit = LocalLinear(0.2).fit(x, np.sin(6 * x) + 0.1 * (-1.0) ** np.arange(60)).as_fit()
    >>> loo = LeaveOneOut(size=8, bounds=(0.05, 0.4))
    >>> sample = loo.prepare(fit)  # checked, sorted and centred
    >>> grid = loo.grid(sample)  # the bandwidths of the first search
    >>> curve, scored = loo.curve(sample, grid)
    >>> errors = loo.errors(sample, grid[3])  # of all points, each from the others
    >>> np.allclose([loo.score(errors, sample.weights, sample.variance), loo.at(sample, grid[3], scored)], curve[3])
    True
    >>> bool(np.isclose(loo.score_over(scored, errors, sample.weights, sample.variance), curve[3]))
    True
    >>> loo.flat(curve, sample), bool(loo.minimise(sample).value <= curve.min())
    (False, True)
    >>> loo.select(fit).criterion
    'leave-one-out CV'
    >>> bool(loo.best_each(fit, grid)[0] == grid[curve.argmin()]), loo.scores(errors, sample.weights, sample.variance).shape
    (True, (1,))
    """

    size: int = 32
    undefined: float = 0.02
    bounds: tuple[float, float] | None = None

    #: What the curve is called in reports.
    criterion: ClassVar[str]
    #: Whether it also works on data on a device: errors must come from `Ordered.fitted` or `Ordered.from_past`.
    on_device: ClassVar[bool] = False
    #: True if the criterion is a logarithm already.
    logarithmic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count(self.size, "size", 3, most=2**20)
        if check_range(self.undefined, "undefined", 0.0) >= 1.0:
            raise ArgumentError(f"undefined must be a share of the points, 0 <= undefined < 1, got {self.undefined!r}")
        if self.bounds is not None:
            if not isinstance(self.bounds, (tuple, list, np.ndarray)) or len(self.bounds) != 2:
                raise ArgumentTypeError(f"bounds must be a pair (low, high) of bandwidths, got {self.bounds!r}")
            low, high = (check_positive(bound, "bounds", "0 < low < high") for bound in self.bounds)
            if low >= high:
                raise ArgumentError(f"bounds must be 0 < low < high, got {self.bounds!r}")

    def errors(self, sample: Ordered, bandwidth: FloatArray) -> Errors:
        """Errors of all points at one bandwidth (d,), or one per point (n, 1); by default residuals."""
        value, leverage = sample.fitted(bandwidth)
        return Errors(sample.y - value, leverage)

    def scores(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> FloatArray:
        """Criterion of each response; by default the weighted mean of squares.  NaN where an error is.  # (C,)

        Parameters
        ----------
        errors : Errors
            Of the points that are scored.
        weights : (n,)
        variance : (C,)
            Variance of the responses: mean squares far below it are rounding errors.
        """
        return np.asarray(np.einsum("i,ic,ic->c", weights, errors.error, errors.error) / weights.sum())

    def score(self, errors: Errors, weights: FloatArray, variance: FloatArray) -> float:
        """Sum of the `scores`."""
        return float(self.scores(errors, weights, variance).sum())

    def prepare(self, smoother: LinearSmoother) -> Ordered:
        """Checked data, with the fit that the criterion is about."""
        return prepare(smoother)

    def grid(self, sample: Ordered) -> FloatArray:
        """Bandwidths of the first search, ascending.  # (H, d)"""
        low, high = sample.bounds()
        if self.bounds is not None:
            if len(low) > 1:
                raise ArgumentError("bounds are for one dimension; leave them out in several")
            low, high = np.array([self.bounds[0]]), np.array([self.bounds[1]])
        return np.asarray(low * (high / low)[0] ** np.linspace(0.0, 1.0, self.size)[:, None])

    def curve(self, sample: Ordered, grid: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Criterion (H,) on an ascending grid (H, d), and the points (n,) bool that it was computed from.

        Raises
        ------
        ArgumentError
            If no point has an estimate at the widest bandwidth.
        """
        ever = self._defined(sample, grid[-1])
        if not ever.any():
            raise ArgumentError("no bandwidth leaves any point an estimate from the others: too few points, or series")
        curve, scored, first = self._curve_over(sample, grid, ever, 0)
        allowed = int(self.undefined * ever.sum())
        if first == 0 or allowed == 0 or not np.isfinite(curve[first]):
            return curve, scored
        if self._contrast(curve[first], curve.min(), sample) > RISEN:
            return curve, scored
        spared, kept, _ = self._curve_over(sample, grid, ever, allowed)
        return (spared, kept) if int(np.argmin(spared)) < first else (curve, scored)

    def _curve_over(
        self, sample: Ordered, grid: FloatArray, ever: BoolArray, allowed: int
    ) -> tuple[FloatArray, BoolArray, int]:
        """Curve over the points defined at the first bandwidth that leaves at most `allowed` of `ever` undefined."""
        low, high, scored = 0, len(grid) - 1, ever
        middle = low  # wide kernels leave none undefined
        while low < high:
            defined = self._defined(sample, grid[middle]) & ever
            if ever.sum() - defined.sum() <= allowed:
                high, scored = middle, defined
            else:
                low = middle + 1
            middle = (low + high) // 2
        curve = np.full(len(grid), np.inf)
        curve[high:] = in_parallel(lambda h: self.at(sample, h, scored), list(grid[high:]))
        return curve, scored, high

    def at(self, sample: Ordered, bandwidth: FloatArray, scored: BoolArray) -> float:
        """Criterion at one bandwidth over the scored points; inf if one of them has no estimate."""
        return self.score_over(scored, self.errors(sample, bandwidth), sample.weights, sample.variance)

    def score_over(self, scored: BoolArray, errors: Errors, weights: FloatArray, variance: FloatArray) -> float:
        """`score` of some of the points; inf where it is not finite."""
        if not scored.all():
            errors, weights = Errors(errors.error[scored], errors.leverage[scored]), weights[scored]
        score = self.score(errors, weights, variance)
        return score if np.isfinite(score) else float("inf")

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """Select the bandwidth that minimises the criterion; see `Selector.select`.

        If the responses are constant, every bandwidth is as good: the widest one is returned, with a flat curve of 0.
        """
        return self.minimise(self.prepare(smoother))

    def minimise(self, sample: Ordered) -> Selection:
        """Select the bandwidth from prepared data."""
        grid = self.grid(sample)
        sample.ahead(grid)
        if not sample.variance.any():
            return Selection(grid[-1], grid, np.zeros(len(grid)), self.criterion, True, True, 0.0)
        curve, scored = self.curve(sample, grid)
        finite = np.isfinite(curve)
        if not finite.any():
            raise ArgumentError(
                f"{self.criterion} is undefined at every bandwidth for {len(sample.x)} points at degree "
                f"{sample.spec.degree}; use fewer parameters, or give a bandwidth"
            )
        bandwidth, value = refine(lambda h: self.at(sample, h, scored), grid, curve, grid[0], grid[-1])
        index = int(np.argmin(curve))
        edge = index in (int(np.argmax(finite)), len(grid) - 1)
        return Selection(bandwidth, grid, curve, self.criterion, edge, self.flat(curve[finite], sample), value)

    def best_each(self, smoother: LinearSmoother, grid: FloatArray) -> FloatArray:
        """Select from some bandwidths, ascending, for each response by itself.  (H, d) -> (C, d)

        Points without an estimate at the first or the last of them are left out.
        """
        sample = self.prepare(smoother)
        kept = self._defined(sample, grid[0]) & self._defined(sample, grid[-1])
        weights = sample.weights[kept]

        def scores(bandwidth: FloatArray) -> FloatArray:
            errors = self.errors(sample, bandwidth)
            return self.scores(Errors(errors.error[kept], errors.leverage[kept]), weights, sample.variance)

        found = np.stack(in_parallel(scores, list(grid)))
        return np.asarray(grid[np.where(np.isnan(found), np.inf, found).argmin(axis=0)])

    def _defined(self, sample: Ordered, bandwidth: FloatArray) -> BoolArray:
        return np.asarray(np.isfinite(self.errors(sample, bandwidth).error).all(1))

    def flat(self, curve: FloatArray, sample: Ordered) -> bool:
        """Whether a curve of finite values hardly changes."""
        return self._contrast(float(curve.max()), float(curve.min()), sample) < FLAT

    def _contrast(self, high: float, low: float, sample: Ordered) -> float:
        """Logarithm of the ratio of two values of the criterion, unless they are logarithms themselves."""
        if self.logarithmic:
            return high - low
        least = ROUNDING * float(sample.variance.sum())
        return float(np.log((high + least) / (low + least)))
