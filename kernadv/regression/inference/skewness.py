"""Limits that allow for skewed responses: Hall's transformation of a studentised estimate."""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv.regression.inference.degrees_of_freedom import others
from kernadv.regression.local._pairs import Pairs, over_windows
from kernadv.regression.local.moments import exponents, in_units
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray, IntArray

#: Less skewness than this changes nothing; a stronger one counts as this.
FAINT, STRONGEST = 1e-6, 2.0


def residual_skewness(fit: LinearSmoother, at: Points | None = None) -> FloatArray:
    """Skewness of the noise, the same for all responses of a series: that of the residuals in units of their deviations.

    Parameters
    ----------
    fit : LinearSmoother
    at : Points, optional
        Queries of a fit with series, each with the skewness of its own.

    Returns
    -------
    (C,); of a fit with series (m, C)
    """
    own = fit.estimate(fit.points)
    scale = np.sqrt(fit.weights / others(own.centre * fit.weights))[:, None]
    noise = (fit.y - own.value) * scale
    known = ~np.isnan(noise).any(axis=1)
    if at is None or at.series is None or fit.points.series is None:
        return _skewness(noise[known])
    out = np.zeros((len(at.x), noise.shape[1]))
    for series in np.unique(at.series):
        out[at.series == series] = _skewness(noise[known & (fit.points.series == series)])
    return out


def _skewness(noise: FloatArray) -> FloatArray:
    """Third moment of each column about 0, in units of the second; 0 where there is none.  # (C,)"""
    if not len(noise):
        return np.zeros(noise.shape[1])
    largest = np.abs(noise).max(axis=0)
    noise = noise / np.where(largest > 0.0, largest, 1.0)
    square, cube = (noise**2).mean(axis=0), (noise**3).mean(axis=0)
    return np.asarray(np.where(square > 0.0, cube / np.where(square > 0.0, square, 1.0) ** 1.5, 0.0))


def estimate_skewness(fit: LinearSmoother, at: FloatArray) -> FloatArray:
    """Skewness of the estimates of a curve, if responses have skewness 1 and variances inverse to their weights.  # (m,)

    Parameters
    ----------
    fit : LinearSmoother
    at : (m, d)
    """
    order, spec, out = np.argsort(fit.x[:, 0], kind="stable"), fit.spec, np.full(len(at), np.nan)
    rows, powers = fit.responses(np.zeros(fit.y.shape[1], np.bool_)).smooth(at).row, exponents(at.shape[1], spec.degree)
    z, q, _ = in_units(fit.x[order], at, fit.bandwidth)

    def part(own: slice, pairs: Pairs, channels: FloatArray) -> None:
        _skewness_of(*pairs, channels[0], rows[own], powers, out[own])

    over_windows(part, z, fit.weights[None, order], q, spec.kernel, None, spec.radial, spec.past)
    return out


@compiled()
def _skewness_of(
    weight: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    precision: FloatArray,
    rows: FloatArray,
    powers: IntArray,
    out: FloatArray,
) -> None:
    start = 0
    for m in range(begin, upto):
        square = cube = 0.0
        for p in range(start, ends[m]):
            polynomial = 0.0
            for a in range(len(powers)):
                term = rows[m, a]
                for i in range(powers.shape[1]):
                    term *= u[i, p] ** powers[a, i]
                polynomial += term
            noise = weight[p] * np.sqrt(precision[point[p]]) * polynomial  # a response of weight 1
            square += noise * noise
            cube += noise * noise * noise
        start = ends[m]
        if square > 0.0:
            out[m] = cube / square**1.5


def half_widths(error: FloatArray, quantile: FloatArray, skewness: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far the limits lie below and above an estimate of a standard error and a skewness.

    ``T + s T^2 / 3 + s^2 T^3 / 27 + s / 6`` of the studentised estimate T is nearly symmetric: the limits are where it is
    minus or plus the quantile.

    References
    ----------
    Hall (1992), On the removal of skewness by transformation, JRSS B 54.
    """
    s = np.clip(skewness, -STRONGEST, STRONGEST)
    faint = np.abs(s) < FAINT
    s = np.where(faint, FAINT, s)
    below, above = (3.0 / s * (np.cbrt(1.0 + s * (y - s / 6.0)) - 1.0) for y in (quantile, -quantile))
    return error * np.where(faint, quantile, below), error * np.where(faint, quantile, -above)
