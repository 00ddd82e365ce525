"""Sums of many columns over moving windows on a line, each under a polynomial of its own: without subtractions.

``out_qb = sum_{low_q <= j < high_q} w_j v_jb sum_r c_qr (x_j - q)^r``, for windows that move on from query to query.  A
window is cut at a point.  The power sums from each place before the cut to the cut, and those from the cut to the last point
that has entered, are both about the cut, and the query's polynomial is moved there.  Only every `GRAIN`-th place before the
cut has stored sums; the points up to the next one are added one by one.  The cost is that of n + m rows of columns, whatever
the windows.
"""

from __future__ import annotations

from math import comb

import numpy as np

from kernadv._jit import compiled
from kernadv.typing import FloatArray, IntArray

#: Points from one stored place to the next.
GRAIN = 16


def moving_sums(
    x: FloatArray,
    weights: FloatArray,
    columns: FloatArray,
    at: FloatArray,
    low: IntArray,
    high: IntArray,
    polynomials: FloatArray,
    out: FloatArray,
) -> None:
    """Add the sums of the columns, times the weights, under the polynomials to `out`.

    Parameters
    ----------
    x : (n,) ascending
    weights : (n,)
    columns : (n, B)
    at : (m,) ascending
    low, high : (m,) int, neither ever descends
        First point of each window, and the first one after it.
    polynomials : (m, R)
        Coefficients of 1, (x - q), (x - q)^2, ...
    out : (m, B)
    """
    depth = polynomials.shape[1]
    binomial = np.array([[comb(r, k) for k in range(depth)] for r in range(depth)], np.float64)
    _sweep(x, weights, columns, at, low, high, polynomials, binomial, out)


@compiled()
def _sweep(
    x: FloatArray,
    weights: FloatArray,
    v: FloatArray,
    at: FloatArray,
    low: IntArray,
    high: IntArray,
    polynomials: FloatArray,
    binomial: FloatArray,
    out: FloatArray,
) -> None:
    wide, depth = v.shape[1], polynomials.shape[1]
    before = np.zeros((1, depth, wide))  # from each stored place to the cut
    after = np.zeros((depth, wide))  # from the cut on
    moved, cut, centre, reached = np.empty(depth), 0, 0.0, 0
    for m in range(len(at)):
        if high[m] <= low[m]:
            continue
        if low[m] >= cut:
            cut = high[m]
            centre = x[cut - 1]
            before = _stored(x, weights, v, low[m], cut, centre, depth)
            reached = cut
            after = np.zeros((depth, wide))
        while reached < high[m]:
            power, lag = weights[reached], x[reached] - centre
            for r in range(depth):
                for b in range(wide):
                    after[r, b] += power * v[reached, b]
                power *= lag
            reached += 1
        shift = centre - at[m]
        for k in range(depth):
            moved[k], power = 0.0, 1.0
            for r in range(k, depth):
                moved[k] += polynomials[m, r] * binomial[r, k] * power
                power *= shift
        place = (cut - low[m]) // GRAIN
        total = np.zeros(wide)
        for r in range(depth):
            for b in range(wide):
                total[b] += moved[r] * (before[place, r, b] + after[r, b])
        for j in range(low[m], cut - place * GRAIN):
            lag, weight = x[j] - at[m], 0.0
            for r in range(depth - 1, -1, -1):
                weight = weight * lag + polynomials[m, r]
            weight *= weights[j]
            for b in range(wide):
                total[b] += weight * v[j, b]
        for b in range(wide):
            out[m, b] += total[b]


@compiled()
def _stored(
    x: FloatArray, weights: FloatArray, v: FloatArray, low: int, cut: int, centre: float, depth: int
) -> FloatArray:
    """Power sums, about the centre, of the last 0, GRAIN, 2 GRAIN, ... points before the cut.  # (S, depth, B)"""
    wide, size = v.shape[1], (cut - low) // GRAIN + 1
    out = np.zeros((size, depth, wide))
    for s in range(1, size):
        for r in range(depth):
            for b in range(wide):
                out[s, r, b] = out[s - 1, r, b]
        for j in range(cut - s * GRAIN, cut - (s - 1) * GRAIN):
            power, lag = weights[j], x[j] - centre
            for r in range(depth):
                for b in range(wide):
                    out[s, r, b] += power * v[j, b]
                power *= lag
    return out
