"""A linear smoother: settings, data and bandwidth, and the estimates and hat vectors that follow from them.

`LinearSmoother` decides how an estimate is computed: from local moments where these are cheap, else from rows of the hat
matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import comb, factorial, prod
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.spatial import cKDTree

from kernadv._arrays import check_floats, row_order
from kernadv._errors import ArgumentError
from kernadv.regression._threads import blocks
from kernadv.regression.columns import Category
from kernadv.regression.hat_rows import BLOCK, determines, hat_rows
from kernadv.regression.instead import instead
from kernadv.regression.level_moments import LevelMoments, few_levels
from kernadv.regression.local.moments import ascending, exponents
from kernadv.regression.local.polynomial import (
    STEEP,
    LocalPolynomialSpec,
    LocalValues,
    hat_matrix,
    smooth,
    squared_norm,
)
from kernadv.regression.local.solve import RANK
from kernadv.regression.neighbours import InverseDistance
from kernadv.regression.series import Part, Points, apart
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Numbers of neighbours, coordinates and responses at a time.
NEIGHBOURS = 2_000_000
#: Designs with more moments per query than this are smoothed by rows of the hat matrix.
MOMENTS = 200
#: So are those whose grid of exponents is larger than this.
GRID = 200_000


class Estimates(NamedTuple):
    """Estimates at m queries.

    Attributes
    ----------
    value : (m, C) float64
        NaN where undefined.
    centre : (m,) float64
        Weight of a point at the query itself with observation weight 1; its leverage is this times its weight.
    square : (m,) float64, or None
        ``sum_j l_j^2 / omega_j``: variance of the estimate if the responses have variances 1 / omega.
    defined : (m,) bool
    """

    value: FloatArray
    centre: FloatArray
    square: FloatArray | None
    defined: BoolArray


class Ascending(NamedTuple):
    """A design in ascending order.

    Attributes
    ----------
    order : (n,) int, or slice
        Row of each point; a full slice if the rows ascend already.
    x : (n, d)
    series : (n,) int, or None
    """

    order: IntArray | slice
    x: FloatArray
    series: IntArray | None


@dataclass(frozen=True)
class LinearSmoother:
    """A local polynomial smoother of some data: its estimates are ``mhat(x) = sum_j l_j(x) y_j``.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    x : (n, d) float64
        Design points, their continuous columns.
    y : (n, C) float64
        Responses.
    weights : (n,) float64
        Observation weights omega >= 0, inversely proportional to the variances of the responses.  Only their ratios
        matter: a result that is a variance is that of a response of mean weight.
    bandwidth : (d,) or (n, 1) float64
        One a column; or one a design point, if each query has its own, see `Points`.  Selectors do not read it.
    cluster : (n,) int, or None
        Cluster of each point, for cluster-robust variances.
    series : (n,) int, or None
        Series of each point, from 0 on; no window contains points of two series.
    levels : (n, c) int64
        Categorical columns, as ranks of their levels.
    categories : sequence of c Category
    smoothing : (c,) float64
        Bandwidth lambda of each categorical column.
    metric : str or callable
        Distance for radial kernels, see `sklearn.metrics.pairwise_distances`.
    empty : {"nan", "nearest", "widen"}
    fall_back : bool
        What stands in for an estimate that its window does not determine, see `kernadv.regression.instead`.  It does so in
        `estimate` of the value and in `hat`; moments, derivatives and inference do without.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.kernels import get
    >>> from kernadv.regression import LinearSmoother, LocalPolynomialSpec
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> mean = LinearSmoother(LocalPolynomialSpec(get("triangular")), x, x**2, np.ones(3), np.array([2.0]))
    >>> mean.hat(mean.points)[0]  # weights 1, .5 and 0 at the first point, over their sum
    array([0.66666667, 0.33333333, 0.        ])
    >>> float(mean.estimate(mean.points).value[0, 0])
    0.3333333333333333
    >>> x = np.linspace(0.0, 1.0, 30)[:, None]
    >>> line = LinearSmoother(LocalPolynomialSpec(get("epanechnikov"), 1), x, x**2, np.ones(30), np.array([0.3]))
    >>> line.raised().spec.degree, line.take(np.arange(10)).x.shape, line.responses(np.array([True])).y.shape
    (2, (10, 1), (30, 1))
    >>> at = line.queries(np.array([[0.5]]))  # checked
    >>> values = line.smooth(at)
    >>> round(float(values.value[0, 0]), 2), round(float(line.squared_norm(at, values)[0]), 2)  # and the sum of l_j^2
    (0.27, 0.07)
    >>> bool(line.reached(line.points).all()), line.deficient, line.by_rows, line.intervals_by_rows
    (True, False, False, False)
    >>> line.sorted_rows()[:3], line.ascending.x[0], line.tree.n, line.moments(line.points).value.shape
    (array([0, 1, 2]), array([0.]), 30, (30, 1))
    >>> [rows.shape for _, rows in line.hat_blocks(line.points)], len(list(line.parts(line.points)))
    ([(30, 30)], 1)
    >>> narrow = line.with_bandwidth(np.array([0.01])).filled("nan", fall_back=True)  # means where there is no line
    >>> narrow.fills, bool(narrow.estimate(line.points).defined.all())
    (True, True)
    """

    spec: LocalPolynomialSpec
    x: FloatArray
    y: FloatArray
    weights: FloatArray
    bandwidth: FloatArray = field(default_factory=lambda: np.empty(0))
    cluster: IntArray | None = None
    series: IntArray | None = None
    levels: IntArray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    categories: tuple[Category, ...] = ()
    smoothing: FloatArray = field(default_factory=lambda: np.empty(0))
    metric: Any = "euclidean"
    empty: str = "nan"
    fall_back: bool = False

    # ------------------------------------------------------------------------------------------------ the data

    @property
    def points(self) -> Points:
        """The design points as queries."""
        levels = self.levels if self.categories else np.empty((len(self.x), 0), np.int64)
        return Points(self.x, levels, self.series, self.bandwidth if self.bandwidth.ndim == 2 else None)

    def take(self, rows: IntArray | BoolArray) -> Self:
        """The smoother of some of the points."""
        each = {name: getattr(self, name) for name in ("x", "y", "weights", "cluster", "series")}
        if self.categories:
            each["levels"] = self.levels
        if self.bandwidth.ndim == 2:
            each["bandwidth"] = self.bandwidth
        return self._same_design({name: part if part is None else part[rows] for name, part in each.items()})

    def with_bandwidth(self, bandwidth: FloatArray, smoothing: FloatArray | None = None) -> Self:
        """The smoother with another bandwidth, and other lambdas of its categorical columns."""
        return self._same_design(
            {"bandwidth": bandwidth, "smoothing": self.smoothing if smoothing is None else smoothing}
        )

    def _same_design(self, changes: dict[str, Any]) -> Self:
        """A changed copy that keeps what is known of the whole design; cheaper than `replace`."""
        other = object.__new__(type(self))
        known = {"deficient"} if "x" in changes else {"deficient", "ascending", "tree"}
        kept = {
            name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__ or name in known
        }
        other.__dict__.update(kept, **changes)
        return other

    def responses(self, columns: BoolArray) -> Self:
        """The smoother of some of the responses."""
        return self._same_design({"y": self.y[:, columns]})

    def raised(self, by: int | None = None) -> Self:
        """The smoother of a higher degree, whose bias is of a smaller order; default: `correction` degrees more."""
        degree = self.spec.degree + (correction(self.spec) if by is None else by)
        return replace(self, spec=replace(self.spec, degree=degree))

    @property
    def fills(self) -> bool:
        """Whether anything stands in for estimates that do not exist."""
        return self.empty != "nan" or (self.fall_back and (self.spec.degree > 0 or not self.spec.kernel.closed))

    def filled(self, empty: str, fall_back: bool) -> Self:
        """The smoother with what stands in for estimates that do not exist."""
        return self._same_design({"empty": empty, "fall_back": fall_back})

    @cached_property
    def ascending(self) -> Ascending:
        """The design sorted by series and the first dimension: once for all that is computed from moments."""
        first = self.x[:, 0] if self.x.shape[1] else np.zeros(len(self.x))
        order = ascending(first)
        if self.series is not None:
            label = self.series[order]
            if (label[1:] < label[:-1]).any():
                by_series = np.argsort(label, kind="stable")
                order = by_series if isinstance(order, slice) else order[by_series]
        return Ascending(order, self.x[order], None if self.series is None else self.series[order])

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: without what can be made again."""
        return {name: part for name, part in self.__dict__.items() if name != "tree"}

    @cached_property
    def tree(self) -> cKDTree:
        """The design, to search for neighbours: once for all queries."""
        return cKDTree(self.x)

    def sorted_rows(self) -> IntArray:
        """Rows by series, x, levels, y and weight: an order that does not depend on the given one.  # (n,)"""
        x, levels, series = self.points[:3]
        return row_order(np.zeros(len(x)) if series is None else series, x, levels, self.y, self.weights)

    def queries(self, at: FloatArray) -> FloatArray:
        """The queries as floats; raises if they are not (m, d) or not finite.  # (m, d)"""
        queries = check_floats(at, "queries")
        if queries.ndim != 2 or queries.shape[1] != self.x.shape[1]:
            raise ArgumentError(f"expected queries of shape (m, {self.x.shape[1]}), got {queries.shape}")
        if not np.isfinite(queries).all():
            raise ArgumentError(f"queries must be finite, got {queries[~np.isfinite(queries).all(1)][0]}")
        return queries

    # ------------------------------------------------------------------------------------------------ moments or rows

    @cached_property
    def deficient(self) -> bool:
        """Whether the whole design does not determine a polynomial of the degree, see `determines`."""
        return self.x.shape[1] > 1 and not determines(self.x, self.spec.degree)

    @property
    def by_rows(self) -> bool:
        """Whether estimates come from rows of the hat matrix.

        So they do for categorical columns (moments by level are used if the levels are few), deficient designs, distances
        other than the Euclidean one, weights that are infinite at 0, and too many moments.
        """
        return bool(self.categories) or self._without_moments(self.spec.degree)

    @property
    def intervals_by_rows(self) -> bool:
        """The same for intervals: also for the degree that corrects the bias, and if queries have bandwidths."""
        raised = self.spec.degree + correction(self.spec)
        return self.bandwidth.ndim == 2 or bool(self.categories) or self._without_moments(raised)

    def _by_slopes(self, derivative: tuple[int, ...] | None) -> bool:
        """Whether the derivative is that of the kernel's weights: a mean has no coefficient for it."""
        return self.spec.degree == 0 and derivative is not None and any(derivative)

    def _without_moments(self, degree: int) -> bool:
        dimensions, order = max(self.x.shape[1], 1), 2 * degree
        many = coefficients(dimensions, order) > MOMENTS or (order + 1) ** dimensions > GRID
        return self.deficient or many or self.metric != "euclidean" or isinstance(self.spec.kernel, InverseDistance)

    @np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
    def estimate(self, at: Points, derivative: tuple[int, ...] | None = None, *, square: bool = False) -> Estimates:
        """Estimate the regression function, or a derivative of it, at the queries.

        Parameters
        ----------
        at : Points of m queries
        derivative : d orders, optional
        square : bool
            Whether to compute `Estimates.square`.
        """
        out = self._own_estimate(at, derivative, square)
        if derivative is None:
            for rows, other, queries in instead(self, at, out.defined):
                part = other.estimate(queries, square=square)
                out.value[rows], out.centre[rows], out.defined[rows] = part.value, part.centre, part.defined
                if out.square is not None:
                    out.square[rows] = part.square
        return out

    def _own_estimate(self, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Estimates:
        """Estimates from the window of each query, with the degree of the smoother."""
        if at.near is not None and not square and derivative is None and self.spec.degree == 0:
            return self._of_neighbours(at, at.near)
        if self._by_slopes(derivative):
            value, centre, norm, defined = self._by_rows(at, derivative)
        elif not self.by_rows:
            local = self.moments(at, derivative)
            value, centre, defined = local.value, local.row[:, 0].copy(), local.defined
            norm = self._squared_norms(at, local) if square else np.empty(len(value))
        elif not self._without_moments(self.spec.degree) and few_levels(self, at):
            value, centre, norm, defined = self._by_levels(at, derivative, square)
        else:
            value, centre, norm, defined = self._by_rows(at, derivative)
        defined = defined & self.reached(at)
        value[~defined], centre[~defined] = np.nan, np.nan
        return Estimates(value, centre, np.where(defined, norm, np.nan) if square else None, defined)

    def _of_neighbours(self, at: Points, near: IntArray) -> Estimates:
        """Means of the neighbours that a search has found; where it was not sure, estimates from the windows."""
        assert at.bandwidth is not None
        value, total = np.empty((len(near), self.y.shape[1])), np.empty(len(near))
        for own in blocks(len(near), NEIGHBOURS // (near.shape[1] * max(self.x.shape[1], self.y.shape[1]))):
            distance = np.sqrt(((self.x[near[own]] - at.x[own, None]) ** 2).sum(axis=2))
            weight = self.spec.kernel.profile(distance / at.bandwidth[own]) * self.weights[near[own]]
            total[own] = weight.sum(axis=1)
            value[own] = (weight[:, :, None] * self.y[near[own]]).sum(axis=1)
        defined = total > 0.0
        total[~defined] = np.nan
        out = Estimates(value / total[:, None], 1.0 / total, None, defined)
        unsure = near[:, 0] < 0
        if unsure.any():
            rest = self._own_estimate(at.take(unsure)._replace(near=None), None, False)
            out.value[unsure], out.centre[unsure], out.defined[unsure] = rest.value, rest.centre, rest.defined
        return out

    def moments(self, at: Points, derivative: tuple[int, ...] | None = None) -> LocalValues:
        """Estimates from local moments; each uses only the points of its own series."""
        if at.series is None or self.series is None:
            return self._of_part(next(self.parts(at)), derivative)
        d = self.x.shape[1]
        order = (0,) * d if derivative is None else derivative
        out = LocalValues.undefined(len(at.x), self.y.shape[1], coefficients(d, self.spec.degree), order)
        for part in self.parts(at):
            out.put(part.queries, self._of_part(part, derivative))
        return out

    def _of_part(self, part: Part, derivative: tuple[int, ...] | None = None) -> LocalValues:
        y, weights = self.y[part.points], self.weights[part.points]
        return smooth(self.spec, part.x, y, weights, part.at, part.bandwidth, derivative)

    def _squared_norms(self, at: Points, values: LocalValues) -> FloatArray:
        """``sum_j l_j^2 / omega_j`` of these estimates.  # (m,)"""
        out = np.full(len(at.x), np.nan)
        for part in self.parts(at):
            weights, own = self.weights[part.points], values.take(part.queries)
            out[part.queries] = squared_norm(self.spec, part.x, weights, part.at, part.bandwidth, own, 1.0 / weights)
        return out

    def _by_levels(
        self, at: Points, derivative: tuple[int, ...] | None, square: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        """For mixed designs; queries whose windows hardly determine the polynomial use hat rows."""
        h, dimensions = self.bandwidth, self.x.shape[1]
        order = [0] * max(dimensions, 1) if derivative is None else list(derivative)
        row = exponents(len(order), self.spec.degree).tolist().index(order)
        moments = LevelMoments(self, at)
        solved = moments.solve(h, self.smoothing, row)
        unit = float(np.prod(h ** np.array(order[:dimensions]))) / prod(factorial(i) for i in order)
        value, rows = solved.coefficients[:, row] / unit, solved.row / unit
        norm = moments.squared_norm(h, self.smoothing, rows) if square else np.empty(len(at.x))
        centre, defined = rows[:, 0].copy(), solved.pivot > RANK
        steep = np.flatnonzero(solved.pivot < STEEP)
        value[steep], centre[steep], norm[steep], defined[steep] = self._by_rows(at.take(steep), derivative)
        return value, centre, norm, defined

    def _by_rows(
        self, at: Points, derivative: tuple[int, ...] | None
    ) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        m = len(at.x)
        value, centre, norm = np.empty((m, self.y.shape[1])), np.empty(m), np.empty(m)
        defined = np.empty(m, np.bool_)
        for queries, hat, own, sure in hat_rows(self, at, derivative):
            value[queries], centre[queries], defined[queries] = hat @ self.y, own, sure
            norm[queries] = (hat * hat) @ (1.0 / self.weights)
        return value, centre, norm, defined

    # ------------------------------------------------------------------------------------------------ one curve

    def smooth(self, at: FloatArray, derivative: tuple[int, ...] | None = None) -> LocalValues:
        """Estimates of one curve with one bandwidth at queries (m, d); see `local.polynomial.smooth`."""
        order, x, _ = self.ascending
        return smooth(self.spec, x, self.y[order], self.weights[order], at, self.bandwidth, derivative)

    def squared_norm(self, at: FloatArray, values: LocalValues, variance: FloatArray | None = None) -> FloatArray:
        """``sum_j l_j^2 variance_j`` of these estimates, see `local.polynomial.squared_norm`.  # (m,)"""
        order, x, _ = self.ascending
        own = None if variance is None else variance[order]
        return squared_norm(self.spec, x, self.weights[order], at, self.bandwidth, values, own)

    # ------------------------------------------------------------------------------------------------ the hat matrix

    @np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
    def hat(self, at: Points, derivative: tuple[int, ...] | None = None) -> FloatArray:
        """Rows of the hat matrix: ``estimate(at).value = hat(at) @ y``; NaN where there is no estimate.  # (m, n)"""
        rows = self._own_hat(at, derivative)
        if derivative is None:
            for part, other, queries in instead(self, at, ~np.isnan(rows[:, 0])):
                rows[part] = other.hat(queries)
        return rows

    def _own_hat(self, at: Points, derivative: tuple[int, ...] | None) -> FloatArray:
        """Rows from the window of each query, with the degree of the smoother."""
        if self.by_rows or self._by_slopes(derivative):
            rows: FloatArray = np.empty((len(at.x), len(self.y)))
            for block in hat_rows(self, at, derivative):
                rows[block.queries] = block.hat
        elif self.series is None:
            part = next(self.parts(at))
            rows = np.empty((len(at.x), len(self.y)))
            rows[part.block] = self._hat_of(part, derivative)
        else:
            rows, defined = np.zeros((len(at.x), len(self.y))), np.zeros(len(at.x), np.bool_)
            for part in self.parts(at):
                own = self._hat_of(part, derivative)
                rows[part.block], defined[part.queries] = own, ~np.isnan(own[:, 0])
            rows[~defined] = np.nan
        rows[~self.reached(at)] = np.nan
        return rows

    def hat_blocks(self, at: Points, derivative: tuple[int, ...] | None = None) -> Iterator[tuple[slice, FloatArray]]:
        """Rows of the hat matrix, some queries at a time."""
        for block in blocks(len(at.x), BLOCK // len(self.y)):
            yield block, self.hat(at.take(block), derivative)

    def _hat_of(self, part: Part, derivative: tuple[int, ...] | None) -> FloatArray:
        """Hat matrix of a part."""
        weights = self.weights[part.points]
        return hat_matrix(self.spec, part.x, weights, part.at, part.bandwidth, self._of_part(part, derivative))

    def parts(self, at: Points) -> Iterator[Part]:
        """Parts of the data to smooth one by one, see `kernadv.regression.series.apart`."""
        bandwidth = self.bandwidth if at.bandwidth is None else at.bandwidth
        order, x, series = self.ascending
        for part in apart(x, series, at.x, at.series, self.spec.kernel, bandwidth):
            yield part if isinstance(order, slice) else part._replace(points=order[part.points])

    def reached(self, at: Points) -> BoolArray:
        """Whether the query's series was fitted and, one-sided, has a point at or before it.  # (m,)"""
        if not self.spec.past:
            return at.known
        code = np.zeros(len(self.x), np.int64) if self.series is None else self.series
        asked = np.zeros(len(at.x), np.int64) if at.series is None else np.maximum(at.series, 0)
        first = np.full(max(int(code.max()), int(asked.max())) + 1, np.inf)
        np.minimum.at(first, code, self.x[:, 0])
        return np.asarray(at.known & (first[asked] <= at.x[:, 0]))


def coefficients(dimensions: int, degree: int) -> int:
    """Number of coefficients of a local polynomial."""
    return comb(dimensions + degree, degree)


def correction(spec: LocalPolynomialSpec, order: int = 0) -> int:
    """By how much a higher degree removes the leading bias: 1, or 2 where ``degree - order`` is even.

    Inside the data the windows are symmetric.  A mean then has the same leading bias as a line, and only a parabola removes
    it; the same holds for every even degree.  One-sided windows are not symmetric.  **Covers** nothing by itself.

    Parameters
    ----------
    spec : LocalPolynomialSpec
    order : int
        Total order of the estimated derivative.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 3.3; Calonico, Cattaneo and Farrell
    (2018), JASA 113, section 3.

    Examples
    --------
    >>> from kernadv.kernels import get
    >>> from kernadv.regression import LocalPolynomialSpec
    >>> from kernadv.regression.inference import correction
    >>> [correction(LocalPolynomialSpec(get("gaussian"), degree)) for degree in range(4)]
    [2, 1, 2, 1]
    """
    return 1 if spec.past or (spec.degree - order) % 2 else 2
