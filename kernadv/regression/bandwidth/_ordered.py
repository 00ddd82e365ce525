"""The data of a selection: checked, sorted, with the series apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from kernadv._arrays import row_order
from kernadv._errors import ArgumentError
from kernadv.kernels import Kernel
from kernadv.regression.bandwidth._base import Selection
from kernadv.regression.bandwidth._constants import EPANECHNIKOV, canonical
from kernadv.regression.local.polynomial import leverage, smooth
from kernadv.regression.neighbours import nearest
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray, IntArray

#: Fewer points than this determine no bandwidth.
FEWEST = 3
#: Widest bandwidth of a search, in ranges of the design, for the Epanechnikov kernel: the window is then nearly flat.
WIDEST = 2.0
#: Share of the points that have enough neighbours at the narrowest bandwidth of a search.
MOST = 0.9
#: With more dimensions than this series are refused: the weights would lose digits to the gaps between them.
MOST_DIMENSIONS = 3


@dataclass(frozen=True)
class Ordered(LinearSmoother):
    """A smoother whose bandwidth is selected; the order of the rows that were given does not matter.

    Points of positive weight, sorted by series, then x, y and weight.  Ties in x are sorted by y: nothing may be cut or
    paired within a tie.  The first dimension of x begins at 0 in each series, the others at 0; y is centred in each series;
    the mean weight is 1; series are numbered from 0, None if there is only one.

    Attributes
    ----------
    row : (n,) int
        Row of each point in the data that were given.
    """

    row: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def span(self) -> FloatArray:
        """Range of the design in each dimension; in the first, the largest of any series.  # (d,)"""
        return np.asarray(self.x.max(0))

    @cached_property
    def variance(self) -> FloatArray:
        """Variance of each response.  # (C,)"""
        return np.asarray(self.weights @ self.y**2 / self.weights.sum())

    @cached_property
    def place(self) -> IntArray:
        """Rank of each point's series and x, in the first dimension, among the distinct ones.  # (n,)"""
        return np.cumsum(np.append(0, (np.diff(self.x[:, 0]) != 0.0) | (np.diff(self.label) > 0)))

    @cached_property
    def spots(self) -> IntArray:
        """First point of each group of points that share a series and x in all dimensions.  # (k,)"""
        moved = (np.diff(self.place) > 0) | (np.diff(self.x[:, 1:], axis=0) != 0.0).any(1)
        return np.flatnonzero(np.append(True, moved))

    @property
    def label(self) -> IntArray:
        """Number of each point's series.  # (n,)"""
        return np.zeros(len(self.x), np.int64) if self.series is None else self.series

    @property
    def n_series(self) -> int:
        """Number of series."""
        return int(self.label[-1]) + 1

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Narrowest and widest bandwidth of a search.  # (d,), (d,)

        For the Epanechnikov kernel; others get the canonical equivalent.  On a line, from the distance within which most
        points have ``degree + 1`` distinct others to twice the range.  In d dimensions multiples of the standard deviations,
        from a quarter of ``n^(-1/d)`` to where the narrowest one is twice its range.
        """
        if self.x.shape[1] > 1:
            return bounds_in_space(self.spec.kernel, len(self.x), self.span, self.x.std(0))
        x = self.x[:, 0]
        apart = np.append(True, (np.diff(x) != 0.0) | (np.diff(self.label) != 0))
        x, series = x[apart], self.label[apart]
        near = nearest(x, series, x, series, self.spec.degree + 2)  # each point is its own first
        return bounds_on_line(self.spec.kernel, float(np.quantile(near[near > 0.0], MOST)), self.span)

    def ahead(self, grid: FloatArray) -> None:
        """Told of the bandwidths of the first search: on a device they are computed together, here one by one."""

    def fitted(self, bandwidth: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Estimates at the points with one bandwidth (d,), or one per point (n, 1), and leverages.  # (n, C), (n,)"""
        smoother = self.with_bandwidth(bandwidth)
        fit = smoother.moments(smoother.points)
        return fit.value, leverage(fit, self.weights)

    def from_past(self, bandwidth: FloatArray) -> FloatArray:
        """Estimates at the points from strictly earlier ones: queries lie one rounding step before them.  # (n, C)"""
        spec, value = replace(self.spec, past=True), np.full_like(self.y, np.nan)
        for points, _, x, _, _ in self.with_bandwidth(bandwidth).parts(self.points):
            z = x / bandwidth
            before = z.copy()
            before[:, 0] = np.nextafter(before[:, 0], -np.inf)
            value[points] = smooth(spec, z, self.y[points], self.weights[points], before, np.ones(z.shape[1])).value
        return value

    def shifted(self, smoother: LinearSmoother, at: FloatArray | None) -> FloatArray:
        """Queries in the units of this sample of one series; by default the design points as they were given.  # (m, d)"""
        return np.asarray((smoother.x if at is None else at) - smoother.x[self.row[0]])

    def kept(self, bandwidth: float, criterion: str) -> Selection:
        """The bandwidth of an asymptotic formula on a line, kept between `bounds`.

        `at_edge` and `flat` say that the formula went beyond, the latter to a straight line.
        """
        low, high = (float(bound[0]) for bound in self.bounds())
        kept = np.array([min(max(bandwidth, low), high)])
        return Selection(kept, kept[None], np.full(1, np.nan), criterion, bool(kept[0] != bandwidth), bandwidth >= high)


def bounds_on_line(kernel: Kernel, near: float, span: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`Ordered.bounds` on a line, where most points have enough others within `near`."""
    factor = canonical(kernel) / canonical(EPANECHNIKOV)
    return np.array([min(near, 0.25 * float(span[0])) * factor]), WIDEST * span * factor


def bounds_in_space(kernel: Kernel, n: int, span: FloatArray, deviation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`Ordered.bounds` in several dimensions, from the number of points, their ranges and their standard deviations."""
    factor = canonical(kernel) / canonical(EPANECHNIKOV)
    low = 0.25 * n ** (-1.0 / len(span))
    return low * factor * deviation, WIDEST * factor * (span / deviation).max() * deviation


def refuse_constant(span: FloatArray, series: bool) -> None:
    """Raise if x is constant in a dimension."""
    flat = np.flatnonzero(span <= 0.0)
    if len(flat):
        where = "" if len(span) == 1 else f" in dimension {flat[0]}"
        raise ArgumentError(
            f"x is constant{where}{' within every series' if series else ''}: no bandwidth can be selected; give one, or "
            "drop the dimension"
        )


def prepare(smoother: LinearSmoother) -> Ordered:
    """Check and order the data.

    Raises
    ------
    ArgumentError
        If the shapes do not match, there are fewer than 3 points of positive weight, values that are not finite, a dimension
        in which x is constant (the first one: within every series), or series in more than 3 dimensions.
    """
    x, y, weights, series = smoother.x, smoother.y, smoother.weights, smoother.series
    shapes = np.shape(x), np.shape(y), np.shape(weights)
    n, series_shape = shapes[2], None if series is None else np.shape(series)
    if [len(s) for s in shapes] != [2, 2, 1] or any(s[:1] != n for s in shapes) or series_shape not in (None, n):
        raise ArgumentError(
            f"expected x (n, d), y (n, C), weights (n,) and series (n,) or None, got shapes {', '.join(map(str, shapes))} "
            f"and {series_shape}; a line is x[:, None]"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(weights).all()) or (weights < 0.0).any():
        raise ArgumentError("a bandwidth is selected from finite x and y and weights >= 0; drop the other rows first")
    if series is not None and x.shape[1] > MOST_DIMENSIONS:
        raise ArgumentError(f"series can be kept apart in up to {MOST_DIMENSIONS} dimensions, got {x.shape[1]}")
    used = np.arange(len(x))[smoother.ascending.order]
    used = used[weights[used] > 0.0]
    if len(used) < FEWEST:
        raise ArgumentError(
            f"a bandwidth needs at least {FEWEST} points of positive weight, got {len(used)}; give a bandwidth instead"
        )
    label = np.zeros(len(used), np.int64)
    if series is not None:
        label = np.unique(series[used], return_inverse=True)[1].astype(np.int64)
    if not ((np.diff(label) > 0) | (np.diff(x[used, 0]) > 0.0)).all():  # ties
        sort = row_order(label, x[used], y[used], weights[used])
        used, label = used[sort], label[sort]
    first = np.searchsorted(label, label)
    points, values, own = x[used], y[used] - y[used[first]], weights[used] / weights[used].mean()
    points = points - np.column_stack([points[first, 0], *(np.full(len(used), c.min()) for c in points.T[1:])])
    refuse_constant(points.max(0), series is not None)
    begin = np.unique(first)
    mean = np.add.reduceat(own[:, None] * values, begin) / np.add.reduceat(own, begin)[:, None]
    several = label if label[-1] else None
    return Ordered(smoother.spec, points, values - mean[label], own, series=several, row=used)


def prepare_curve(
    name: str, smoother: LinearSmoother, degrees: tuple[int, ...] = (0, 1), *, past: bool = False
) -> Ordered:
    """`prepare` for a selector that handles one curve on a line, one-sided only if `past` says so.

    Raises
    ------
    ArgumentError
        As `prepare`; if the fit is one-sided or of another degree, or there are several dimensions or series.
    """
    sample, spec, instead = prepare(smoother), smoother.spec, "use leave_one_out"
    if smoother.x.shape[1] > 1:
        raise ArgumentError(f"{name} is for one dimension, got {smoother.x.shape[1]}; {instead}")
    if spec.past and not past:
        raise ArgumentError(f"{name} is for two-sided smoothing; use prequential")
    if spec.degree not in degrees:
        raise ArgumentError(f"{name} is for degree {' or '.join(map(str, degrees))}, got {spec.degree}; {instead}")
    if sample.n_series > 1:
        raise ArgumentError(f"{name} is for one series, got {sample.n_series}; {instead} or prequential")
    return sample
