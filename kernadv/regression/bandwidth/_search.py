"""Minimising a criterion over bandwidths: a log grid in parallel, then golden sections around its minimum."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, sqrt

import numpy as np

from kernadv.regression._threads import in_parallel
from kernadv.typing import FloatArray

#: Relative precision of a bandwidth; its standard deviation is rarely below a tenth.
PRECISION = 2e-4
#: Arguments of a search are multiples of this: rounding errors of a criterion, which depend on the scale of the weights,
#: then do not show in a bandwidth.
GRAIN = PRECISION / 64.0
#: Most rounds over the dimensions.
ROUNDS = 8
#: Half-width of the line search of a dimension in the first round, and its number of points.
SPREAD, STEPS = 4.0, 9
#: Number of points of that search in more than `FINE` dimensions.
COARSE = 5
#: Most dimensions whose bandwidths are refined to the last digit.
FINE = 3
#: Stands for inf where parabolas are fitted.
LARGE = 1e100
#: A point this near the middle of its bracket counts as at it: rounding, which depends on the unit of x, decides nothing.
MIDDLE = 1e-9
#: Smaller relative differences of a criterion are rounding errors.
EXACT = 1e-10

GOLDEN = (sqrt(5.0) - 1.0) / 2.0


def lowest(curve: FloatArray) -> int:
    """Index of the smallest value; of several equal to rounding, the last: the widest bandwidth."""
    least = float(curve.min())
    return int(np.flatnonzero(curve <= least + EXACT * abs(least))[-1])


def golden(
    function: Callable[[float], float], low: float, high: float, known: tuple[float, float]
) -> tuple[float, float]:
    """Minimise over [low, high] by golden sections, with parabolic steps where the function is smooth.

    Parameters
    ----------
    function : callable
        Of the logarithm of a bandwidth; may be inf.
    low, high : float
        Ends of the bracket.
    known : (argument, value)
        Best point so far, inside the bracket or at an end of it.

    Returns
    -------
    (argument, value)
        Never worse than `known`.

    References
    ----------
    Brent (1973), Algorithms for Minimization without Derivatives, chapter 5.
    """
    best = second = third = known
    step = before = 0.0
    while True:
        (x, f_x), (w, f_w), (v, f_v) = best, second, third
        middle = 0.5 * (low + high)
        if abs(x - middle) + 0.5 * (high - low) <= PRECISION:
            return best
        r, q = (x - w) * (f_x - f_v), (x - v) * (f_x - f_w)
        p, q = (x - v) * q - (x - w) * r, 2.0 * (q - r)
        p, q = (-p, q) if q > 0.0 else (p, -q)
        left = x < middle - MIDDLE
        inside = q * (low - x - PRECISION) < p < q * (high - x + PRECISION)  # rounding at an end decides nothing
        if inside and abs(p) < abs(0.5 * q * before):  # the vertex of the parabola
            before, step = step, p / q
            if min(x + step - low, high - x - step) < PRECISION:
                step = 0.5 * PRECISION if left else -0.5 * PRECISION
        else:
            before = high - x if left else low - x
            step = (1.0 - GOLDEN) * before
        at = x + (step if abs(step) >= 0.5 * PRECISION else copysign(0.5 * PRECISION, step))
        at = round(at / GRAIN) * GRAIN
        new = at, min(float(function(at)), LARGE)
        if new[1] < f_x - EXACT * abs(f_x):
            low, high = (x, high) if at > x else (low, x)
            best, second, third = new, best, second
            continue
        low, high = (at, high) if at < x else (low, at)
        if new[1] <= f_w or w == x:
            second, third = new, second
        elif new[1] <= f_v or v in (x, w):
            third = new


def refine(
    score: Callable[[FloatArray], float], grid: FloatArray, curve: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, float]:
    """Refine the common factor of a grid of bandwidths, then, in d > 1 dimensions, one dimension after the other.

    In 2 and 3 dimensions the rounds go on until nothing moves.  In more there is one round, over `COARSE` bandwidths from a
    quarter to four times the present one in each dimension; then the common factor is refined once more.  That makes about
    ``5 d + 15`` scores.

    Parameters
    ----------
    score : callable
        Of a bandwidth (d,).
    grid : (H, d)
        Ascending multiples of one bandwidth.
    curve : (H,)
        The score on the grid.
    low, high : (d,)
        Bounds.

    Returns
    -------
    bandwidth : (d,)
    value : float
    """
    index = lowest(curve)
    start = np.log(grid[index])
    value = float(curve[index])
    factors = np.log(grid[:, 0]) - start[0]
    bracket = factors[max(index - 1, 0)], factors[min(index + 1, len(grid) - 1)]
    shift, value = golden(lambda t: score(np.exp(start + t)), *bracket, (0.0, value))
    place = start + shift
    if grid.shape[1] == 1:
        return np.exp(place), value
    fine = grid.shape[1] <= FINE
    for turn in range(ROUNDS if fine else 1):
        before = place.copy()
        for axis in range(len(place)):
            place, value = _along(score, place, value, np.eye(len(place))[axis], low, high, turn, fine)
        place, value = _along(score, place, value, np.ones(len(place)), low, high, turn)
        if np.abs(place - before).max() <= 2.0 * PRECISION:
            break
    return np.exp(place), value


def _along(
    score: Callable[[FloatArray], float],
    place: FloatArray,
    value: float,
    direction: FloatArray,
    low: FloatArray,
    high: FloatArray,
    turn: int,
    fine: bool = True,
) -> tuple[FloatArray, float]:
    """Line search from `place` in a direction, in logarithms of the bandwidth: wide at first, narrower every turn.

    Without `fine` only the points of the first, wide search are tried.
    """
    moved = direction > 0.0
    least = float((np.log(low) - place)[moved].max())
    most = float((np.log(high) - place)[moved].min())
    spread = np.log(SPREAD) / 2.0**turn
    function = lambda t: score(np.exp(place + t * direction))
    if turn:
        bracket = max(-spread, least), min(spread, most)
    else:
        steps = np.linspace(max(-spread, least), min(spread, most), STEPS if fine else COARSE)
        curve = np.array(in_parallel(function, steps.tolist()))
        index = lowest(curve)
        if curve[index] < value:
            place, value = place + steps[index] * direction, float(curve[index])
        else:
            index = int(np.argmin(np.abs(steps)))
        at = steps[index] if curve[index] == value else 0.0
        bracket = steps[max(index - 1, 0)] - at, steps[min(index + 1, len(steps) - 1)] - at
    if not fine or not bracket[1] > bracket[0]:
        return place, value
    step, value = golden(function, *bracket, (0.0, value))
    return place + step * direction, value
