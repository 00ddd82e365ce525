"""Intervals and bands from rows of the hat matrix: O(n) per query and, for bands, O(n^2) memory.

For smoothers without moments, see `LinearSmoother.intervals_by_rows`.  Errors are taken as independent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from kernadv._errors import ArgumentError
from kernadv.regression.inference._base import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval
from kernadv.regression.inference.bands import BandParts, largest_t
from kernadv.regression.inference.bootstrap import Wild
from kernadv.regression.inference.degrees_of_freedom import others
from kernadv.regression.inference.intervals import IntervalParts
from kernadv.regression.inference.skewness import half_widths, residual_skewness
from kernadv.regression.inference.variance import LOST
from kernadv.regression.inference.window import in_window, interval_around, replicated
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import FloatArray

#: With fewer degrees of freedom variances are smoothed, over windows with as many as this, at most so many times as wide.
FEW, PLENTY, WIDEST = 3.0, 20.0, 1024.0
#: Draws of the bootstrap, and how many at once.
DRAWS, BATCH = 1000, 200


class _Estimates(NamedTuple):
    """At m queries, for C responses."""

    value: FloatArray  # (m, C)
    norm: FloatArray  # (m,) sum_j l_j^2, 1 / n_eff
    scaled: FloatArray  # (m,) sum_j l_j^2 / omega_j
    skew: FloatArray  # (m,) skewness, if the responses have skewness 1 and variances inverse to their weights
    fourth: FloatArray  # (m,) sum_j l_j^4
    window: tuple[FloatArray, FloatArray]  # (m, C) each, the smallest and the largest response in each window
    variance: FloatArray  # (m, C) sum_j l_j^2 e_j^2; NaN where points without a residual have a share in it


def normal(fit: LinearSmoother, at: Points, level: float) -> Interval[FloatArray]:
    """``mhat -+ z se`` with the variance ``sum_j l_j^2 e_j^2 / (1 - l_jj)^2`` (HC3); **covers** the smoothed target."""
    residuals, rest = _some_residuals(fit)
    tail = 0.5 * (1.0 - level)
    return _around(fit, _estimates(fit, at, residuals / rest), ndtri(1.0 - tail), tail, SMOOTHED_TARGET)


def robust(fit: LinearSmoother, at: Points, level: float) -> Interval[FloatArray]:
    """The fit of `correction` degrees more with the same bandwidths; **covers** the regression function.

    The bias from points of other levels, where lambda > 0, is not corrected.  The variance is ``sum_j l_j^2 e_j^2 / (1 -
    l_jj)`` (HC2), with ``(sum l^2)^2 / sum l^4`` degrees of freedom less the number of coefficients.  Where these are few,
    it is ``s^2 sum_j l_j^2 / omega_j`` with the variance of a response smoothed over a wider window, see `_smoothed`.  The
    limits are those of Student's t, and allow for the skewness of the residuals.
    """
    fit, tail = fit.raised(), 0.5 * (1.0 - level)
    residuals, rest = _residuals(fit) if replicated(fit) else _some_residuals(fit)
    got = _estimates(fit, at, residuals / np.sqrt(rest))
    freedom = got.norm**2 / got.fourth - coefficients(fit.x.shape[1], fit.spec.degree)
    few = np.flatnonzero(freedom < FEW)
    if len(few):
        each, freedom[few] = _smoothed(fit, at.take(few), residuals)
        got.variance[few] = got.scaled[few, None] * each
    quantile = stdtrit(freedom, 1.0 - tail)[:, None]
    half = half_widths(np.sqrt(got.variance), quantile, got.skew[:, None] * residual_skewness(fit, at))
    return interval_around(got.value, half, fit.y, got.window, 1.0 / got.norm, tail, REGRESSION_FUNCTION)


def estimate_and_size(fit: LinearSmoother, at: Points) -> tuple[FloatArray, FloatArray]:
    """The estimate (m, C) and n_eff (m,) at the queries."""
    got = _estimates(fit, at, np.zeros_like(fit.y))
    return got.value, 1.0 / got.norm


def sup_t(fit: LinearSmoother, at: Points, level: float) -> Interval[FloatArray]:
    """`multiplier_bootstrap` with `Wild`: each draw is divided by its own standard error (HC3)."""
    residuals, rest = _some_residuals(fit)
    noise_of = np.nan_to_num(residuals / np.sqrt(rest))
    own = np.nan_to_num(fit.hat(fit.points))
    rows = np.concatenate([hat for _, hat in fit.hat_blocks(at)])
    order = fit.sorted_rows()
    rng, critical, got = np.random.default_rng(0), np.empty(noise_of.shape[1]), _estimates(fit, at, residuals / rest)
    for c in range(len(critical)):
        drawn = []
        for _ in range(DRAWS // BATCH):
            noise = np.empty((len(own), BATCH))
            noise[order] = Wild().noise(noise_of[order, c], np.zeros(len(own)), BATCH, rng)
            spread = np.sqrt(rows**2 @ (np.nan_to_num((noise - own @ noise) / rest)) ** 2)
            t = np.abs(rows @ noise) / np.where(spread > 0.0, spread, np.inf)
            drawn.append(np.nan_to_num(t))
        critical[c], known = largest_t(np.concatenate(drawn, axis=1), level)
        got.variance[~known, c] = np.nan
    half = half_widths(np.sqrt(got.variance), critical, got.skew[:, None] * residual_skewness(fit, at))
    return interval_around(got.value, half, fit.y, got.window, 1.0 / got.norm, ndtr(-critical), SMOOTHED_TARGET)


def largest_normal(fit: LinearSmoother, at: Points, level: float) -> float:
    """Level-quantile of the largest ``|l(x)'e| / |l(x)|`` over the queries, e independent and normal: simulated."""
    noise, largest = np.empty((len(fit.y), DRAWS)), np.zeros(DRAWS)
    noise[fit.sorted_rows()] = np.random.default_rng(0).standard_normal(noise.shape)
    for _, rows in fit.hat_blocks(at):
        t = np.abs(rows @ noise) / np.linalg.norm(rows, axis=1, keepdims=True)
        largest = np.maximum(largest, np.nan_to_num(t).max(axis=0, initial=0.0))
    return float(np.quantile(largest, level))


INTERVAL_PARTS = IntervalParts(normal, robust, estimate_and_size)
BAND_PARTS = BandParts(sup_t, largest_normal, estimate_and_size)


def _residuals(fit: LinearSmoother) -> tuple[FloatArray, FloatArray]:
    """Residuals at the design points, NaN where nothing else is in the window, and the weight of the others there.

    Returns
    -------
    residuals : (n, C)
    rest : (n, 1)
        ``1 - l_j(x_j)``.
    """
    own = fit.estimate(fit.points)
    rest = others(own.centre * fit.weights)[:, None]
    return np.where(np.isnan(rest), np.nan, fit.y - own.value), rest


def _some_residuals(fit: LinearSmoother) -> tuple[FloatArray, FloatArray]:
    """`_residuals`, or an error if there are none."""
    residuals, rest = _residuals(fit)
    if np.isnan(residuals).all():
        raise ArgumentError(
            "no point has another one with weight in its window, so there are no residuals; widen the bandwidth, or use a "
            "kernel that does not interpolate"
        )
    return residuals, rest


def _smoothed(fit: LinearSmoother, at: Points, residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance of a response of weight 1 around each query, and its degrees of freedom.  # (m, C), (m,)

    Squared residuals are averaged in the window of the query, or in one 2, 4, 8, ... times as wide, until they have
    `PLENTY` degrees of freedom, ``(sum_j W_j r_j)^2 / sum_j W_j^2 r_j`` with ``r_j = (R R')_jj``, which is right for
    projections.  So the variance may change with x, if it does not within such a window.

    References
    ----------
    Ruppert, Wand, Holst and Hossjer (1997), Local polynomial variance-function estimation, Technometrics 39, equation 3.
    """
    own = fit.estimate(fit.points, square=True)
    assert own.square is not None
    left = np.nan_to_num(1.0 - 2.0 * own.centre * fit.weights + own.square * fit.weights)
    known = ~np.isnan(residuals[:, :1])
    squares, left = np.where(known, fit.weights[:, None] * residuals**2, 0.0), np.where(known[:, 0], left, 0.0)
    mean = replace(fit, spec=replace(fit.spec, degree=0))
    variance, freedom = np.full((len(at.x), squares.shape[1]), np.nan), np.zeros(len(at.x))
    asked, times = np.arange(len(at.x)), 1.0
    while len(asked) and times <= WIDEST:
        some, wide = at.take(asked), mean
        if some.bandwidth is None:
            wide = mean.with_bandwidth(times * mean.bandwidth)
        else:
            some = some.with_bandwidth(times * some.bandwidth)
        for block, rows in wide.hat_blocks(some):
            rows = np.nan_to_num(rows)
            total, here = rows @ left, asked[block]
            more = np.flatnonzero(total > 0.0)
            freedom[here[more]] = total[more] ** 2 / (rows[more] ** 2 @ left)
            variance[here[more]] = rows[more] @ squares / total[more, None]
        asked, times = asked[freedom[asked] < PLENTY], 2.0 * times
    return variance, np.where(freedom > 0.0, np.maximum(freedom, 1.0), np.nan)


def _around(
    fit: LinearSmoother, got: _Estimates, times: float | FloatArray, tail: float | FloatArray, covers: str
) -> Interval[FloatArray]:
    """``value -+ times standard error``, where the responses of the window can tell that much."""
    return interval_around(got.value, times * np.sqrt(got.variance), fit.y, got.window, 1.0 / got.norm, tail, covers)


def _estimates(fit: LinearSmoother, at: Points, each: FloatArray) -> _Estimates:
    """Estimates and, from residuals (n, C), their variances."""
    y, lonely = fit.y, np.isnan(each[:, 0])
    squares = np.where(lonely[:, None], 0.0, each) ** 2
    value, low, high, variance = (np.empty((len(at.x), y.shape[1])) for _ in range(4))
    norm, fourth, scaled, skew = (np.empty(len(value)) for _ in range(4))
    root = np.sqrt(fit.weights)
    for block, rows in fit.hat_blocks(at):
        weight, inside = rows**2, in_window(rows)
        value[block], variance[block] = rows @ y, weight @ squares
        norm[block], fourth[block] = weight.sum(1), (weight**2).sum(1)
        noise = rows / root
        scaled[block] = (noise**2).sum(1)
        skew[block] = (noise**3).sum(1) / scaled[block] ** 1.5
        variance[block][weight @ lonely > LOST * norm[block]] = np.nan
        for c, column in enumerate(y.T):
            low[block, c] = np.where(inside, column, np.inf).min(axis=1)
            high[block, c] = np.where(inside, column, -np.inf).max(axis=1)
    return _Estimates(value, norm, scaled, skew, fourth, (low, high), variance)
