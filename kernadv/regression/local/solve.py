"""Local least squares from moments: a small symmetric system for each query, with a check of its condition."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from kernadv._jit import compiled
from kernadv.typing import AnyArray, FloatArray, IntArray

#: Systems whose scaled Cholesky factor spans more than this ratio are not solved.
RANK = 1e-7
#: If only moments are known, smaller pivots may be rounding errors of windows with too few points.
SURE = 1e-5
#: Smaller sums of weights have lost digits to underflow; the window counts as empty.
TINY = 1e-290


class Solution(NamedTuple):
    """Solutions of m local systems.

    Attributes
    ----------
    coefficients : (m, E, C) float64
        Local polynomial in units of the bandwidth; NaN where the system has no reliable solution.
    row : (m, E) float64
        Row `row` of the inverse system: the hat vector is ``l_j = w_j sum_a row_a u_j^a``.
    pivot : (m,) float64
        Smallest over largest pivot of the scaled system, about 1 / sqrt(condition number); 0 where the window is empty.
    """

    coefficients: FloatArray
    row: FloatArray
    pivot: FloatArray


def solve_local(moments: FloatArray, powers: IntArray, all_powers: IntArray, row: int = 0) -> Solution:
    """Solve ``S beta = T`` for every query.

    Parameters
    ----------
    moments : (m, 1 + C, E2)
        Channel 0: moments of the weights up to twice the degree (S); other channels: of the weighted responses (T).
    powers : (E, d)
        Exponents of the local polynomial.
    all_powers : (E2, d)
        Exponents of the moments, `powers` first.
    row : int
        Which row of the inverse to return: 0 for the value, others for derivatives.

    Returns
    -------
    Solution
    """
    table = _products(powers.tobytes(), all_powers.tobytes(), powers.shape[1])
    queries, channels, size = len(moments), moments.shape[1] - 1, len(powers)
    out = Solution(np.empty((queries, size, channels)), np.empty((queries, size)), np.empty(queries))
    _solve(moments, table, row, RANK, *out)
    return out


def squared_rows(rows: FloatArray, sums: FloatArray, powers: IntArray, all_powers: IntArray) -> FloatArray:
    """``sum_ab row_a row_b s_(a + b)``: with moments s of squared weights, the sum of the squared hat vectors.  # (m,)

    Parameters
    ----------
    rows : (m, E)
        As in `Solution`.
    sums : (m, E2)
        Moments of the squared weights.
    powers, all_powers
        As in `solve_local`.
    """
    table = _products(powers.tobytes(), all_powers.tobytes(), powers.shape[1])
    total = np.zeros(len(rows))
    for (a, b), product in np.ndenumerate(table):
        total += rows[:, a] * rows[:, b] * sums[:, product]
    return total


@functools.cache
def _products(powers: bytes, all_powers: bytes, dimensions: int) -> IntArray:
    """Index of the product of any two monomials of the polynomial.  # (E, E)"""
    small, large = (np.frombuffer(some, np.int64).reshape(-1, dimensions).tolist() for some in (powers, all_powers))
    index = {tuple(a): k for k, a in enumerate(large)}
    return np.array([[index[tuple(map(sum, zip(a, b, strict=True)))] for b in small] for a in small], np.int64)


@compiled()
def _solve(
    moments: FloatArray,
    table: IntArray,  # (E, E)
    row: int,
    rank: float,
    coefficients: FloatArray,
    rows: FloatArray,
    pivots: FloatArray,
) -> None:
    size = len(table)
    channels = moments.shape[1] - 1
    factor = np.zeros((size, size))
    scale = np.empty(size)
    right = np.empty(size)
    for m in range(len(moments)):
        s = moments[m, 0]
        if size <= 2:  # a mean or a line, written out
            spread = s[table[1, 1]] if size == 2 else 1.0
            slope = s[table[0, 1]] if size == 2 else 0.0
            mean = slope / s[0] if s[0] > TINY else 0.0
            left = spread - slope * mean
            pivot = np.sqrt(max(left / spread, 0.0)) if s[0] > TINY and spread > TINY else 0.0
            pivots[m] = pivot
            if not pivot > rank:
                coefficients[m] = np.nan
                rows[m] = np.nan
                continue
            if size == 1:
                rows[m, 0] = 1.0 / s[0]
            else:
                rows[m, 0] = spread / left / s[0] if row == 0 else -mean / left
                rows[m, 1] = -mean / left if row == 0 else 1.0 / left
            for c in range(channels):
                t = moments[m, 1 + c]
                if size == 1:
                    coefficients[m, 0, c] = t[0] / s[0]
                else:
                    coefficients[m, 1, c] = (t[1] - mean * t[0]) / left
                    coefficients[m, 0, c] = t[0] / s[0] - mean * coefficients[m, 1, c]
            continue
        pivot = 1.0 if s[0] > 0.0 else 0.0
        for a in range(size):
            diagonal = s[table[a, a]]
            scale[a] = 1.0 / np.sqrt(diagonal) if diagonal > 0.0 else 0.0
        for a in range(size):  # Cholesky of the system scaled to a unit diagonal
            for b in range(a + 1):
                total = s[table[a, b]] * scale[a] * scale[b]
                for k in range(b):
                    total -= factor[a, k] * factor[b, k]
                if a == b:
                    factor[a, a] = np.sqrt(total) if total > 0.0 else 0.0
                    pivot = min(pivot, factor[a, a])
                else:
                    factor[a, b] = total / factor[b, b] if factor[b, b] > 0.0 else 0.0
        pivots[m] = pivot
        if not pivot > rank:
            coefficients[m] = np.nan
            rows[m] = np.nan
            continue
        for c in range(channels + 1):
            for a in range(size):
                if c < channels:
                    right[a] = moments[m, 1 + c, a] * scale[a]
                else:
                    right[a] = scale[a] if a == row else 0.0
            solve_factored(factor, right)
            for a in range(size):
                if c < channels:
                    coefficients[m, a, c] = right[a] * scale[a]
                else:
                    rows[m, a] = right[a] * scale[a]


@compiled()
def solve_factored(factor: AnyArray, right: FloatArray) -> None:
    """Solve with a Cholesky factor, in place."""
    size = len(right)
    for a in range(size):
        for k in range(a):
            right[a] -= factor[a, k] * right[k]
        right[a] /= factor[a, a]
    for a in range(size - 1, -1, -1):
        for k in range(a + 1, size):
            right[a] -= factor[k, a] * right[k]
        right[a] /= factor[a, a]
