"""The data of a selection: checked, in one order, with the series apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kernadv._arrays import row_order
from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray, IntArray
from kernadv.regression.bandwidth._constants import from_epanechnikov
from kernadv.regression.bandwidth._line import nearest
from kernadv.regression.local.polynomial import LocalPolynomialSpec, LocalValues
from kernadv.regression.series import Part, apart, smooth_series

#: Fewer points than this determine no bandwidth.
FEWEST = 3
#: Widest bandwidth of a search, in ranges of the design, for the Epanechnikov kernel: the window is then nearly flat.
WIDEST = 2.0
#: Share of the points that have enough neighbours at the narrowest bandwidth of a search.
MOST = 0.9
#: With more dimensions than this series are refused: the weights would lose digits to the gaps between them.
MOST_DIMENSIONS = 3


@dataclass(frozen=True)
class Sample:
    """Points of positive weight, sorted by series, then x, y and weight, so that the order they came in does not matter.

    Between points of one x the order looks at y: nothing may be cut or paired there.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    x : (n, d)
        From 0 on in each series (first dimension), and from 0 on (the others).
    y : (n, C)
        Centred in each series.
    weights : (n,)
        With mean 1.
    series : (n,) int
        From 0 on, ascending.
    order : (n,) int
        Place of each point in what was given.
    """

    spec: LocalPolynomialSpec
    x: FloatArray
    y: FloatArray
    weights: FloatArray
    series: IntArray
    order: IntArray

    @property
    def span(self) -> FloatArray:
        """Range of the design in each dimension; in the first one the largest of any series.  # (d,)"""
        return np.asarray(self.x.max(0))

    @cached_property
    def variance(self) -> FloatArray:
        """Variance of each response.  # (C,)"""
        return np.asarray(self.weights @ self.y**2 / self.weights.sum())

    @cached_property
    def place(self) -> IntArray:
        """Rank of each point's series and x, in the first dimension, among the distinct ones.  # (n,)"""
        return np.cumsum(np.append(0, (np.diff(self.x[:, 0]) != 0.0) | (np.diff(self.series) > 0)))

    @cached_property
    def spots(self) -> IntArray:
        """First point of each group of points that share a series and x in all dimensions.  # (k,)"""
        moved = (np.diff(self.place) > 0) | (np.diff(self.x[:, 1:], axis=0) != 0.0).any(1)
        return np.flatnonzero(np.append(True, moved))

    @property
    def n_series(self) -> int:
        """Number of series."""
        return int(self.series[-1]) + 1

    @property
    def labels(self) -> IntArray | None:
        """Series of each point; None if there is only one."""
        return None if self.n_series == 1 else self.series

    def parts(self, bandwidth: FloatArray) -> Iterator[Part]:
        """Series that are smoothed together, the points being the queries; see `kernadv.regression.series.apart`."""
        return apart(self.x, self.labels, self.x, self.labels, self.spec.kernel, bandwidth)

    def smooth(self, bandwidth: FloatArray) -> LocalValues:
        """Estimates at the design points, at one bandwidth (d,), or one a point (n, 1)."""
        return smooth_series(self.spec, self.x, self.y, self.weights, self.x, bandwidth, self.labels, self.labels)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Narrowest and widest bandwidth of a search.  # (d,), (d,)

        On a line from the distance within which most points have ``degree + 1`` distinct others, to twice the range, for
        the Epanechnikov kernel, and the canonical equivalent for others; in d dimensions a multiple of the standard
        deviations, from a quarter of ``n^(-1/d)`` to where the narrowest one is twice the range.
        """
        factor = from_epanechnikov(self.spec.kernel)
        if self.x.shape[1] == 1:
            x = self.x[:, 0]
            apart = np.append(True, (np.diff(x) != 0.0) | (np.diff(self.series) != 0))
            x, series = x[apart], self.series[apart]
            near = nearest(x, series, x, series, self.spec.degree + 2)  # each point is its own first
            low = float(np.quantile(near[near > 0.0], MOST))
            return np.array([min(low, 0.25 * float(self.span[0])) * factor]), WIDEST * self.span * factor
        scale = self.x.std(0)
        low = 0.25 * len(self.x) ** (-1.0 / self.x.shape[1])
        return low * factor * scale, WIDEST * factor * (self.span / scale).max() * scale


def check_shapes(x: FloatArray, y: FloatArray, weights: FloatArray, series: IntArray | None) -> None:
    """Raise unless the arrays are (n, d), (n, C), (n,) and (n,) or None."""
    shapes = np.shape(x), np.shape(y), np.shape(weights)
    n, series_shape = shapes[2], None if series is None else np.shape(series)
    if [len(s) for s in shapes] != [2, 2, 1] or any(s[:1] != n for s in shapes) or series_shape not in (None, n):
        raise ArgumentError(
            f"expected x (n, d), y (n, C), weights (n,) and series (n,) or None, got shapes {', '.join(map(str, shapes))} "
            f"and {series_shape}; a line is x[:, None]"
        )


def prepare(
    spec: LocalPolynomialSpec, x: FloatArray, y: FloatArray, weights: FloatArray, series: IntArray | None
) -> Sample:
    """Check and order the data.

    Raises
    ------
    ArgumentError
        If there are fewer than 3 points of positive weight, values that are not finite, a dimension in which x is
        constant (the first one: within every series), or series in more than 3 dimensions.
    """
    check_shapes(x, y, weights, series)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(weights).all()) or (weights < 0.0).any():
        raise ArgumentError("a bandwidth is selected from finite x and y and weights >= 0; drop the other rows first")
    if series is not None and x.shape[1] > MOST_DIMENSIONS:
        raise ArgumentError(f"series can be kept apart in up to {MOST_DIMENSIONS} dimensions, got {x.shape[1]}")
    used = np.flatnonzero(weights > 0.0)
    if len(used) < FEWEST:
        raise ArgumentError(
            f"a bandwidth needs at least {FEWEST} points of positive weight, got {len(used)}; give a bandwidth instead"
        )
    label = np.zeros(len(used), np.int64)
    if series is not None:
        label = np.unique(series[used], return_inverse=True)[1].astype(np.int64)
    sort = row_order(label, x[used], y[used], weights[used])
    used, label = used[sort], label[sort]
    first = np.searchsorted(label, label)
    points, values, own = x[used], y[used] - y[used[first]], weights[used] / weights[used].mean()
    points = points - np.column_stack([points[first, 0], *(np.full(len(used), c.min()) for c in points.T[1:])])
    flat = np.flatnonzero(points.max(0) <= 0.0)
    if len(flat):
        where = "" if x.shape[1] == 1 else f" in dimension {flat[0]}"
        within = "" if series is None else " within every series"
        raise ArgumentError(
            f"x is constant{where}{within}: no bandwidth can be selected; give one, or drop the dimension"
        )
    begin = np.unique(first)
    mean = np.add.reduceat(own[:, None] * values, begin) / np.add.reduceat(own, begin)[:, None]
    return Sample(spec, points, values - mean[label], own, label, used)
