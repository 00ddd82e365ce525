"""Estimates at queries, whatever the design: by moments where these are cheap, by hat vectors elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.regression.hat_rows import hat_rows
from kernadv.regression.inverse_distance import is_inverse
from kernadv.regression.level_moments import LevelMoments, few_levels
from kernadv.regression._rule import Rule, coefficients
from kernadv.regression._sample import Points, Sample
from kernadv.regression.local.least_squares import STEEP
from kernadv.regression.local.moments import exponents
from kernadv.regression.local.polynomial import hat_matrix, smooth, squared_norm
from kernadv.regression.local.solve import RANK
from kernadv.regression.series import Part, apart

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


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
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
    if rule.spec.past:
        defined &= has_past(sample.points, at)
    value[~defined], centre[~defined] = np.nan, np.nan
    return Local(value, centre, np.where(defined, norm, np.nan) if norm is not None else None, defined)


def needs_rows(rule: Rule, dimensions: int) -> bool:
    """Whether hat vectors are the way: categorical columns, a deficient design, other distances, or too many moments."""
    order = 2 * rule.spec.degree
    many = coefficients(dimensions, order) > MOMENTS or (order + 1) ** dimensions > GRID
    return bool(rule.categories) or rule.deficient or many or rule.metric != "euclidean" or is_inverse(rule.spec.kernel)


def _by_moments(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Local:
    m = len(at.x)
    value, centre, norm = np.full((m, sample.y.shape[1]), np.nan), np.full(m, np.nan), np.full(m, np.nan)
    defined = np.zeros(m, np.bool_)
    for points, queries, x, q, h in _parts(rule, sample, at):
        weights = sample.weights[points]
        values = smooth(rule.spec, x, sample.y[points], weights, q, h, derivative)
        value[queries], centre[queries], defined[queries] = values.value, values.row[:, 0], values.defined
        if square:
            norm[queries] = squared_norm(rule.spec, x, weights, q, h, values, 1.0 / weights)
    return Local(value, centre, norm if square else None, defined)


def _by_levels(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None, square: bool) -> Local:
    """Mixed designs; queries whose windows hardly determine the polynomial are left to the hat vectors."""
    h, dimensions = rule.bandwidth, sample.points.x.shape[1]
    order = [0] * max(dimensions, 1) if derivative is None else list(derivative)
    row = exponents(len(order), rule.spec.degree).tolist().index(order)
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


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def hat(rule: Rule, sample: Sample, at: Points) -> FloatArray:
    """Hat matrix, NaN in the rows without an estimate.  # (m, n)"""
    if needs_rows(rule, sample.points.x.shape[1]):
        rows = np.concatenate([block.hat for block in hat_rows(rule, sample, at)])
    elif sample.points.series is None:
        rows = _hat_of(rule, sample, next(_parts(rule, sample, at)))
    else:
        rows, defined = np.zeros((len(at.x), len(sample.y))), np.zeros(len(at.x), np.bool_)
        for part in _parts(rule, sample, at):
            own = _hat_of(rule, sample, part)
            rows[part.block], defined[part.queries] = own, ~np.isnan(own[:, 0])
        rows[~defined] = np.nan
    undefined = ~at.known if not rule.spec.past else ~(at.known & has_past(sample.points, at))
    rows[undefined] = np.nan
    return rows


def _hat_of(rule: Rule, sample: Sample, part: Part) -> FloatArray:
    """Hat matrix of a part."""
    weights = sample.weights[part.points]
    values = smooth(rule.spec, part.x, sample.y[part.points], weights, part.at, part.bandwidth)
    return hat_matrix(rule.spec, part.x, weights, part.at, part.bandwidth, values)


def has_past(points: Points, at: Points) -> BoolArray:
    """Whether a point of the query's series lies at or before it in the first dimension.  # (m,)"""
    code = np.zeros(len(points.x), np.int64) if points.series is None else points.series
    asked = np.zeros(len(at.x), np.int64) if at.series is None else np.maximum(at.series, 0)
    first = np.full(max(int(code.max()), int(asked.max())) + 1, np.inf)
    np.minimum.at(first, code, points.x[:, 0])
    return np.asarray(first[asked] <= at.x[:, 0])


def _parts(rule: Rule, sample: Sample, at: Points) -> Iterator[Part]:
    points = sample.points
    return apart(points.x, points.series, at.x, at.series, rule.spec.kernel, rule.bandwidth)
