"""Local polynomial regression in any dimension: values, derivatives, leverages and variances from moments.

Degree 0 is the Nadaraya-Watson estimate, degree 1 the local linear one.  Only `hat_matrix` forms an array of size n x m.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, prod
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from kernadv._errors import ArgumentError, check_count
from kernadv.kernels import Kernel
from kernadv.regression.local._orthogonal import orthogonal_solution
from kernadv.regression.local.moments import exponents, local_moments
from kernadv.regression.local.solve import TINY, Solution, solve_local, squared_rows
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Windows with a smaller pivot are solved from their points: moments would lose a factor 1 / pivot^2 of precision.
STEEP = 0.03
#: Hat vectors formed at a time.
ROWS = 64
#: Sums of weights within this share count as equal.
EQUAL = 1e-12


@dataclass(frozen=True)
class LocalPolynomialSpec:
    """How to smooth: the settings without data and bandwidth.

    Attributes
    ----------
    kernel : Kernel
    degree : int
        Total degree of the local polynomial, 0 to 3.
    radial : bool
        ``K(|u|)`` instead of the product ``prod_i K(u_i)``.
    past : bool
        One-sided: only points at or before the query in the first dimension.

    Examples
    --------
    >>> from kernadv.kernels import get
    >>> from kernadv.regression import LocalPolynomialSpec
    >>> LocalPolynomialSpec(get("gaussian"), degree=1, past=True).degree
    1
    """

    kernel: Kernel
    degree: int = 0
    radial: bool = False
    past: bool = False


class LocalValues(NamedTuple):
    """Estimates at m queries.

    Attributes
    ----------
    value : (m, C) float64
        Estimate (or derivative) of each response; NaN where undefined.
    row : (m, E) float64
        The hat vector of query q is ``l_j = omega_j K(u_j) sum_a row_qa u_j^a``, u_j = (x_j - q) / bandwidth.
    pivot : (m,) float64
        About 1 / sqrt(condition number) of the local system; 0 where the window is empty.
    defined : (m,) bool
        False where the window is empty or its points do not determine the local polynomial.
    order : d int
        Order of the derivative in each dimension; all 0 for values.
    """

    value: FloatArray
    row: FloatArray
    pivot: FloatArray
    defined: BoolArray
    order: tuple[int, ...]

    @classmethod
    def undefined(cls, queries: int, responses: int, size: int, order: tuple[int, ...]) -> LocalValues:
        """Values of which none is defined yet, for polynomials of `size` coefficients."""
        value, row = np.full((queries, responses), np.nan), np.full((queries, size), np.nan)
        return cls(value, row, np.zeros(queries), np.zeros(queries, np.bool_), order)

    def take(self, queries: IntArray | slice) -> LocalValues:
        """The values at some of the queries."""
        value, row, pivot, defined, order = self
        return LocalValues(value[queries], row[queries], pivot[queries], defined[queries], order)

    def put(self, queries: IntArray | slice, values: LocalValues) -> None:
        """Enter the values at some of the queries."""
        for own, new in zip(self[:4], values[:4], strict=True):
            own[queries] = new


def derivative_order(spec: LocalPolynomialSpec, dimensions: int, derivative: tuple[int, ...] | None) -> tuple[int, ...]:
    """Orders of a derivative in each dimension; all 0 for None.

    Raises
    ------
    ArgumentError
        If there is not one whole number >= 0 for each dimension, or their total is beyond the degree.
    """
    order = (0,) * dimensions if derivative is None else derivative
    if isinstance(order, (tuple, list)) and len(order) == dimensions:
        whole = tuple(check_count(each, "derivative", 0) for each in order)
        if sum(whole) <= spec.degree:
            return whole
    raise ArgumentError(
        f"derivative must be one order a dimension ({dimensions}), of total order at most the degree {spec.degree}, got "
        f"{derivative!r}; e.g. {(1,) * min(spec.degree, 1) + (0,) * (dimensions - min(spec.degree, 1))}"
    )


def kernel_weights(spec: LocalPolynomialSpec, u: FloatArray) -> FloatArray:
    """``K(|u|)`` or ``prod_i K(u_i)`` of lags u (..., d) in bandwidths; one-sided, 0 after the query.  # (...)"""
    profile = spec.kernel.profile
    weight = profile(np.linalg.norm(u, axis=-1)) if spec.radial else np.prod(profile(u), axis=-1)
    return np.asarray(np.where(u[..., 0] <= 0.0, weight, 0.0) if spec.past else weight)


def smooth(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    derivative: tuple[int, ...] | None = None,
) -> LocalValues:
    """Estimate the regression function, or a derivative of it, at the queries.

    Parameters
    ----------
    spec : LocalPolynomialSpec
    x : (n, d)
        Design points.
    y : (n, C)
        Responses.
    weights : (n,)
        Observation weights omega >= 0.
    at : (m, d)
        Queries.
    bandwidth : (d,) or (m, 1)
        One per dimension or one per query: half-width of a compact kernel's support, scale of other kernels.  That of a
        query may be 0: the window is then the points at the query itself, with equal kernel weights.
    derivative : d int, optional
        Order in each dimension, of total at most the degree; default: the value.  With a bandwidth per query, if all points
        with weight lie at the query itself, the value is their mean, whatever the degree (every polynomial that fits them
        best has this value there), and derivatives are undefined.

    Raises
    ------
    ArgumentError
        If there is no such derivative.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 3.1.
    """
    powers = exponents(x.shape[1], spec.degree)
    order = derivative_order(spec, x.shape[1], derivative)
    row = powers.tolist().index(list(order))
    if bandwidth.ndim == 2 and not bandwidth.all():
        out = LocalValues.undefined(len(at), y.shape[1], len(powers), order)
        wide, narrow = np.flatnonzero(bandwidth[:, 0]), np.flatnonzero(bandwidth[:, 0] == 0.0)
        if len(wide):
            out.put(wide, smooth(spec, x, y, weights, at[wide], bandwidth[wide], order))
        if not any(order):
            _take_means(out, x, y, weights, at, narrow, np.zeros(len(narrow)))
        return out
    solved = _least_squares(spec, x, y, weights, at, bandwidth, row)
    unit = np.broadcast_to(_unit(bandwidth, order), len(at))[:, None]
    value = solved.coefficients[:, row] / unit
    out = LocalValues(value, solved.row / unit, solved.pivot, ~np.isnan(solved.row[:, 0]), order)
    if bandwidth.ndim == 2 and spec.degree and not any(order):
        narrow = np.flatnonzero(~out.defined)
        if len(narrow):
            total = local_moments(
                x, weights[None], at[narrow], bandwidth[narrow], spec.kernel, 0, radial=spec.radial, past=spec.past
            )
            _take_means(out, x, y, weights, at, narrow, total[:, 0, 0])
    return out


def _least_squares(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    row: int,
) -> Solution:
    """Solve from moments, or from the points of the window where moments lose their digits."""
    channels, order = np.concatenate([weights[None], weights * y.T]), 2 * spec.degree
    sums = local_moments(x, channels, at, bandwidth, spec.kernel, order, radial=spec.radial, past=spec.past)
    out = solve_local(sums, exponents(x.shape[1], spec.degree), exponents(x.shape[1], order), row)
    steep = np.flatnonzero((out.pivot < STEEP) & (sums[:, 0, 0] > TINY))
    if len(steep):
        asked = np.column_stack([at, bandwidth])[steep] if bandwidth.ndim == 2 else at[steep]
        _, first, which = np.unique(asked, axis=0, return_index=True, return_inverse=True)
        own, channels = steep[first], np.concatenate([weights[None], y.T])
        better, _ = orthogonal_solution(spec, x, channels, at[own], _bandwidth_of(bandwidth, own), row)
        for old, new in zip(out, better, strict=True):
            old[steep] = new[which.ravel()]
    return out


def _bandwidth_of(bandwidth: FloatArray, queries: IntArray) -> FloatArray:
    """The bandwidth of some queries: their own, or that of all."""
    return bandwidth[queries] if bandwidth.ndim == 2 else bandwidth


def _take_means(
    out: LocalValues,
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    queries: IntArray,
    total: FloatArray,
) -> None:
    """Enter the means of the points at these queries where their windows, of weight `total`, contain no others."""
    sums = sums_at(x, np.concatenate([weights[None], weights * y.T]), at[queries])
    alone = (sums[:, 0] > 0.0) & (total <= sums[:, 0] * (1.0 + EQUAL))
    mine, own = queries[alone], sums[alone]
    out.value[mine], out.row[mine] = own[:, 1:] / own[:, :1], 0.0
    out.row[mine, 0], out.pivot[mine], out.defined[mine] = 1.0 / own[:, 0], 1.0, True


def sums_at(x: FloatArray, channels: FloatArray, at: FloatArray) -> FloatArray:
    """Sums of the channels (C, n) over the points at each query.  # (m, C)"""
    both = np.concatenate([at, x]) + 0.0  # -0 is 0
    if x.shape[1] == 1:
        place = np.unique(both[:, 0], return_inverse=True)[1]
    else:
        place = np.unique(both, axis=0, return_inverse=True)[1].ravel()
    sums = np.stack([np.bincount(place[len(at) :], channel, len(both)) for channel in channels], axis=1)
    return np.asarray(sums[place[: len(at)]])


def _unit(bandwidth: FloatArray, order: tuple[int, ...]) -> FloatArray:
    """A coefficient in units of the bandwidth divided by this is a derivative.  # () or (m,)"""
    return np.asarray(np.prod(bandwidth ** np.array(order), axis=-1) / prod(factorial(i) for i in order))


def leverage(values: LocalValues, weights: FloatArray) -> FloatArray:
    """Own weight ``l_i(x_i)`` of each point, from values at the design points: there K(0) = 1 and u = 0.  # (n,)"""
    return np.asarray(weights * values.row[:, 0])


def squared_norm(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    values: LocalValues,
    variance: FloatArray | None = None,
) -> FloatArray:
    """``sum_j l_j(q)^2 variance_j`` at the queries: the variance of the estimate.  # (m,)

    Parameters
    ----------
    spec, x, weights, at, bandwidth
        As in `smooth`, which gave `values`.
    variance : (n,), optional
        Variance of each response; the default 1 gives the squared norm of the hat vector, 1 / n_eff.
    """
    powers, all_powers = exponents(x.shape[1], spec.degree), exponents(x.shape[1], 2 * spec.degree)
    channel = weights**2 if variance is None else weights**2 * variance
    if bandwidth.ndim == 2 and not bandwidth.all():
        total = values.row[:, 0] ** 2 * sums_at(x, channel[None], at)[:, 0]  # where the bandwidth is 0
        wide = np.flatnonzero(bandwidth[:, 0])
        if len(wide):
            total[wide] = squared_norm(spec, x, weights, at[wide], bandwidth[wide], values.take(wide), variance)
        return total
    sums = local_moments(
        x, channel[None], at, bandwidth, spec.kernel, 2 * spec.degree, radial=spec.radial, past=spec.past, squared=True
    )[:, 0]
    total = squared_rows(values.row, sums, powers, all_powers)
    steep = np.flatnonzero(values.defined & (values.pivot < STEEP))
    if len(steep):
        row, width = powers.tolist().index(list(values.order)), _bandwidth_of(bandwidth, steep)
        channels = np.stack([weights, np.ones(len(x)) if variance is None else variance])
        _, squares = orthogonal_solution(spec, x, channels, at[steep], width, row, squares=True)
        total[steep] = squares / _unit(width, values.order) ** 2
    return total


def hat_matrix(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    values: LocalValues,
) -> FloatArray:
    """Hat matrix: ``value = S y``.  # (m, n)"""
    powers = exponents(x.shape[1], spec.degree)
    width = np.where(bandwidth > 0.0, bandwidth, 1.0)
    u = (x[None] - at[:, None]) / (width[:, None] if width.ndim == 2 else width)  # (m, n, d)
    weight = kernel_weights(spec, u)
    if bandwidth.ndim == 2 and not bandwidth.all():
        narrow = np.flatnonzero(bandwidth[:, 0] == 0.0)
        weight[narrow] = ~u[narrow].any(axis=2)
    polynomial = np.zeros(u.shape[:2])
    for a, power in enumerate(powers):
        polynomial += values.row[:, a, None] * np.prod(u**power, axis=2)
    hat: FloatArray = weights * weight * polynomial
    row = powers.tolist().index(list(values.order))
    unit = np.broadcast_to(_unit(width, values.order), len(at))
    for q in np.flatnonzero(values.defined & (values.pivot < STEEP)):
        hat[q] = _orthogonal_row(weights * weight[q], np.prod(u[q][:, None] ** powers, axis=2), row) / unit[q]
    return hat


def _orthogonal_row(weight: FloatArray, monomials: FloatArray, row: int) -> FloatArray:
    """Hat vector of a coefficient by QR, where sums of polynomials would cancel.  # (n,)"""
    root = np.sqrt(weight)
    design = root[:, None] * monomials
    scale = np.linalg.norm(design, axis=0)
    q, r = np.linalg.qr(design / scale)
    unit = np.zeros(len(scale))
    unit[row] = 1.0 / scale[row]
    return np.asarray(root * (q @ solve_triangular(r, unit, trans="T")))
