"""Moving sums under a Gaussian kernel on a line in O(n + m): the fast Gauss transform.

The line is cut into cells of one bandwidth.  With t the point and s the query relative to the centres of their cells, and
d the whole number of bandwidths between these, the Gaussian g and its derivatives are

    g(d + t - s) = sum_kl g^(k + l)(d) t^k (-s)^l / (k! l!),     |t|, |s| <= 1/2.

Each cell is reduced to the sums of t^k of its points, k < `TERMS`.  The cells within `NEAR` of a query's cell together give
one polynomial in s for all queries in it.  Its derivatives are those of the Gaussian sums.  They also give the moments,
since ``He_k g = (-1)^k g^(k)`` with the Hermite polynomials He_k.  Where queries and points are few, the points are summed
one by one.

By Cramer's inequality, ``|g^(n)| <= 1.09 sqrt(n!)``, the omitted terms are below 1e-16 of a point's largest weight, 1e-13
for moments of order six, and the omitted points weigh less than 3e-18.  Including rounding, the error of a sum is below
1e-14 of the sum of the weighted absolute values (or of the largest of these, if that is more) up to order two, 1e-13 up to
order four and 1e-12 up to order six.

References
----------
Greengard and Strain (1991), The fast Gauss transform, SIAM Journal on Scientific and Statistical Computing 12.
"""

from __future__ import annotations

import functools
from math import exp, factorial

import numpy as np

from kernadv._jit import compiled
from kernadv.regression._threads import in_parallel, stretches
from kernadv.typing import FloatArray, IntArray

#: Terms (an even number) of the expansions about cells of points, and, apart from derivatives, about cells of queries.
TERMS = 24
#: Cells that count on either side of the query's own.
NEAR = 9
#: Cells are summed point by point if they have fewer pairs of point and query than this, per cell.
DIRECT = 250
#: The weight of such a point is a value ``exp(-i / GRAIN)`` from a table times a short power series.
GRAIN = 32
EXPONENTIAL = np.exp(-np.arange(GRAIN * (NEAR + 1) ** 2 // 2 + 2) / GRAIN)
#: Points or queries that are worth a separate thread.
ENOUGH = 2_000


def gaussian_moments(
    x: FloatArray, channels: FloatArray, at: FloatArray, width: float, order: int, past: bool
) -> FloatArray:
    """Sums over j of ``exp(-u^2 / 2) v_cj u^k`` with u = (x_j - q) / width, for all queries q.

    Parameters and result as in `kernadv.regression.local._line_power.power_moments`.
    """
    z, q = (x - x[0]) / width, (at - x[0]) / width
    cell = np.floor(z)
    first = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    cells, bounds = cell[first], np.append(first, len(x))
    sums = np.zeros((len(cells), len(channels), TERMS))
    out = np.empty((len(at), len(channels), order + 1))
    table, hermite = _table(order), _hermite(order)

    def expand(own: slice) -> None:
        _expand(z, channels, cells[own], bounds[own.start : own.stop + 1], sums[own])

    def evaluate(own: slice) -> None:
        _evaluate(z, channels, q[own], cells, bounds, sums, table, hermite, past, out[own])

    in_parallel(expand, stretches(len(cells), -(-ENOUGH * len(cells) // len(x))))
    in_parallel(evaluate, stretches(len(at), ENOUGH))
    return out


@functools.cache
def _table(order: int) -> FloatArray:
    """``g^(k + l)(d) / (k! l!)`` for d = -NEAR, ..., NEAR.  # (2 NEAR + 1, TERMS, TERMS + order)"""
    size = TERMS + order
    out = np.empty((2 * NEAR + 1, TERMS, size))
    for d in range(-NEAR, NEAR + 1):
        derivative = [exp(-0.5 * d * d), -d * exp(-0.5 * d * d)]
        for n in range(2, TERMS + size):
            derivative.append(-d * derivative[-1] - (n - 1) * derivative[-2])
        for k in range(TERMS):
            out[d + NEAR, k] = [derivative[k + l] / (factorial(k) * factorial(l)) for l in range(size)]
    return out


@functools.cache
def _hermite(order: int) -> FloatArray:
    """``u^k g(u) = sum_j hermite_kj g^(j)(u)``.  # (order + 1, order + 1)"""
    out = np.zeros((order + 1, order + 1))
    for k in range(order + 1):
        for i in range(k // 2 + 1):
            out[k, k - 2 * i] = (-1) ** k * factorial(k) / (2**i * factorial(i) * factorial(k - 2 * i))
    return out


@compiled()
def _expand(z: FloatArray, v: FloatArray, cells: FloatArray, bounds: IntArray, sums: FloatArray) -> None:
    power = np.ones(TERMS)
    for b in range(len(cells)):
        for j in range(bounds[b], bounds[b + 1]):
            _powers(z[j] - cells[b] - 0.5, power)
            for c in range(v.shape[0]):
                for k in range(TERMS):
                    sums[b, c, k] += v[c, j] * power[k]


@compiled()
def _powers(t: float, power: FloatArray) -> None:
    """1, t, t^2, ... in two chains."""
    power[0], power[1] = 1.0, t
    square = t * t
    for k in range(2, TERMS):
        power[k] = power[k - 2] * square


@compiled()
def _evaluate(
    z: FloatArray,
    v: FloatArray,
    at: FloatArray,
    cells: FloatArray,
    bounds: IntArray,
    sums: FloatArray,
    table: FloatArray,
    hermite: FloatArray,
    past: bool,
    out: FloatArray,
) -> None:
    size = len(hermite)
    local = np.empty((v.shape[0], TERMS + size - 1))
    series = np.empty((v.shape[0], size, TERMS))  # Taylor series of the derivatives
    before = np.empty((v.shape[0], TERMS))  # points of the query's own cell at or before it
    derivative = np.empty((v.shape[0], size))
    power, own = np.ones(TERMS), np.empty(TERMS + size - 1)
    lag, weight = np.empty(DIRECT * (2 * NEAR + 1)), np.empty(DIRECT * (2 * NEAR + 1))
    m = 0
    while m < len(at):
        cell = np.floor(at[m])
        last = m + 1
        while last < len(at) and at[last] < cell + 1.0:
            last += 1
        low, high = np.searchsorted(cells, cell - NEAR), np.searchsorted(cells, cell + NEAR + 1.0)
        if (last - m) * (bounds[high] - bounds[low]) < DIRECT * (high - low):
            _direct(z, v, bounds[low], bounds[high], at[m:last], past, lag, weight, out[m:last])
            m = last
            continue
        j = end = 0
        if past:
            high = np.searchsorted(cells, cell)
            if high < len(cells) and cells[high] == cell:
                j, end = bounds[high], bounds[high + 1]
        _translate(sums[low:high], cells[low:high], cell, table, local, series)
        before[:] = 0.0
        while m < last:
            s = at[m] - cell - 0.5
            _powers(-s, power)
            for c in range(len(series)):
                for i in range(size):
                    total = 0.0
                    for l in range(TERMS):
                        total += series[c, i, l] * power[l]
                    derivative[c, i] = total
            if past:
                while j < end and z[j] <= at[m]:
                    _powers(z[j] - cell - 0.5, power)
                    for c in range(len(before)):
                        for k in range(TERMS):
                            before[c, k] += v[c, j] * power[k]
                    j += 1
                _add_before(before, s, own, derivative)
            for c in range(len(derivative)):
                for k in range(size):
                    total = 0.0
                    for i in range(size):
                        total += hermite[k, i] * derivative[c, i]
                    out[m, c, k] = total
            m += 1


@compiled()
def _direct(
    z: FloatArray,
    v: FloatArray,
    low: int,
    high: int,
    at: FloatArray,
    past: bool,
    lag: FloatArray,
    weight: FloatArray,
    out: FloatArray,
) -> None:
    """The points from `low` to `high`, one by one."""
    near = z[low:high]
    for m in range(len(at)):
        count = np.searchsorted(near, at[m], "right") if past else len(near)
        for j in range(count):
            u = near[j] - at[m]
            square = 0.5 * u * u
            place = int(square * GRAIN + 0.5)
            r = place / GRAIN - square
            series = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720))))))
            lag[j], weight[j] = u, EXPONENTIAL[place] * series
        for k in range(out.shape[2]):
            for c in range(v.shape[0]):
                value = v[c, low:high]
                total = 0.0
                for j in range(count):
                    total += weight[j] * value[j]
                out[m, c, k] = total
            if k + 1 < out.shape[2]:
                for j in range(count):
                    weight[j] *= lag[j]


@compiled()
def _translate(
    sums: FloatArray, cells: FloatArray, cell: float, table: FloatArray, local: FloatArray, series: FloatArray
) -> None:
    """Taylor series about the centre of a cell of queries, from the sums of the cells near it."""
    local[:] = 0.0
    for b in range(len(cells)):
        shift = table[int(cells[b] - cell) + NEAR]
        for k in range(0, TERMS, 2):  # two at a time: fewer trips of `local` to memory
            for c in range(local.shape[0]):
                even, odd = sums[b, c, k], sums[b, c, k + 1]
                for l in range(local.shape[1]):
                    local[c, l] += even * shift[k, l] + odd * shift[k + 1, l]
    for i in range(series.shape[1]):
        for l in range(TERMS):
            factor = 1.0
            for r in range(l + 1, l + i + 1):
                factor *= r
            for c in range(len(series)):
                series[c, i, l] = local[c, l + i] * factor


@compiled()
def _add_before(before: FloatArray, s: float, own: FloatArray, derivative: FloatArray) -> None:
    """Add the points of the query's own cell, from their sums of powers."""
    own[0] = np.exp(-0.5 * s * s)
    own[1] = s * own[0]
    for n in range(2, len(own)):  # g^(n)(-s)
        own[n] = s * own[n - 1] - (n - 1) * own[n - 2]
    for c in range(len(before)):
        for i in range(derivative.shape[1]):
            factor = 1.0
            for k in range(TERMS):
                derivative[c, i] += before[c, k] * own[k + i] * factor
                factor /= k + 1
