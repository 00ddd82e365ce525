"""Derivatives, average derivatives and contrasts, and values with dependent errors: intervals and bands from hat rows.

All are linear functionals of the responses, and `functionals` knows their errors.  They are those of a fit of a higher
degree with the same bandwidths, and **cover** what they estimate of the regression function; without that bias correction,
what they estimate of the smoothed target.  Bias from other levels of categorical columns is not corrected.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from kernadv._errors import check_choice, check_level
from kernadv.regression.inference._base import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval
from kernadv.regression.inference.functionals import Noise
from kernadv.regression.inference.window import WIDEST, in_window, interval_around
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother, correction
from kernadv.typing import BoolArray, FloatArray

#: Methods of intervals that allow for dependent errors.
METHODS = ("auto", "robust", "normal")


def corrected(smoother: LinearSmoother, order: int) -> LinearSmoother:
    """The smoother of the degree that removes the leading bias of derivatives of this total order."""
    if order > smoother.spec.degree:  # the derivative of a mean, whose bias is that of the slope of a line
        return smoother.raised(order + 1)
    return smoother.raised(correction(smoother.spec, order))


def values(fit: LinearSmoother, at: Points, level: float, method: str, errors: str) -> Interval[FloatArray]:
    """Intervals of the regression function at the queries; "normal" without bias correction, but with quantiles of t."""
    if method not in METHODS:
        check_choice(method, f"method of intervals with errors={errors!r}", METHODS)
    tail = 0.5 * (1.0 - check_level(level))
    fit, covers = (fit, SMOOTHED_TARGET) if method == "normal" else (fit.raised(), REGRESSION_FUNCTION)
    noise = Noise(fit, errors)
    estimate, half = _empty(fit, at), _empty(fit, at)
    low, high, size = _empty(fit, at), _empty(fit, at), np.empty(len(at.x))
    for block, rows in fit.hat_blocks(at):
        estimate[block], half[block] = rows @ fit.y, noise.half_width(rows, level)
        low[block], high[block], size[block] = _window(fit, rows)
    half[:, _constant(fit)] = np.nan
    return interval_around(estimate, half, fit.y, (low, high), size, tail, covers)


def band(fit: LinearSmoother, at: Points, level: float, bias_corrected: bool, errors: str) -> Interval[FloatArray]:
    """Band of the regression function, or the smoothed target, at all queries at once."""
    check_level(level)
    fit, covers = (fit.raised(), REGRESSION_FUNCTION) if bias_corrected else (fit, SMOOTHED_TARGET)
    rows = fit.hat(at)
    half, critical = Noise(fit, errors).simultaneous(rows, level)
    low, high, size = _window(fit, rows)
    half[:, _constant(fit)] = np.nan
    return interval_around(rows @ fit.y, half, fit.y, (low, high), size, ndtr(-critical), covers)


def derivative(
    fit: LinearSmoother, at: Points, level: float, order: tuple[int, ...], errors: str
) -> Interval[FloatArray]:
    """Intervals of a derivative of the regression function at the queries."""
    check_level(level)
    fit = corrected(fit, sum(order))
    noise = Noise(fit, errors)
    estimate, half = _empty(fit, at), _empty(fit, at)
    for block, rows in fit.hat_blocks(at, order):
        estimate[block], half[block] = rows @ fit.y, noise.half_width(rows, level)
    return _around(fit, estimate, half)


def average_derivative(
    fit: LinearSmoother, at: Points, level: float, order: tuple[int, ...], errors: str
) -> tuple[Interval, BoolArray]:
    """Interval of the mean of a derivative over the queries that have one, and which these are.  # of (1, C), (m,)

    The queries are taken as given: the interval does not allow for the chance that drew them.
    """
    check_level(level)
    fit = corrected(fit, sum(order))
    total, defined = np.zeros(len(fit.y)), np.zeros(len(at.x), np.bool_)
    for block, rows in fit.hat_blocks(at, order):
        defined[block] = ~np.isnan(rows).any(axis=1)
        total += rows[defined[block]].sum(axis=0)
    mean = total[None] / defined.sum() if defined.any() else np.full((1, len(total)), np.nan)
    return _around(fit, mean @ fit.y, Noise(fit, errors).half_width(mean, level)), defined


def contrast(fit: LinearSmoother, at: Points, other: Points, level: float, errors: str) -> Interval[FloatArray]:
    """Intervals of the regression function at each query less that at the other; NaN where they say nothing."""
    check_level(level)
    fit = fit.raised()
    noise = Noise(fit, errors)
    estimate, half = _empty(fit, at), _empty(fit, at)
    for (block, rows), (_, others) in zip(fit.hat_blocks(at), fit.hat_blocks(other), strict=True):
        estimate[block], half[block] = (rows - others) @ fit.y, noise.half_width(rows - others, level)
    half[2.0 * half > WIDEST * np.ptp(fit.y, axis=0)] = np.nan
    return _around(fit, estimate, half)


def _empty(fit: LinearSmoother, at: Points) -> FloatArray:
    return np.empty((len(at.x), fit.y.shape[1]))


def _constant(fit: LinearSmoother) -> BoolArray:
    """Responses that are all the same, whose noise is unknown.  # (C,)"""
    return np.asarray(fit.y.min(axis=0) == fit.y.max(axis=0))


def _around(fit: LinearSmoother, estimate: FloatArray, half: FloatArray) -> Interval[FloatArray]:
    half = np.where(_constant(fit), np.nan, half)
    return Interval(estimate, estimate - half, estimate + half, REGRESSION_FUNCTION)


def _window(fit: LinearSmoother, rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The smallest and the largest response in each window, and n_eff.  # (m, C), (m, C), (m,)"""
    inside = in_window(rows)[:, :, None]
    low = np.where(inside, fit.y, np.inf).min(axis=1)
    return low, np.where(inside, fit.y, -np.inf).max(axis=1), 1.0 / (rows**2).sum(axis=1)
