"""Points, and how several series are smoothed at once: no window contains points of two, whatever the kernel.

If the kernel is known to be 0 from some lag on, series are laid out along the first dimension, with gaps that no window
crosses, and smoothed together.  Otherwise they are smoothed one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernadv.kernels import Kernel
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Series are laid out over at most this many bandwidths: positions are then exact to 2e-10 of one, less than a tie.
LONGEST = 2.0**20


class Points(NamedTuple):
    """Design points or queries.

    Attributes
    ----------
    x : (m, d) float64
        Continuous columns.
    levels : (m, c) int64
        Categorical columns, as ranks of their levels.
    series : (m,) int64, or None
        Series (group) of each point, -1 where it was not seen in fitting; None without groups.
    bandwidth : (m, 1) float64, or None
        Bandwidth of each point if it changes with the query; None if all have that of the smoother.
    near : (m, k) int64, or None
        Rows of all design points within each bandwidth, where a search for it has found them; -1 where it was not sure.
    """

    x: FloatArray
    levels: IntArray
    series: IntArray | None
    bandwidth: FloatArray | None = None
    near: IntArray | None = None

    def with_bandwidth(self, bandwidth: FloatArray | None) -> Points:
        """The points with other bandwidths."""
        return self._replace(bandwidth=bandwidth, near=None)

    @property
    def known(self) -> BoolArray:
        """Whether the series was seen in fitting.  # (m,)"""
        return np.ones(len(self.x), np.bool_) if self.series is None else np.asarray(self.series >= 0)

    def take(self, rows: IntArray | slice | BoolArray) -> Points:
        """Some of the points."""
        series = None if self.series is None else self.series[rows]
        bandwidth = None if self.bandwidth is None else self.bandwidth[rows]
        near = None if self.near is None else self.near[rows]
        return Points(self.x[rows], self.levels[rows], series, bandwidth, near)


class Part(NamedTuple):
    """Series that are smoothed together.

    Attributes
    ----------
    points : (p,) int, or slice
        Which design points.
    queries : (q,) int, or slice
        Which queries.
    x : (p, d)
    at : (q, d)
        Coordinates in which smoothing all of them together is the same as smoothing each series alone.
    bandwidth : (d,) or (q, 1)
    """

    points: IntArray | slice
    queries: IntArray | slice
    x: FloatArray
    at: FloatArray
    bandwidth: FloatArray

    @property
    def block(self) -> Any:
        """Index of the part in a matrix of all queries and points."""
        if isinstance(self.points, slice) or isinstance(self.queries, slice):
            return self.queries, self.points
        return np.ix_(self.queries, self.points)


class Stretches(NamedTuple):
    """Some rows, sorted by series.

    Attributes
    ----------
    rows : (p,) int
    begin : (S + 1,) int
        Where each series begins, and the end of the last.
    """

    rows: IntArray
    begin: IntArray

    def own(self, s: int, upto: int) -> IntArray:
        """Rows of the series from s up to, but without, `upto`."""
        return self.rows[self.begin[s] : self.begin[upto]]


def common(series: IntArray, asked: IntArray) -> tuple[Stretches, Stretches]:
    """Points and queries of the series that have both, sorted by series.

    Parameters
    ----------
    series : (n,) int
        Series of each point, from 0 on.
    asked : (m,) int
        Series of each query; negative: of none.
    """
    size = 1 + max(int(series.max(initial=-1)), int(asked.max(initial=-1)))
    held, wanted = np.bincount(series, minlength=size), np.bincount(asked[asked >= 0], minlength=size)
    both = (held > 0) & (wanted > 0)
    return _stretches(series, held, both), _stretches(asked, wanted, both)


def _stretches(series: IntArray, count: IntArray, chosen: BoolArray) -> Stretches:
    """Rows of the chosen series; each series has `count` of them."""
    rows = np.flatnonzero((series >= 0) & chosen[series])
    own = series[rows]
    if (own[1:] < own[:-1]).any():
        rows = rows[np.argsort(own, kind="stable")]
    return Stretches(rows, np.append(0, np.cumsum(count[chosen])))


def apart(
    x: FloatArray,
    series: IntArray | None,
    at: FloatArray,
    asked: IntArray | None,
    kernel: Kernel,
    bandwidth: FloatArray,
) -> Iterator[Part]:
    """Split points and queries into parts; queries of a series without points are in none.

    If there is one bandwidth and `Kernel.zero_beyond` is finite, a part is as many series as fit without loss of digits.
    Otherwise it is one series, in its own coordinates.

    Parameters
    ----------
    x : (n, d)
        Design points.
    series : (n,) int, or None
        Series of each point, from 0 on; None: there is only one.
    at : (m, d)
        Queries.
    asked : (m,) int, or None
        Series of each query, negative where it was not seen; None without series.
    kernel : Kernel
    bandwidth : (d,) or (m, 1)
    """
    if series is None or asked is None:
        yield Part(slice(None), slice(None), x, at, bandwidth)
        return
    points, queries = common(series, asked)
    count, s = len(points.begin) - 1, 0
    width = float(bandwidth[0]) if bandwidth.ndim == 1 and len(bandwidth) else np.inf
    gap = 1.01 * kernel.zero_beyond * width
    if not count or not np.isfinite(gap):
        for s in range(count):
            own, asking = points.own(s, s + 1), queries.own(s, s + 1)
            each = bandwidth[asking] if bandwidth.ndim == 2 else bandwidth
            yield Part(own, asking, x[own], at[asking], each)
        return
    z, q = x[points.rows, 0], at[queries.rows, 0]
    low = np.minimum(np.minimum.reduceat(z, points.begin[:-1]), np.minimum.reduceat(q, queries.begin[:-1]))
    high = np.maximum(np.maximum.reduceat(z, points.begin[:-1]), np.maximum.reduceat(q, queries.begin[:-1]))
    unit = 2.0 ** np.floor(np.log2(gap) - 8.0)  # whole numbers stay exact
    origin = unit * np.floor(low / unit)
    room = unit * np.ceil((high - origin + gap) / unit)
    end = np.cumsum(room)
    while s < count:
        start = end[s] - room[s]
        upto = max(s + 1, int(np.searchsorted(end, start + LONGEST * width, "right")))
        own, asking = points.own(s, upto), queries.own(s, upto)
        part = Part(own, asking, x[own], at[asking], bandwidth)
        if upto > s + 1:
            place = end[s:upto] - room[s:upto] - start
            for coordinates, begin in ((part.x, points.begin), (part.at, queries.begin)):
                sizes = np.diff(begin[s : upto + 1])
                coordinates[:, 0] = (coordinates[:, 0] - np.repeat(origin[s:upto], sizes)) + np.repeat(place, sizes)
        yield part
        s = upto
