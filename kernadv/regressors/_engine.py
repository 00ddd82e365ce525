"""Estimates at queries, whatever the design: by moments where these are cheap, by hat vectors elsewhere."""

from __future__ import annotations

from dataclasses import replace
from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.moments.least_squares import STEEP
from kernadv.moments.local import exponents
from kernadv.moments.solve import RANK
from kernadv.regressors._dense import hat_rows
from kernadv.regressors._inverse import is_inverse
from kernadv.regressors._levels import LevelMoments, few_levels
from kernadv.regressors._rule import Rule, coefficients
from kernadv.regressors._sample import Points, Sample
from kernadv.regressors._series import has_past, lay_out
from kernadv.smoothers.local_polynomial import hat_matrix, smooth, squared_norm

#: Designs with more moments a query than this are smoothed by hat vectors.
MOMENTS = 200
#: Largest grid of exponents that is searched for them.
GRID = 200_000


class Local(NamedTuple):
    """Estimates at m queries.

    Attributes
    ----------
    value : (m, C) float64
        NaN where undefined.
    centre : (m,) float64
        Weight of a point at the query itself, for an observation weight of 1: times its own weight, its leverage.
    square : (m,) float64, or None
        ``sum_j l_j^2 / omega_j``: variance of the estimate where the responses have the variances 1 / omega.
    defined : (m,) bool
    """

    value: FloatArray
    centre: FloatArray
    square: FloatArray | None
    defined: BoolArray


def estimate(
    rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None = None, *, square: bool = False
) -> Local:
    """Estimate the regression function, or a derivative of it, at the queries.

    Parameters
    ----------
    rule : Rule
    sample : Sample
    at : Points of m queries
    derivative : d orders, optional
    square : bool
        Whether the squared norms are wanted.
    """
    rows = needs_rows(rule, sample.points.x.shape[1])
    mixed = rows and not needs_rows(replace(rule, categories=[]), max(sample.points.x.shape[1], 1))
    local = _by_levels if mixed and few_levels(rule, sample, at) else _by_rows if rows else _by_moments
    value, centre, norm, defined = local(rule, sample, at, derivative, square)
    defined = defined & at.known
    if rule.how.past:
        defined &= has_past(sample.points, at)
    value[~defined], centre[~defined] = np.nan, np.nan
    return Local(value, centre, np.where(defined, norm, np.nan) if norm is not None else None, defined)


def needs_rows(rule: Rule, dimensions: int) -> bool:
    """Whether hat vectors are the way: categorical columns, a deficient design, other distances, or too many moments."""
    order = 2 * rule.how.degree
    many = coefficients(dimensions, order) > MOMENTS or (order + 1) ** dimensions > GRID
    return bool(rule.categories) or rule.deficient or many or rule.metric != "euclidean" or is_inverse(rule.how.kernel)


def _by_moments(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Local:
    x, q = _laid_out(rule, sample, at)
    values = smooth(rule.how, x, sample.y, sample.weights, q, rule.bandwidth, derivative)
    norm = None
    if square:
        norm = squared_norm(rule.how, x, sample.weights, q, rule.bandwidth, values, 1.0 / sample.weights)
    return Local(values.value, values.row[:, 0].copy(), norm, values.defined)


def _by_levels(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Local:
    """Mixed designs; queries whose windows hardly determine the polynomial are left to the hat vectors."""
    h, dimensions = rule.bandwidth, sample.points.x.shape[1]
    order = [0] * max(dimensions, 1) if derivative is None else list(derivative)
    row = exponents(len(order), rule.how.degree).tolist().index(order)
    moments = LevelMoments(rule, sample, at)
    solved = moments.solve(h, rule.smoothing, row)
    unit = float(np.prod(h ** np.array(order[:dimensions]))) / prod(factorial(i) for i in order)
    value, rows = solved.coefficients[:, row] / unit, solved.row / unit
    norm = moments.squared_norm(h, rule.smoothing, rows) if square else np.empty(len(at.x))
    centre, defined = rows[:, 0].copy(), solved.pivot > RANK
    steep = np.flatnonzero(solved.pivot < STEEP)
    exact = _by_rows(rule, sample, at.take(steep), derivative, True)
    value[steep], centre[steep], norm[steep], defined[steep] = exact.value, exact.centre, exact.square, exact.defined
    return Local(value, centre, norm if square else None, defined)


def _by_rows(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Local:
    m = len(at.x)
    value, centre, norm = np.empty((m, sample.y.shape[1])), np.empty(m), np.empty(m)
    defined = np.empty(m, np.bool_)
    for queries, hat, own, sure in hat_rows(rule, sample, at, derivative):
        value[queries], centre[queries], defined[queries] = hat @ sample.y, own, sure
        norm[queries] = (hat * hat) @ (1.0 / sample.weights)
    return Local(value, centre, norm if square else None, defined)


def hat(rule: Rule, sample: Sample, at: Points) -> FloatArray:
    """Hat matrix, NaN in the rows without an estimate.  # (m, n)"""
    if needs_rows(rule, sample.points.x.shape[1]):
        rows = np.concatenate([block.hat for block in hat_rows(rule, sample, at)])
    else:
        x, q = _laid_out(rule, sample, at)
        values = smooth(rule.how, x, sample.y, sample.weights, q, rule.bandwidth)
        rows = hat_matrix(rule.how, x, sample.weights, q, rule.bandwidth, values)
    undefined = ~at.known if not rule.how.past else ~(at.known & has_past(sample.points, at))
    rows[undefined] = np.nan
    return rows


def _laid_out(rule: Rule, sample: Sample, at: Points) -> tuple[FloatArray, FloatArray]:
    width = rule.bandwidth.max() if rule.bandwidth.ndim == 2 else rule.bandwidth[0]
    return lay_out(sample.points, at, rule.how.kernel, float(width))
