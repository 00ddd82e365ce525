"""Robust bias correction from the points of each window, compiled.

The polynomials ``b_j`` (E,) of a window are orthonormal under its weights, ``sum_j w_j b_j b_j' = 1``, in order of their
degree.  With g the coefficient asked for of each of them, the hat vector is ``l_j = w_j g'b_j``, the leverages are
``w_j |b_j|^2``, and the residuals are R y with ``R = I - B B'W``.  So no sum is a small difference of large numbers,
whatever the window.
"""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv.regression.inference.degrees_of_freedom import SATURATED
from kernadv.regression.inference.window import NEGLIGIBLE
from kernadv.regression.local.solve import RANK, TINY
from kernadv.typing import FloatArray, IntArray

#: Share of the variance that the residuals of a window must show on average: with less, a nominal 95% covers 25 to 90%.
SHOWN = 0.2
#: With a smaller share the fit interpolates its window, and residuals are rounding errors.
INTERPOLATED = 1e-9


@compiled(error_model="numpy")
def correct(
    first: FloatArray,
    second: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    channels: FloatArray,
    given: FloatArray,
    parents: IntArray,
    size: int,
    row: int,
    unit: float,
    shared: bool,
    power: int,
    by_count: bool,
    neighbours: int,
    rounding: FloatArray,
    conventional: FloatArray,
    conventional_error: FloatArray,
    corrected: FloatArray,
    corrected_error: FloatArray,
    freedom: FloatArray,
    skew: FloatArray,
) -> None:
    """Fill in the numbers of `RobustEstimate` for some queries; what is undefined stays as it is.

    Parameters
    ----------
    first, second : (p,)
        Kernels of the estimate and of the fit that gives its bias.
    u, point, ends, begin, upto
        As in `kernadv.regression.local._pairs.Pairs`, in units of the wider bandwidth.
    channels : (1 + C, n)
        Observation weights and responses.
    given : (C, p)
        Residuals by nearest neighbours, not read if there are none.
    parents : (E, 2)
        Of the monomials of the second fit, see `kernadv.regression.local.monomials.Monomials`.
    size : int
        Coefficients of the first fit.
    row : int
        Which coefficient is the estimate, after division by `unit`.
    shared : bool
        Whether both kernels are the same.
    power : int
        Squared residuals are divided by this power of 1 less the leverage in the first fit.
    by_count : bool
        Squared residuals are multiplied by k / (k - coefficients), with k points in the window.
    neighbours : int
        J of nearest neighbours, whose residuals are the given ones; 0 for residuals of the window's own polynomial.
    rounding : (C,)
        Ranges and errors up to this are rounding errors.
    conventional, conventional_error, corrected, corrected_error : (m, C)
    freedom, skew : (m, 1)
    """
    responses, full, start = len(channels) - 1, len(parents), 0
    for m in range(begin, upto):
        used = np.empty(ends[m] - start, np.int64)
        k = 0
        for p in range(start, ends[m]):
            if first[p] > 0.0 or second[p] > 0.0:
                used[k] = p
                k += 1
        start = ends[m]
        weight, lag, y = np.empty(k), np.empty((len(u), k)), np.empty((responses, k))
        for j in range(k):
            weight[j] = first[used[j]] * channels[0, point[used[j]]]
            for i in range(len(u)):
                lag[i, j] = u[i, used[j]]
            for c in range(responses):
                y[c, j] = channels[1 + c, point[used[j]]]
        basis, gain = np.empty((full, k)), np.empty(full)
        known = _orthonormal(weight, lag, parents, row, basis, gain)
        if known < size:
            continue
        hat, fair, each, residual = np.zeros(k), np.ones(k), np.empty(k), np.empty(k)
        for e in range(size):
            for j in range(k):
                hat[j] += gain[e] * weight[j] * basis[e, j]
        if power > 0:
            for j in range(k):
                others = 1.0
                for e in range(size):
                    others -= weight[j] * basis[e, j] * basis[e, j]
                fair[j] = (1.0 / others if power == 1 else 1.0 / (others * others)) if others > SATURATED else np.nan
        elif by_count:
            for j in range(k):
                fair[j] = k / (k - size) if k > size else np.nan
        for j in range(k):
            each[j] = hat[j] * hat[j] * fair[j]
        for c in range(responses):
            _find_residuals(y[c], weight, basis[:size], given, c, used, neighbours > 0, residual)
            conventional[m, c] = _dot(hat, y[c]) / unit
            conventional_error[m, c] = np.sqrt(_weighted(each, residual, residual)) / abs(unit)
        if not shared:
            for j in range(k):
                weight[j] = second[used[j]] * channels[0, point[used[j]]]
            known = _orthonormal(weight, lag, parents, row, basis, gain)
        if known < full:
            continue
        for e in range(size, full):  # less the leading bias
            missed = _dot(hat, basis[e]) - gain[e]
            for j in range(k):
                hat[j] -= missed * weight[j] * basis[e, j]
        if by_count:
            for j in range(k):
                fair[j] = k / (k - full) if k > full else np.nan
        for j in range(k):
            each[j] = hat[j] * hat[j] * fair[j]
        square = cube = 0.0
        for j in range(k):
            part = hat[j] / np.sqrt(channels[0, point[used[j]]])
            square += part * part
            cube += part * part * part
        skew[m, 0] = cube / square**1.5
        mean, spread = _moments_of_sum(each, weight, basis)
        variance = _dot(hat, hat)
        if neighbours > 0:  # a little too few: as if all were mutual, with correlation -2 / (J + 1)
            correlated = 1.0 + 4.0 * neighbours / (neighbours + 1.0) ** 2
            freedom[m, 0] = variance * variance / (correlated * _dot(each, each))
        elif spread > 0.0 and mean >= (SHOWN - 1e-9) * variance:
            freedom[m, 0] = mean * mean / spread
        for c in range(responses):
            _find_residuals(y[c], weight, basis, given, c, used, neighbours > 0, residual)
            corrected[m, c] = _dot(hat, y[c]) / unit
            error = np.sqrt(_weighted(each, residual, residual)) / abs(unit)
            flat = error <= rounding[c] and _interpolates(y[c], weight, lag, full, rounding[c])
            if not flat and (neighbours > 0 or not mean < INTERPOLATED * variance):
                corrected_error[m, c] = error


@compiled(error_model="numpy")
def _orthonormal(
    weight: FloatArray, lag: FloatArray, parents: IntArray, row: int, basis: FloatArray, gain: FloatArray
) -> int:
    """Orthonormal polynomials by Gram-Schmidt, twice each, and the coefficient `row` of each; how many there are.

    The weights are divided by their sum.

    References
    ----------
    Bjorck (1996), Numerical Methods for Least Squares Problems, section 2.4.
    """
    full, total = len(parents), 0.0
    for j in range(len(weight)):
        total += weight[j]
    if not total > TINY:
        return 0
    for j in range(len(weight)):
        weight[j] /= total
        basis[0, j] = 1.0
        for e in range(1, full):
            basis[e, j] = basis[parents[e, 0], j] * lag[parents[e, 1], j]
    factor = np.zeros((full, full))
    for e in range(full):
        own = basis[e]
        scale = np.sqrt(_weighted(weight, own, own))
        if scale > 0.0:
            _divide(own, scale)
        for _ in range(2):
            for f in range(e):
                along = _weighted(weight, basis[f], own)
                factor[f, e] += along
                _subtract(own, along, basis[f])
        factor[e, e] = np.sqrt(_weighted(weight, own, own))
        if not factor[e, e] > RANK:
            return e
        _divide(own, factor[e, e])
        rest = 1.0 / scale if e == row else 0.0
        for f in range(e):
            rest -= factor[f, e] * gain[f]
        gain[e] = rest / factor[e, e]
    return full


@compiled(error_model="numpy")
def _find_residuals(
    y: FloatArray,
    weight: FloatArray,
    basis: FloatArray,
    given: FloatArray,
    response: int,
    used: IntArray,
    by_neighbours: bool,
    residual: FloatArray,
) -> None:
    """The given residuals of the points that are used, or those of the polynomial."""
    for j in range(len(y)):
        residual[j] = given[response, used[j]] if by_neighbours else y[j]
    if not by_neighbours:
        for e in range(len(basis)):
            _subtract(residual, _weighted(weight, basis[e], residual), basis[e])


@compiled(error_model="numpy")
def _moments_of_sum(each: FloatArray, weight: FloatArray, basis: FloatArray) -> tuple[float, float]:
    """``tr D R R'`` and ``tr (D R R')^2`` for D = diag(each): mean and half the variance of ``e'D e``, e = R noise.

    ``(R R')_ij = 1_ij - (w_i + w_j) b_i'b_j + b_i'G b_j`` with ``G = sum_j w_j^2 b_j b_j'``.
    """
    full, points = basis.shape
    gram, zero, one, two = (
        np.zeros((full, full)),
        np.zeros((full, full)),
        np.zeros((full, full)),
        np.zeros((full, full)),
    )
    straight, bent = np.zeros(points), np.zeros(points)  # b'b and b'G b
    for e in range(full):
        for f in range(e + 1):
            first, second, square = basis[e], basis[f], 0.0
            for j in range(points):
                square += weight[j] * first[j] * (weight[j] * second[j])
            times = square if e == f else 2.0 * square
            none, once, twice = 0.0, 0.0, 0.0
            for j in range(points):
                product = first[j] * second[j]
                bent[j] += times * product
                product *= each[j]
                none += product
                once += weight[j] * product
                twice += weight[j] * weight[j] * product
            gram[e, f] = gram[f, e] = square
            zero[e, f] = zero[f, e] = none
            one[e, f] = one[f, e] = once
            two[e, f] = two[f, e] = twice
        for j in range(points):
            straight[j] += basis[e, j] * basis[e, j]
    mean = spread = 0.0
    for j in range(points):
        mean += each[j] * (1.0 - 2.0 * weight[j] * straight[j] + bent[j])
        spread += each[j] * each[j] * (1.0 - 4.0 * weight[j] * straight[j] + 2.0 * bent[j])
    for e in range(full):
        for f in range(full):
            left = right = 0.0  # of G zero
            for g in range(full):
                left += gram[e, g] * zero[g, f]
                right += gram[f, g] * zero[g, e]
            spread += left * right - 4.0 * one[e, f] * left + 2.0 * (two[e, f] * zero[e, f] + one[e, f] * one[e, f])
    return mean, spread


@compiled()
def _interpolates(y: FloatArray, weight: FloatArray, lag: FloatArray, full: int, rounding: float) -> bool:
    """Whether the responses in the window differ, but not within a place, in no more places than coefficients."""
    least, most, largest, places = np.inf, -np.inf, 0.0, 0
    place = np.empty(full, np.int64)
    for j in range(len(y)):
        largest = max(largest, weight[j])
    for j in range(len(y)):
        if not (weight[j] > 0.0 and weight[j] > NEGLIGIBLE * largest):
            continue
        least, most = min(least, y[j]), max(most, y[j])
        known = False
        for k in range(min(places, full)):
            same = True
            for i in range(len(lag)):
                same = same and lag[i, place[k]] == lag[i, j]
            known = known or same
        if not known:
            if places < full:
                place[places] = j
            places += 1
    return places <= full and most - least > rounding


@compiled()
def _weighted(weight: FloatArray, one: FloatArray, other: FloatArray) -> float:
    total = 0.0
    for j in range(len(weight)):
        total += weight[j] * one[j] * other[j]
    return total


@compiled()
def _dot(one: FloatArray, other: FloatArray) -> float:
    total = 0.0
    for j in range(len(one)):
        total += one[j] * other[j]
    return total


@compiled()
def _subtract(from_: FloatArray, times: float, what: FloatArray) -> None:
    for j in range(len(from_)):
        from_[j] -= times * what[j]


@compiled(error_model="numpy")
def _divide(what: FloatArray, by: float) -> None:
    for j in range(len(what)):
        what[j] /= by
