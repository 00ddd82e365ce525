"""Mixed designs: the bandwidths of continuous columns and the lambdas of categorical ones, chosen together.

References
----------
Racine and Li (2004), Nonparametric estimation of regression functions with both categorical and continuous data, Journal
of Econometrics 119.
"""

from __future__ import annotations

from itertools import product
from math import frexp, isfinite, ldexp

import numpy as np
from scipy.optimize import minimize

from kernadv._errors import ArgumentError
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._ordered import Ordered, prepare
from kernadv.regression.bandwidth.criteria import GCV, AICc, LeaveOneOut, left_out
from kernadv.regression.level_moments import LevelMoments, few_levels
from kernadv.regression.local.solve import SURE
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

#: Criteria that follow from the fit at the design points and its leverages.
CRITERIA = (LeaveOneOut, GCV, AICc)
#: Lambdas of the first search, as shares of the largest ones; with more than `APART` columns they move together.
SHARES, APART = (0.0, 0.05, 0.15, 0.4, 1.0), 3
#: Starting points that are refined.
STARTS = 3
#: Binary digits of a criterion in the search: rounding errors, which depend on the scale of the weights, must not steer it.
BITS = 34


def select_mixed(selector: Selector, smoother: LinearSmoother) -> Selection:
    """Minimise a criterion over all bandwidths: a grid of scaled h and of lambdas, refined by Powell's method.

    Parameters
    ----------
    selector : LeaveOneOut, GCV or AICc
    smoother : LinearSmoother
        Its bandwidths are not read.

    Returns
    -------
    Selection
        With `smoothing`; the curve is the smallest criterion over lambda at each scale of h.

    Raises
    ------
    ArgumentError
        If the selector has another criterion, or that is undefined everywhere.
    """
    if not isinstance(selector, CriterionSelector) or not isinstance(selector, CRITERIA):
        raise ArgumentError(
            f"{selector.name} does not select with categorical columns; use leave_one_out, gcv or aicc, or give one number "
            "a column: the half-width or scale of continuous columns, lambda of categorical ones"
        )
    smoother = smoother.take(smoother.sorted_rows())
    points, weights = smoother.points, smoother.weights / smoother.weights.mean()
    moments = LevelMoments(smoother, points) if few_levels(smoother, points) else None
    dimensions = smoother.x.shape[1]
    if dimensions:
        ordered = prepare(smoother)
    else:
        centred = smoother.y - np.average(smoother.y, axis=0, weights=smoother.weights)
        ordered = Ordered(smoother.spec, smoother.x, centred, weights, row=np.arange(len(weights)))
    largest = np.array([category.largest for category in smoother.categories])
    grid = selector.grid(ordered) if dimensions else np.empty((1, 0))

    def errors(bandwidth: FloatArray, smoothing: FloatArray) -> Errors:
        if moments is None:
            value, centre, _, _ = smoother.with_bandwidth(bandwidth, smoothing).estimate(points)
        else:
            solved = moments.solve(bandwidth, smoothing)
            value = np.where(solved.pivot[:, None] > SURE, solved.coefficients[:, 0], np.nan)
            centre = solved.row[:, 0]
        residuals = Errors(smoother.y - value, smoother.weights * centre)
        return left_out(residuals) if isinstance(selector, LeaveOneOut) else residuals

    scored = np.asarray(np.isfinite(errors(grid[-1], largest).error).all(1))
    if not scored.any():
        raise ArgumentError("no bandwidth leaves any point an estimate from the others: too few points")
    variance = ordered.variance
    if not variance.any():
        zero = np.zeros(len(grid))
        return Selection(grid[-1], grid, zero, selector.criterion, True, True, 0.0, largest)

    def score(place: FloatArray) -> float:
        value = selector.score_over(scored, errors(np.exp(place[:dimensions]), place[dimensions:]), weights, variance)
        mantissa, exponent = frexp(value)
        return ldexp(round(mantissa * 2**BITS), exponent - BITS) if isfinite(value) else value

    shares = list(product(SHARES, repeat=len(largest)))
    if len(largest) > APART:
        shares = [(share,) * len(largest) for share in SHARES]
    starts = np.array([[*np.log(h), *(np.array(share) * largest)] for h in grid for share in shares])
    scores = np.array([score(start) for start in starts])
    if not np.isfinite(scores).any():
        raise ArgumentError(f"{selector.criterion} is undefined at every bandwidth; give one number a column")
    worst = float(scores[np.isfinite(scores)].max())
    limit = worst + 10.0 * abs(worst) + 1.0  # instead of inf
    bounds = [*zip(np.log(grid[0]), np.log(grid[-1]), strict=True), *((0.0, top) for top in largest.tolist())]
    best, value = starts[int(np.argmin(scores))], float(scores.min())
    for start in np.argsort(scores, kind="stable")[:STARTS]:
        found = minimize(
            lambda place: min(score(place), limit),
            starts[start],
            method="Powell",
            bounds=bounds,
            options={"xtol": 1e-4, "ftol": 1e-10},
        )
        if found.fun < value:
            best, value = found.x, float(found.fun)
    curve = scores.reshape(len(grid), -1).min(1)
    finite = np.isfinite(curve)
    edge = bool(dimensions) and int(np.argmin(curve)) in (int(np.argmax(finite)), len(grid) - 1)
    flat = bool(dimensions) and selector.flat(curve[finite], ordered)
    bandwidth = np.exp(best[:dimensions])
    return Selection(bandwidth, grid, curve, selector.criterion, edge, flat, value, best[dimensions:])
