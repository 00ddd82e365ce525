"""Products of the hat vectors of some queries with many columns, such as the draws of a bootstrap."""

from __future__ import annotations

import numpy as np

from kernadv.kernels import Power
from kernadv.regression._threads import blocks, in_parallel
from kernadv.regression.local._moving import moving_sums
from kernadv.regression.local.moments import HIGHEST_POWER, ascending, in_units
from kernadv.regression.local.polynomial import STEEP, LocalPolynomialSpec, smooth, squared_norm
from kernadv.typing import FloatArray

#: Columns at a time.
WIDE = 32
#: Hat vectors this many times shorter than the terms of their polynomials have lost too many digits.
LOSS = 300.0


class HatProducts:
    """``sum_j l_j(q) v_j`` and ``sum_j l_j(q)^2 v_j`` of many columns v, at the same queries.

    On a line, under a kernel that is a polynomial of a low degree, hat vectors are polynomials in pieces of their windows:
    a column costs O(n + m), a few nanoseconds a point.  At other queries columns are smoothed one by one.

    Parameters
    ----------
    spec, x, weights, at, bandwidth
        As in `kernadv.regression.local.polynomial.smooth`, with one bandwidth a dimension.

    Attributes
    ----------
    values : LocalValues
        The estimates, of no response.
    """

    def __init__(
        self, spec: LocalPolynomialSpec, x: FloatArray, weights: FloatArray, at: FloatArray, bandwidth: FloatArray
    ) -> None:
        self._sample = spec, x, weights, bandwidth
        self._at, self.values = at, smooth(spec, x, np.empty((len(x), 0)), weights, at, bandwidth)
        self._line: _Line | None = None
        self._others = np.arange(len(at))
        kernel = spec.kernel
        if x.shape[1] == 1 and isinstance(kernel, Power) and 2 * (kernel.degree + spec.degree) <= HIGHEST_POWER:
            self._line = _Line(kernel, spec, x, weights, at, bandwidth, self.values.row)
            norm = squared_norm(spec, x, weights, at, bandwidth, self.values)
            precise = (self.values.pivot >= STEEP) & (self._line.terms <= LOSS**2 * norm)
            self._others = np.flatnonzero(~precise)

    def of(self, columns: FloatArray) -> FloatArray:
        """``sum_j l_j(q) v_j`` of columns (n, B): their estimates.  # (m, B)"""
        return self._sums(columns, 1)

    def of_squares(self, columns: FloatArray) -> FloatArray:
        """``sum_j l_j(q)^2 v_j`` of columns (n, B).  # (m, B)"""
        return self._sums(columns, 2)

    def _sums(self, columns: FloatArray, power: int) -> FloatArray:
        out = np.empty((len(self._at), columns.shape[1]))

        def part(own: slice) -> None:
            if self._line is not None:
                out[:, own] = self._line.sums(columns[:, own], power)
            if len(self._others):
                out[self._others, own] = self._smoothed(columns[:, own], power)

        in_parallel(part, blocks(columns.shape[1], WIDE))
        return out

    def _smoothed(self, columns: FloatArray, power: int) -> FloatArray:
        """The sums at the other queries."""
        (spec, x, weights, bandwidth), at = self._sample, self._at[self._others]
        if power == 1:
            return smooth(spec, x, columns, weights, at, bandwidth, self.values.order).value
        own = self.values.take(self._others)
        each = [squared_norm(spec, x, weights, at, bandwidth, own, v) for v in np.ascontiguousarray(columns.T)]
        return np.stack(each, axis=1)


class _Line:
    """Hat vectors on a line as polynomials of x - q, in bandwidths, times the weights of the points.

    Attributes
    ----------
    terms : (m,) float64
        k times the largest possible square of a term of a hat vector, k the points of the window.
    """

    def __init__(
        self,
        kernel: Power,
        spec: LocalPolynomialSpec,
        x: FloatArray,
        weights: FloatArray,
        at: FloatArray,
        bandwidth: FloatArray,
        row: FloatArray,
    ) -> None:
        z, q, _ = in_units(x, at, bandwidth)
        self._points, self._queries = ascending(z[:, 0]), ascending(q[:, 0])
        self._x, self._at = z[self._points, 0], q[self._queries, 0]
        self._weights = weights[self._points]
        first = np.searchsorted(self._x, self._at - kernel.edge, "left")
        middle = np.searchsorted(self._x, self._at, "right")
        last = np.searchsorted(self._x, self._at + kernel.edge, "right")
        right = kernel.coefficients
        left = right * (-1.0) ** np.arange(len(right))
        if spec.past:
            windows = [(first, middle, left)]
        elif (left == right).all():
            windows = [(first, last, right)]
        else:
            windows = [(first, middle, left), (middle, last, right)]
        row = row[self._queries]
        self._pieces = [(low, high, _product(np.broadcast_to(k, (len(row), len(k))), row)) for low, high, k in windows]
        sums = np.append(0.0, np.cumsum(self._weights**2))
        inside = sums[middle if spec.past else last] - sums[first]
        self.terms = np.empty(len(at))
        self.terms[self._queries] = inside * np.abs(row).sum(1) ** 2

    def sums(self, columns: FloatArray, power: int) -> FloatArray:
        """``sum_j l_j(q)^power v_j``, power 1 or 2, of columns (n, B).  # (m, B)"""
        columns, weights = np.ascontiguousarray(columns[self._points]), self._weights**power
        out = np.zeros((len(self._at), columns.shape[1]))
        for low, high, polynomial in self._pieces:
            polynomial = polynomial if power == 1 else _product(polynomial, polynomial)
            moving_sums(self._x, weights, columns, self._at, low, high, polynomial, out)
        if isinstance(self._queries, slice):
            return out
        ordered, out = out, np.empty_like(out)
        out[self._queries] = ordered
        return out


def _product(one: FloatArray, other: FloatArray) -> FloatArray:
    """Products of polynomials, row by row.  # (m, R + S - 1)"""
    out = np.zeros((len(one), one.shape[1] + other.shape[1] - 1))
    for r in range(one.shape[1]):
        out[:, r : r + other.shape[1]] += one[:, r, None] * other
    return out
