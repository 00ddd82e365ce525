"""The points inside each window, found by sorting, and their moments: the cost is that of the points near the windows.

The points are in rows: cells of about one bandwidth in the second to fourth dimension.  Within a row they ascend in the
first dimension.  A window covers a stretch, found by bisection, of a few rows.  Pairs of query and point are collected and
weighted in parts, to bound the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernadv._jit import compiled
from kernadv.kernels import Kernel
from kernadv.regression._threads import in_parallel, stretches
from kernadv.regression.local.monomials import monomials
from kernadv.typing import FloatArray, IntArray

#: Pairs of query and point at a time, apart from those of the last query.
PAIRS = 2**15
#: Largest number of cells in a dimension.
CELLS = 2**15
#: Queries that are worth a separate thread.
QUERIES = 64


class Rows(NamedTuple):
    """Points in rows.

    Attributes
    ----------
    x : (n, d)
        Sorted by row, then by the first dimension.
    channels : (C, n)
        In the same order.
    origin : (3,)
        Corner of the first cell in the second to fourth dimension.
    side : (3,)
        Sides of the cells.
    cells : (3,) int
        Number of cells.
    key : (R,) int
        Number of each non-empty row, ascending.
    start : (R + 1,) int
        First point of each row.
    """

    x: FloatArray
    channels: FloatArray
    origin: FloatArray
    side: FloatArray
    cells: IntArray
    key: IntArray
    start: IntArray


def in_rows(x: FloatArray, channels: FloatArray, radius: float) -> Rows:
    """Put points that ascend in the first dimension in rows of cells of side `radius`."""
    origin, side, cells = np.zeros(3), np.ones(3), np.ones(3, np.int64)
    number = np.zeros(len(x), np.int64)
    for i in range(1, min(x.shape[1], 4)):
        low, span = x[:, i].min(), float(np.ptp(x[:, i]))
        if span <= radius:
            continue
        origin[i - 1], side[i - 1] = low, max(radius, span / CELLS)
        cell = ((x[:, i] - low) / side[i - 1]).astype(np.int64)
        cells[i - 1] = cell.max() + 1
        number = number * cells[i - 1] + cell
    if (cells > 1).any():
        order = np.argsort(number, kind="stable")
        x, channels, number = x[order], np.ascontiguousarray(channels[:, order]), number[order]
    key, first = np.unique(number, return_index=True)
    return Rows(x, channels, origin, side, cells, key, np.append(first, len(x)))


class Pairs(NamedTuple):
    """Pairs of some queries and the points of their windows.

    Attributes
    ----------
    weight : (p,)
        Kernel of each pair.
    u : (d, >= p)
        Lags in bandwidths.
    point : (>= p,) int
    ends : (m,) int
        Where the pairs of each query end; those of the first query begin at 0.
    begin, upto : int
        Which queries.
    """

    weight: FloatArray
    u: FloatArray
    point: IntArray
    ends: IntArray
    begin: int
    upto: int


def over_windows(
    work: Callable[[slice, Pairs, FloatArray], None],
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    kernel: Kernel,
    scale: FloatArray | None,
    radial: bool,
    past: bool,
) -> None:
    """Call ``work(queries, pairs, channels)`` for all queries, a stretch of them in each thread.

    Parameters
    ----------
    work : callable
        `queries` is the stretch in which `begin` and `upto` of the pairs count; the channels are in the order of the
        points.  The arrays of the pairs are used again for the next ones.
    x, channels, at, kernel, scale, radial, past
        As in `kernadv.regression.local._blocked.blocked_moments`; the queries come in any order.
    """
    unit = np.ones(len(at)) if scale is None else scale
    radius = kernel.zero_beyond * unit * (1.0 + 1e-12)  # the kernel has the last word at its edge
    rows = in_rows(x, channels, float(np.median(radius)) if len(at) else 1.0)

    def part(own: slice) -> None:
        q, h, r = at[own], unit[own], radius[own]
        size = PAIRS + len(x)
        u, point, ends = np.empty((x.shape[1], size)), np.empty(size, np.int64), np.empty(len(q), np.int64)
        done = 0
        while done < len(q):
            upto = _collect(*rows[:1], *rows[2:], q, h, r, past, done, u, point, ends)
            near = u[:, : ends[upto - 1]]
            weight = kernel.profile(np.sqrt((near * near).sum(0)) if radial else near[0])
            for i in range(1, 1 if radial else len(near)):
                weight *= kernel.profile(near[i])
            work(own, Pairs(weight, near, point, ends, done, upto), rows.channels)
            done = upto

    in_parallel(part, stretches(len(at), QUERIES))


@compiled()
def _collect(
    x: FloatArray,
    origin: FloatArray,
    side: FloatArray,
    cells: IntArray,
    key: IntArray,
    start: IntArray,
    at: FloatArray,
    unit: FloatArray,
    radius: FloatArray,
    past: bool,
    begin: int,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
) -> int:
    """Collect pairs for the queries from `begin` on until there are `PAIRS`; returns the next query."""
    dimensions = x.shape[1]
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    count = 0
    for m in range(begin, len(at)):
        if count > len(point) - len(x):  # the next window may hold every point
            return m
        for i in range(1, min(dimensions, 4)):
            if cells[i - 1] > 1:
                low = np.floor((at[m, i] - radius[m] - origin[i - 1]) / side[i - 1])
                high = np.floor((at[m, i] + radius[m] - origin[i - 1]) / side[i - 1])
                first[i - 1] = int(min(max(low, 0.0), float(cells[i - 1])))
                last[i - 1] = int(max(min(high, float(cells[i - 1] - 1)), -1.0))
        begins, finishes = at[m, 0] - radius[m], at[m, 0] if past else at[m, 0] + radius[m]
        row = np.searchsorted(key, (first[0] * cells[1] + first[1]) * cells[2] + first[2])
        while row < len(key):  # from non-empty row to non-empty row, over those that the window does not reach
            one, two, three = key[row] // (cells[1] * cells[2]), key[row] // cells[2] % cells[1], key[row] % cells[2]
            if one > last[0]:
                break
            next_one, next_two = one + (two > last[1]), two + (three > last[2])
            if two < first[1] or two > last[1]:
                row += np.searchsorted(key[row:], (next_one * cells[1] + first[1]) * cells[2] + first[2])
                continue
            if three < first[2] or three > last[2]:
                row += np.searchsorted(key[row:], (one * cells[1] + next_two) * cells[2] + first[2])
                continue
            low_point, high_point = start[row], start[row + 1]
            row += 1
            j = low_point + np.searchsorted(x[low_point:high_point, 0], begins)
            while j < high_point and x[j, 0] <= finishes:
                inside = True
                for i in range(1, dimensions):
                    inside = inside and abs(x[j, i] - at[m, i]) <= radius[m]
                if inside:
                    for i in range(dimensions):
                        u[i, count] = (x[j, i] - at[m, i]) / unit[m]
                    point[count] = j
                    count += 1
                j += 1
        ends[m] = count
    return len(at)


def window_moments(
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    kernel: Kernel,
    order: int,
    *,
    scale: FloatArray | None = None,
    radial: bool = False,
    past: bool = False,
    squared: bool = False,
) -> FloatArray:
    """Sums over j of ``w_j v_cj u_j^a`` with u_j = (x_j - q) / scale, for all queries q and monomials a.

    They are taken about the query itself, and so are exact for any kernel.  Parameters and result as in
    `kernadv.regression.local._blocked.blocked_moments`; the queries come in any order.
    """
    parents = monomials(x.shape[1], order).parents
    out = np.zeros((len(at), len(channels), len(parents)))

    def work(own: slice, pairs: Pairs, v: FloatArray) -> None:
        weight = pairs.weight * pairs.weight if squared else pairs.weight
        _accumulate(weight, *pairs[1:], v, parents, out[own])

    over_windows(work, x, channels, at, kernel, scale, radial, past)
    return out


@compiled()
def _accumulate(
    weight: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    v: FloatArray,
    parents: IntArray,
    out: FloatArray,
) -> None:
    channels, size = v.shape[0], len(parents)
    power = np.ones(size)
    p = 0
    for m in range(begin, upto):
        while p < ends[m]:
            w, j = weight[p], point[p]
            if w > 0.0:
                power[0] = w
                for k in range(1, size):
                    power[k] = power[parents[k, 0]] * u[parents[k, 1], p]
                for c in range(channels):
                    for k in range(size):
                        out[m, c, k] += v[c, j] * power[k]
            p += 1
