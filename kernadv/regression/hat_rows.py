"""Rows of the hat matrix, block by block of queries: for mixed designs and high dimensions, without moments."""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from kernadv._errors import ArgumentError
from kernadv.regression._threads import blocks
from kernadv.regression.local.monomials import monomials, values
from kernadv.regression.local.polynomial import kernel_weights
from kernadv.regression.local.solve import RANK
from kernadv.regression.neighbours import distances
from kernadv.regression.series import Points
from kernadv.typing import BoolArray, FloatArray

if TYPE_CHECKING:
    from kernadv.regression.smoother import LinearSmoother


#: Ratio of the eigenvalues of the design's cross products below which it counts as collinear.
COLLINEAR = 1e-12
#: A coefficient is estimable if its unit vector is this close to the span of the design's rows.
SPAN = 1e-6
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
        Weight of a point at the query itself with observation weight 1; only for values, not for derivatives.
    defined : (b,) bool
    """

    queries: slice
    hat: FloatArray
    centre: FloatArray
    defined: BoolArray


def hat_rows(smoother: LinearSmoother, at: Points, derivative: tuple[int, ...] | None = None) -> Iterator[HatRows]:
    """Hat vectors of all queries, block by block, from a QR of each query's weighted design.

    Parameters
    ----------
    smoother : LinearSmoother
    at : Points of m queries
    derivative : d orders, optional
        Order in each continuous column; default: the value.  A first derivative at degree 0 is that of the estimate.

    Raises
    ------
    ArgumentError
        If an estimate of degree 0 has no derivative: it jumps, or the bandwidth changes with the query.
    """
    if smoother.spec.degree == 0 and derivative is not None and sum(derivative) == 1:
        yield from _slope_rows(smoother, at, derivative.index(1))
        return
    x = smoother.x
    basis = monomials(x.shape[1], smoother.spec.degree)
    order = np.zeros(x.shape[1], np.int64) if derivative is None else np.array(derivative, np.int64)
    row = int(np.flatnonzero((basis.exponents == order).all(1))[0])
    for block in blocks(len(at.x), BLOCK // (len(x) * max(len(basis.exponents), x.shape[1]))):
        q = at.take(block)
        width = smoother.bandwidth if q.bandwidth is None else _positive(q.bandwidth[:, None])
        u = (x[None] - q.x[:, None]) / width  # (b, n, d)
        root = np.sqrt(smoother.weights * _pair_weights(smoother, q, u))
        solve = _estimable_half_row if smoother.deficient else _half_row
        half, defined = solve(root[:, :, None] * values(u, basis), row)
        if q.bandwidth is not None and row == 0:
            _take_means(half, defined, root, u)
        unit = np.prod(width**order, axis=-1).reshape(-1, 1) / prod(factorial(i) for i in order.tolist())
        yield HatRows(block, root * half / unit, (half**2).sum(1), defined)


def _slope_rows(smoother: LinearSmoother, at: Points, axis: int) -> Iterator[HatRows]:
    """Hat vectors of the derivative of the Nadaraya-Watson estimate in the coordinate `axis`.

    The derivative is ``sum_j (dw_j / dx) (y_j - mhat(x)) / sum_j w_j``.

    Raises
    ------
    ArgumentError
        If the estimate has jumps: one-sided windows, uniform kernels; or the bandwidth changes with the query.

    References
    ----------
    Vinod and Ullah (1988), Flexible production function estimation by nonparametric kernel estimators, Advances in
    Econometrics 7.
    """
    spec = smoother.spec
    if spec.past or at.bandwidth is not None:
        reason = "one-sided windows jump" if spec.past else "its bandwidth changes with the query"
        raise ArgumentError(f"the estimate of degree 0 has no derivative here: {reason}; use degree >= 1")
    x, h, kernel = smoother.x, smoother.bandwidth, spec.kernel
    for block in blocks(len(at.x), BLOCK // x.size):
        q = at.take(block)
        u = (x - q.x[:, None]) / h  # (b, n, d)
        others = smoother.weights * _other_weights(smoother, q)
        weight = others * kernel_weights(spec, u)
        if spec.radial:
            distance = np.linalg.norm(u, axis=2)
            change = kernel.slope(distance) * u[:, :, axis] / np.where(distance > 0.0, distance, 1.0)
        else:
            change = kernel.slope(u[:, :, axis]) * np.prod(kernel.profile(np.delete(u, axis, axis=2)), axis=2)
        change = -others * change / h[axis]
        total = weight.sum(1, keepdims=True)
        defined = total[:, 0] > 0.0
        total[~defined] = np.nan
        hat = (change - weight * (change.sum(1, keepdims=True) / total)) / total
        yield HatRows(block, hat, np.full(len(hat), np.nan), defined)


def determines(x: FloatArray, degree: int) -> bool:
    """Whether the design points x (n, d) determine a polynomial of that degree.

    They do not if columns are linear combinations of others, or if there are more coefficients than points.
    """
    basis = monomials(x.shape[1], degree)
    size = len(basis.exponents)
    if size > len(x):
        return False
    half = np.ptp(x, axis=0) / 2.0
    u = (x - x.min(0)) / np.where(half > 0.0, half, 1.0) - 1.0
    gram = np.zeros((size, size))
    for rows in blocks(len(u), BLOCK // size):
        design = values(u[rows], basis)
        gram += design.T @ design
    eigenvalues = np.linalg.eigvalsh(gram)
    return bool(eigenvalues[0] > COLLINEAR * eigenvalues[-1])


def _pair_weights(smoother: LinearSmoother, at: Points, u: FloatArray) -> FloatArray:
    """Product of the kernels of all columns, at lags u (b, n, d) in bandwidths; 0 across series.  # (b, n)"""
    width = np.ones((1, 1)) if at.bandwidth is None else at.bandwidth
    spec, metric = smoother.spec, smoother.metric
    if metric == "euclidean":
        near = kernel_weights(spec, u)
        there = ~u.any(axis=2)
    else:
        distance = distances(at.x, smoother.x, metric) / _positive(width)
        near, there = spec.kernel.profile(distance), distance == 0.0
    near = np.where(width > 0.0, near, there)
    hit = np.isinf(near)  # 1 / 0: these points take all the weight
    near = np.where(hit.any(axis=1, keepdims=True), hit, near)
    return np.asarray(_other_weights(smoother, at) * near)


def _positive(width: FloatArray) -> FloatArray:
    """Widths to divide by: 1 for windows of width 0."""
    return np.where(width > 0.0, width, 1.0)


def _take_means(half: FloatArray, defined: BoolArray, root: FloatArray, u: FloatArray) -> None:
    """Where all points with weight lie at the query, the value is their mean, for any polynomial; in place."""
    for b in np.flatnonzero(~defined):
        used = root[b] > 0.0
        if used.any() and not u[b, used].any():
            half[b], defined[b] = root[b] / (root[b] ** 2).sum(), True


def _other_weights(smoother: LinearSmoother, at: Points) -> FloatArray:
    """Kernels of the categorical columns; 0 across series.  # (b, n)"""
    weight = np.ones((len(at.x), len(smoother.x)))
    for c, (category, smoothing) in enumerate(zip(smoother.categories, smoother.smoothing.tolist(), strict=True)):
        weight = weight * category.weight(np.abs(smoother.levels[:, c] - at.levels[:, c, None]), smoothing)
    if smoother.series is not None and at.series is not None:
        weight = np.where(smoother.series == at.series[:, None], weight, 0.0)
    return np.asarray(weight)


def _half_row(design: FloatArray, row: int) -> tuple[FloatArray, BoolArray]:
    """``D (D'D)^-1 e_row`` of each weighted design D, and whether D determines its coefficients.  # (b, n), (b,)"""
    if design.shape[1] < design.shape[2]:
        return np.full(design.shape[:2], np.nan), np.zeros(len(design), np.bool_)
    scale = _lengths(design)
    q, r = np.linalg.qr(design / scale[:, None])
    defined = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(axis=1) > RANK
    r[~defined] = np.eye(r.shape[1])
    unit = np.zeros((len(r), r.shape[1], 1))
    unit[:, row, 0] = 1.0 / scale[:, row]
    half = (q @ np.linalg.solve(r.transpose(0, 2, 1), unit))[:, :, 0]
    half[~defined] = np.nan
    return half, np.asarray(defined)


def _estimable_half_row(design: FloatArray, row: int) -> tuple[FloatArray, BoolArray]:
    """The same by the pseudoinverse, for designs without full rank, and whether D determines this coefficient.

    Many polynomials then fit equally well.  If all of them agree in the coefficient, its unit vector lies in the span of
    D's rows and the pseudoinverse gives the common value; otherwise it is not estimable.

    References
    ----------
    Searle (1971), Linear Models, section 5.4.
    """
    scale = _lengths(design)
    half, inside = np.zeros(design.shape[:2]), np.zeros(len(design))
    for b, each in enumerate(design):
        used = np.flatnonzero(each.any(axis=1))
        if len(used):
            half[b, used], inside[b] = _pseudo_row(each[used] / scale[b], row)
    defined = inside > 1.0 - SPAN**2
    half[~defined] = np.nan
    return half / scale[:, row, None], np.asarray(defined)


def _pseudo_row(design: FloatArray, row: int) -> tuple[FloatArray, float]:
    """``D (D'D)^+ e_row`` of one D without rows of zeros, and the squared length of e_row's projection onto its rows."""
    if len(design) < design.shape[1]:  # independent rows interpolate: a QR is enough
        length = np.linalg.norm(design, axis=1)
        q, r = np.linalg.qr((design / length[:, None]).T)
        if np.abs(np.diagonal(r)).min() > RANK:
            return solve_triangular(r, q[row]) / length, float(q[row] @ q[row])
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    kept = singular > RANK * singular[0]
    unit = right[:, row] * kept
    return left @ (unit / np.where(kept, singular, 1.0)), float(unit @ unit)


def _lengths(design: FloatArray) -> FloatArray:
    """Norms of the columns, 1 for columns of zeros.  # (b, E)"""
    length = np.linalg.norm(design, axis=1)
    return np.asarray(np.where(length > 0.0, length, 1.0))
