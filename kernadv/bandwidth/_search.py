"""Minimising a criterion over bandwidths: a log grid in parallel, then golden sections around its minimum."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from kernadv._typing import FloatArray

#: Relative precision of a bandwidth; its standard deviation is rarely below a tenth.
PRECISION = 2e-4
#: Most rounds over the dimensions.
ROUNDS = 8
#: Half-width of the line search of a dimension in the first round, and its number of points.
SPREAD, STEPS = 4.0, 9
#: Smaller relative differences of a criterion are rounding errors.
EXACT = 1e-10

GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Map in threads: the compiled loops and most of numpy release the interpreter."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8, max(len(items), 1))) as pool:
        return list(pool.map(function, items))


def lowest(curve: FloatArray) -> int:
    """Index of the smallest value; of several equal to rounding, the last: the widest bandwidth."""
    least = float(curve.min())
    return int(np.flatnonzero(curve <= least + EXACT * abs(least))[-1])


def golden(
    function: Callable[[float], float], low: float, high: float, known: tuple[float, float]
) -> tuple[float, float]:
    """Minimise over [low, high] by golden sections.

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
    """
    best = known
    a, b = low, high
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    f_left, f_right = function(left), function(right)
    while True:
        for point in ((left, f_left), (right, f_right)):
            if point[1] < best[1] - EXACT * abs(best[1]):
                best = point
        if b - a <= PRECISION:
            return best
        if f_left < f_right or (f_left == f_right and best[0] <= left):
            b, right, f_right = right, left, f_left
            left = b - GOLDEN * (b - a)
            f_left = function(left)
        else:
            a, left, f_left = left, right, f_right
            right = a + GOLDEN * (b - a)
            f_right = function(right)


def refine(
    score: Callable[[FloatArray], float], grid: FloatArray, curve: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, float]:
    """Refine the minimum of a grid of bandwidths in proportion, then, in d > 1 dimensions, one dimension after the other.

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
    for turn in range(ROUNDS):
        before = place.copy()
        for axis in range(len(place)):
            place, value = _along(score, place, value, np.eye(len(place))[axis], low, high, turn)
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
) -> tuple[FloatArray, float]:
    """Line search from `place` in a direction, in logarithms of the bandwidth: wide at first, narrower every turn."""
    moved = direction > 0.0
    least = float((np.log(low) - place)[moved].max())
    most = float((np.log(high) - place)[moved].min())
    spread = np.log(SPREAD) / 2.0**turn
    function = lambda t: score(np.exp(place + t * direction))
    if turn:
        bracket = max(-spread, least), min(spread, most)
    else:
        steps = np.linspace(max(-spread, least), min(spread, most), STEPS)
        curve = np.array(in_parallel(function, steps.tolist()))
        index = lowest(curve)
        if curve[index] < value:
            place, value = place + steps[index] * direction, float(curve[index])
        else:
            index = int(np.argmin(np.abs(steps)))
        at = steps[index] if curve[index] == value else 0.0
        bracket = steps[max(index - 1, 0)] - at, steps[min(index + 1, STEPS - 1)] - at
    if not bracket[1] > bracket[0]:
        return place, value
    step, value = golden(lambda t: score(np.exp(place + t * direction)), *bracket, (0.0, value))
    return place + step * direction, value
