"""Local least squares by orthogonal columns: for windows whose moments lose too many digits.

Moments square the condition number of a window.  Where that is large, or a window has fewer places than the polynomial has
coefficients, the fit is made from the points themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kernadv._jit import compiled
from kernadv.regression.local._pairs import Pairs, over_windows
from kernadv.regression.local.moments import ascending, in_units
from kernadv.regression.local.monomials import monomials
from kernadv.regression.local.solve import RANK, TINY, Solution
from kernadv.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.regression.local.polynomial import LocalPolynomialSpec


def orthogonal_solution(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    row: int,
    *,
    squares: bool = False,
) -> tuple[Solution, FloatArray]:
    """Solve the local systems of all queries by Gram-Schmidt, each column orthogonalised twice.

    Parameters
    ----------
    spec : LocalPolynomialSpec
    x : (n, d)
    channels : (1 + C, n)
        Observation weights and the responses; with `squares`, weights and s.
    at, bandwidth
        As in `kernadv.regression.local.moments.local_moments`.
    row : int
        As in `kernadv.regression.local.solve.solve_local`.
    squares : bool
        Compute sums of squares instead of coefficients.

    Returns
    -------
    solution : Solution
        Without responses if `squares`.
    squares : (m,) float64
        ``sum_j l_j^2 s_j`` of the hat vectors l, NaN where there are none; empty without `squares`.

    References
    ----------
    Bjorck (1996), Numerical Methods for Least Squares Problems, section 2.4.
    """
    z, q, scale = in_units(x, at, bandwidth)
    order = ascending(z[:, 0])
    parents = monomials(x.shape[1], spec.degree).parents
    m, size, responses = len(at), len(parents), 0 if squares else len(channels) - 1
    out = Solution(np.empty((m, size, responses)), np.empty((m, size)), np.empty(m))
    total = np.empty(m if squares else 0)

    def work(own: slice, pairs: Pairs, v: FloatArray) -> None:
        _solve(*pairs, v, parents, row, RANK, TINY, *(part[own] for part in out), total[own])

    over_windows(work, z[order], channels[:, order], q, spec.kernel, scale, spec.radial, spec.past)
    return out, total


@compiled()
def _solve(
    weight: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    v: FloatArray,
    parents: IntArray,
    row: int,
    rank: float,
    tiny: float,
    coefficients: FloatArray,
    rows: FloatArray,
    pivots: FloatArray,
    squares: FloatArray,
) -> None:
    """The solutions; or, where `squares` has a place for each query, the sums of squares."""
    size, responses = len(parents), coefficients.shape[2]
    factor, scale = np.zeros((size, size)), np.empty(size)
    right = np.empty((responses + 1, size))
    first = 0
    for m in range(begin, upto):
        last = ends[m]
        start, used, total = first, 0, 0.0
        for p in range(first, last):
            each = weight[p] * v[0, point[p]]
            total += each
            used += each > 0.0
        column, response = np.empty((size, used)), np.empty((responses, used))
        k = 0
        for p in range(first, last):
            each = weight[p] * v[0, point[p]]
            if each > 0.0:
                column[0, k] = np.sqrt(each)
                for e in range(1, size):
                    column[e, k] = column[parents[e, 0], k] * u[parents[e, 1], p]
                for c in range(responses):
                    response[c, k] = column[0, k] * v[1 + c, point[p]]
                k += 1
        first = last
        pivot = 1.0 if used >= size and total > tiny else 0.0
        for e in range(size):
            if not pivot > rank:
                break
            scale[e] = np.sqrt((column[e] ** 2).sum())
            if scale[e] > 0.0:
                column[e] /= scale[e]
            factor[:, e] = 0.0
            for _ in range(2):
                for f in range(e):
                    along = (column[f] * column[e]).sum()
                    factor[f, e] += along
                    column[e] -= along * column[f]
            factor[e, e] = np.sqrt((column[e] ** 2).sum())
            pivot = min(pivot, factor[e, e])
            if pivot > rank:
                column[e] /= factor[e, e]
        pivots[m] = pivot
        if not pivot > rank:
            coefficients[m] = np.nan
            rows[m] = np.nan
            if len(squares):
                squares[m] = np.nan
            continue
        for c in range(responses):
            for e in range(size):
                right[c, e] = (column[e] * response[c]).sum()
                response[c] -= right[c, e] * column[e]
        for e in range(size):  # the row of the inverse: R' first, then R with the responses
            total = 1.0 / scale[e] if e == row else 0.0
            for f in range(e):
                total -= factor[f, e] * right[responses, f]
            right[responses, e] = total / factor[e, e]
        if len(squares):
            squares[m] = 0.0
            k = 0
            for p in range(start, last):
                each = weight[p] * v[0, point[p]]
                if each > 0.0:
                    total = 0.0
                    for e in range(size):
                        total += right[responses, e] * column[e, k]
                    squares[m] += each * total * total * v[1, point[p]]
                    k += 1
            continue
        for c in range(responses + 1):
            for e in range(size - 1, -1, -1):
                for f in range(e + 1, size):
                    right[c, e] -= factor[e, f] * right[c, f]
                right[c, e] /= factor[e, e]
        for e in range(size):
            rows[m, e] = right[responses, e] / scale[e]
            for c in range(responses):
                coefficients[m, e, c] = right[c, e] / scale[e]
