"""Hat vectors by blocks of queries: mixed designs and high dimensions, where no moments are shared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.moments.solve import RANK
from kernadv.regressors._rule import Rule
from kernadv.regressors._sample import Points, Sample

#: Numbers in the largest array of a block, 32 MB.
BLOCK = 4_000_000


class HatRows(NamedTuple):
    """Hat vectors of a block of queries.

    Attributes
    ----------
    queries : slice
    hat : (b, n) float64
        NaN where undefined.
    centre : (b,) float64
        Weight of a point at the query itself, for an observation weight of 1.
    defined : (b,) bool
    """

    queries: slice
    hat: FloatArray
    centre: FloatArray
    defined: BoolArray


def monomials(dimensions: int, degree: int) -> IntArray:
    """Exponents of the monomials of total degree <= `degree`, the constant first.  # (E, d)"""
    rows = [np.zeros(dimensions, np.int64)]
    for total in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(dimensions), total):
            rows.append(np.bincount(chosen, minlength=dimensions))
    return np.array(rows, np.int64)


def hat_rows(rule: Rule, sample: Sample, at: Points, derivative: tuple[int, ...] | None = None) -> Iterator[HatRows]:
    """Hat vectors of all queries, block by block, by QR of each query's weighted design.

    Parameters
    ----------
    rule : Rule
    sample : Sample
    at : Points of m queries
    derivative : d orders, optional
        Orders of the derivative in the continuous columns; default: the value.
    """
    x = sample.points.x
    powers = monomials(x.shape[1], rule.how.degree)
    order = np.zeros(x.shape[1], np.int64) if derivative is None else np.array(derivative, np.int64)
    row = int(np.flatnonzero((powers == order).all(1))[0])
    size = max(1, BLOCK // (len(x) * max(len(powers), x.shape[1], 1)))
    for low in range(0, len(at.x), size):
        block = slice(low, min(low + size, len(at.x)))
        q = at.take(block)
        width = rule.bandwidth[block, None] if rule.bandwidth.ndim == 2 else rule.bandwidth
        u = (x[None] - q.x[:, None]) / width  # (b, n, d)
        weight = sample.weights * kernel_weights(rule, sample.points, q, u)
        design = np.ones((*u.shape[:2], len(powers)))
        for e, power in enumerate(powers):
            for i in np.flatnonzero(power):
                design[:, :, e] *= u[:, :, i] ** power[i]
        solution, defined = _inverse_row(np.sqrt(weight)[:, :, None] * design, row)
        unit = np.prod(width**order, axis=-1).reshape(-1, 1) / prod(factorial(i) for i in order.tolist())
        hat = weight * (design @ solution[:, :, None])[:, :, 0] / unit
        yield HatRows(block, hat, solution[:, 0] / unit[:, 0], defined)


def kernel_weights(rule: Rule, points: Points, at: Points, u: FloatArray) -> FloatArray:
    """Product of the kernels of all columns; 0 across series and, one-sided, after the query.  # (b, n)"""
    profile = rule.how.kernel.profile
    weight = profile(np.linalg.norm(u, axis=2)) if rule.how.radial else np.prod(profile(u), axis=2)
    for c, (category, smoothing) in enumerate(zip(rule.categories, rule.smoothing.tolist(), strict=True)):
        weight = weight * category.weight(np.abs(points.levels[:, c] - at.levels[:, c, None]), smoothing)
    if rule.how.past:
        weight = np.where(u[:, :, 0] <= 0.0, weight, 0.0)
    if points.series is not None and at.series is not None:
        weight = np.where(points.series == at.series[:, None], weight, 0.0)
    return np.asarray(weight)


def _inverse_row(design: FloatArray, row: int) -> tuple[FloatArray, BoolArray]:
    """Row of the inverse of ``D'D`` for each weighted design D, and whether D determines it.  # (b, E), (b,)"""
    scale = np.linalg.norm(design, axis=1)
    scale = np.where(scale > 0.0, scale, 1.0)
    factor: FloatArray = np.asarray(np.linalg.qr(design / scale[:, None], mode="r"))  # (b, E, E)
    diagonal = np.abs(np.diagonal(factor, axis1=1, axis2=2))
    defined = diagonal.min(axis=1) > RANK
    factor[~defined] = np.eye(factor.shape[1])
    unit = np.zeros((len(factor), factor.shape[1], 1))
    unit[:, row, 0] = 1.0 / scale[:, row]
    solution = np.linalg.solve(factor, np.linalg.solve(factor.transpose(0, 2, 1), unit))[:, :, 0] / scale
    solution[~defined] = np.nan
    return solution, np.asarray(defined)
