"""Moving power sums on a line in O(n + m): exact, without subtractions, for kernels that are polynomials of |u|.

The line is cut into cells of one bandwidth.  A window [q - h, q] then contains at most one cut c.  Its sums are those of a
suffix of the cell before c plus those of a prefix of the cell after it, both about c: every base is at most 1 in units of
the bandwidth, and nothing is ever subtracted (van Herk 1992 and Gil and Werman 1993 do this for maxima).  A binomial shift
of at most one bandwidth moves the sums from c to q, and the kernel's coefficients combine them.

Kernels that are polynomials of u^2 need no cut at q: a window [q - h, q + h] is a suffix of one cell, the whole of the next
and a prefix of the third.  All three are summed about the middle of the second, at most 1.5 bandwidths away, and shifted by
at most half of one.
"""

from __future__ import annotations

from math import comb

import numpy as np

from kernadv._jit import compiled
from kernadv.regression._threads import in_parallel, stretches
from kernadv.typing import BoolArray, FloatArray

#: Queries that are worth a separate thread.
ENOUGH = 5_000
#: Queries that are shifted at a time.
TOGETHER = 256
#: A kernel sum below this share of the number of points has lost digits to cancellation; it is computed again directly.
THIN = 0.03


def power_moments(
    x: FloatArray, channels: FloatArray, at: FloatArray, width: float, coefficients: FloatArray, order: int, past: bool
) -> tuple[FloatArray, BoolArray]:
    """Sums over j of ``K(u) v_cj u^k`` with u = (x_j - q) / width, for all queries q.

    Parameters
    ----------
    x : (n,) ascending
    channels : (C, n)
        The values to sum; the first channel must not be negative.
    at : (m,) ascending
    width : float
    coefficients : (R + 1,)
        ``K(u) = sum_r a_r |u|^r`` for |u| <= 1.
    order : int
        Highest k.
    past : bool
        Only points with x_j <= q count.

    Returns
    -------
    sums : (m, C, order + 1)
    thin : (m,) bool
        Queries whose sums have lost digits, because the points of their window lie near its edge.
    """
    depth = len(coefficients) + order
    binomial = np.array([[comb(r, k) for k in range(depth)] for r in range(depth)], dtype=np.float64)
    sums = np.empty((len(at), len(channels), order + 1))
    thin = np.empty(len(at), dtype=np.bool_)

    even = not past and not coefficients[1::2].any()

    def sweep(own: slice) -> None:
        if even:
            _sweep_even(x, channels, at[own], float(width), coefficients, order, sums[own], thin[own])
            return
        _sweep(x, channels, at[own], float(width), coefficients, order, not past, binomial, sums[own], thin[own])

    in_parallel(sweep, stretches(len(at), ENOUGH))
    return sums, thin


@compiled()
def _suffixes(x: FloatArray, v: FloatArray, low: int, high: int, cut: float, h: float, depth: int) -> FloatArray:
    """Power sums about `cut` of the points from each index of [low, high] to high.  # (high - low + 1, C, depth)"""
    out = np.zeros((high - low + 1, v.shape[0], depth))
    for j in range(high - 1, low - 1, -1):
        u = (x[j] - cut) / h
        for c in range(v.shape[0]):
            term = v[c, j]
            for r in range(depth):
                out[j - low, c, r] = out[j - low + 1, c, r] + term
                term *= u
    return out


@compiled()
def _add(total: FloatArray, x: float, v: FloatArray, j: int, cut: float, h: float) -> None:
    """Add one point to running power sums about `cut`."""
    u = (x - cut) / h
    for c in range(total.shape[0]):
        term = v[c, j]
        for r in range(total.shape[1]):
            total[c, r] += term
            term *= u


@compiled()
def _shift(out: FloatArray, one: FloatArray, two: FloatArray, by: float, binomial: FloatArray) -> None:
    """Move the sum of two sets of power sums to a centre that lies `by` bandwidths before."""
    for c in range(out.shape[0]):
        for r in range(out.shape[1]):
            total, power = 0.0, 1.0
            for k in range(r, -1, -1):
                total += binomial[r, k] * power * (one[c, k] + two[c, k])
                power *= by
            out[c, r] = total


@compiled()
def _sweep(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    h: float,
    coefficients: FloatArray,
    order: int,
    two_sided: bool,
    binomial: FloatArray,
    sums: FloatArray,
    thin: BoolArray,
) -> None:
    n, channels, depth = len(x), v.shape[0], binomial.shape[0]
    before = np.zeros((1, channels, depth))  # suffixes of the cell before the cut
    within = np.zeros((1, channels, depth))  # suffixes of the cell after it, about its far end
    near, far = np.zeros((channels, depth)), np.zeros((channels, depth))  # prefixes about the cut and about the far end
    left, right = np.zeros((channels, depth)), np.zeros((channels, depth))
    cut = 0.0
    before_low = before_high = within_high = i_low = i_mid = i_high = 0
    for m in range(len(at)):
        q = at[m]
        if m == 0 or q >= cut + h:
            if m > 0 and q < cut + 2.0 * h:
                cut += h
                before, before_low, before_high = within, before_high, within_high
            else:
                cut = q
                before_low = int(np.searchsorted(x, cut - h))
                before_high = int(np.searchsorted(x, cut))
                before = _suffixes(x, v, before_low, before_high, cut, h, depth)
            within_high = before_high + int(np.searchsorted(x[before_high:], cut + h))
            within = _suffixes(x, v, before_high, within_high, cut + h, h, depth)
            near[:], far[:] = 0.0, 0.0
            i_low, i_mid, i_high = before_low, before_high, within_high
        while i_low < before_high and (x[i_low] - q) / h < -1.0:
            i_low += 1
        while i_mid < within_high and x[i_mid] <= q:
            _add(near, x[i_mid], v, i_mid, cut, h)
            i_mid += 1
        _shift(left, before[i_low - before_low], near, (cut - q) / h, binomial)
        points = left[0, 0]
        if two_sided:
            while i_high < n and (x[i_high] - q) / h <= 1.0:
                _add(far, x[i_high], v, i_high, cut + h, h)
                i_high += 1
            _shift(right, within[i_mid - before_high], far, (cut + h - q) / h, binomial)
            points += right[0, 0]
        for c in range(channels):
            for k in range(order + 1):
                total, sign = 0.0, 1.0
                for r in range(len(coefficients)):
                    total += coefficients[r] * (sign * left[c, r + k] + right[c, r + k])
                    sign = -sign
                sums[m, c, k] = total
        thin[m] = sums[m, 0, 0] < THIN * points


@compiled()
def _sweep_even(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    h: float,
    coefficients: FloatArray,
    order: int,
    sums: FloatArray,
    thin: BoolArray,
) -> None:
    n, channels, depth = len(x), v.shape[0], len(coefficients) + order
    room = depth + 2
    before = np.zeros((1, channels, room))  # suffixes of the cell before the queries' own
    after = np.zeros((1, channels, room))  # prefixes of the cell after it
    whole = np.zeros((channels, depth))
    moments = np.empty((channels, depth, TOGETHER))
    by, points, total = np.empty(TOGETHER), np.empty(TOGETHER), np.empty(TOGETHER)
    cut = middle = 0.0
    before_low = before_high = within_high = after_high = i_low = i_high = done = 0
    while done < len(at):
        q = at[done]
        if done == 0 or q >= cut + h:
            if done > 0 and q < cut + 2.0 * h:
                cut += h
                before_low, before_high = before_high, within_high
            else:
                cut = q
                before_low, before_high = int(np.searchsorted(x, cut - h)), int(np.searchsorted(x, cut))
            within_high = before_high + int(np.searchsorted(x[before_high:], cut + h))
            middle = cut + 0.5 * h
            after_high = within_high
            while after_high < n and (x[after_high] - (cut + h)) / h <= 1.0:
                after_high += 1
            longest = max(before_high - before_low, after_high - within_high)
            if longest >= len(before):  # kept from cell to cell: fresh memory is slow
                before, after = np.zeros((2 * longest + 1, channels, room)), np.zeros((2 * longest + 1, channels, room))
            _scan(x[before_low:before_high][::-1], v[:, before_low:before_high][:, ::-1], middle, h, depth, before)
            _scan(x[within_high:after_high], v[:, within_high:after_high], middle, h, depth, after)
            power_sums(x, v, before_high, within_high, middle, h, whole)
            i_low, i_high = before_low, within_high
        count = 0
        # the first one belongs to its cell, also where cut + h is cut
        while count < TOGETHER and done + count < len(at) and (count == 0 or at[done + count] < cut + h):
            q = at[done + count]
            while i_low < before_high and (x[i_low] - q) / h < -1.0:
                i_low += 1
            while i_high < after_high and (x[i_high] - q) / h <= 1.0:
                i_high += 1
            by[count] = (q - middle) / h
            one, two = before[before_high - i_low], after[i_high - within_high]
            points[count] = one[0, 0] + whole[0, 0] + two[0, 0]
            for c in range(channels):
                for r in range(depth):
                    moments[c, r, count] = one[c, r] + whole[c, r] + two[c, r]
            count += 1
        for c in range(channels):
            for low in range(1, depth):
                for r in range(depth - 1, low - 1, -1):
                    _subtract(moments[c, r], moments[c, r - 1], by, count)
            for k in range(order + 1):
                _combine(moments[c], coefficients, k, total, sums[done : done + count, c, k])
        for m in range(count):
            thin[done + m] = sums[done + m, 0, 0] < THIN * points[m]
        done += count


@compiled()
def _scan(x: FloatArray, v: FloatArray, centre: float, h: float, depth: int, out: FloatArray) -> None:
    """Power sums about `centre` of the first 0, 1, ... points, three powers at a time in registers.

    ``out`` is (n + 1, C, depth + 2): zeros, whose first row stays; the last two powers may be left over.
    """
    u, term = np.empty(TOGETHER), np.empty(TOGETHER)
    for start in range(0, len(x), TOGETHER):
        count = min(TOGETHER, len(x) - start)
        for i in range(count):
            u[i] = (x[start + i] - centre) / h
        for c in range(v.shape[0]):
            for i in range(count):
                term[i] = v[c, start + i]
            for r in range(0, depth, 3):
                low, middle, high = out[start, c, r], out[start, c, r + 1], out[start, c, r + 2]
                for i in range(count):
                    t = term[i]
                    low += t
                    t *= u[i]
                    middle += t
                    t *= u[i]
                    high += t
                    term[i] = t * u[i]
                    own = out[start + i + 1, c]
                    own[r], own[r + 1], own[r + 2] = low, middle, high


@compiled()
def power_sums(x: FloatArray, v: FloatArray, low: int, high: int, centre: float, h: float, out: FloatArray) -> None:
    """Sums of ``v_cj u_j^r``, ``u_j = (x_j - centre) / h``, over the points from `low` to `high`; out (C, depth)."""
    out[:] = 0.0
    u, term = np.empty(TOGETHER), np.empty(TOGETHER)
    for start in range(low, high, TOGETHER):
        count = min(TOGETHER, high - start)
        for i in range(count):
            u[i] = (x[start + i] - centre) / h
        for c in range(out.shape[0]):
            for i in range(count):
                term[i] = v[c, start + i]
            for r in range(out.shape[1]):
                total = 0.0
                for i in range(count):
                    total += term[i]
                    term[i] *= u[i]
                out[c, r] += total


@compiled()
def _subtract(out: FloatArray, lower: FloatArray, by: FloatArray, count: int) -> None:
    """A step of the shift of power sums: each power loses `by` times the one below."""
    for m in range(count):
        out[m] -= by[m] * lower[m]


@compiled()
def _combine(moments: FloatArray, coefficients: FloatArray, k: int, total: FloatArray, out: FloatArray) -> None:
    """Moments of the kernel, ``sum_r a_r |u|^(r + k)``, r even; `total` is room for them."""
    total[:] = 0.0
    for r in range(0, len(coefficients), 2):
        factor, moment = coefficients[r], moments[r + k]
        for m in range(len(out)):
            total[m] += factor * moment[m]
    for m in range(len(out)):
        out[m] = total[m]
