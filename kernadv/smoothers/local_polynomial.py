"""Local polynomial regression in any dimension: values, derivatives, leverages and variances from moments.

Degree 0 is the Nadaraya-Watson estimate, degree 1 the local linear one.  Nothing of size n x m is ever formed, except by
`hat_matrix`, which is asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, prod
from typing import NamedTuple

import numpy as np

from kernadv._typing import BoolArray, FloatArray, IntArray
from kernadv.kernels import Kernel
from kernadv.moments.local import exponents, local_moments
from kernadv.moments.solve import solve_local

#: Queries with a smaller pivot get their squared norm from the hat vector itself: its moments would cancel.
STEEP = 0.02
#: Hat vectors formed at once.
ROWS = 64


@dataclass(frozen=True)
class LocalPolynomialFit:
    """How to smooth: everything but the data.

    Attributes
    ----------
    kernel : Kernel
    degree : int
        Total degree of the local polynomial, 0 to 3.
    radial : bool
        ``K(|u|)`` instead of the product ``prod_i K(u_i)``.
    past : bool
        One-sided: only points at or before the query in the first dimension.
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
        False where the window is empty, or its points do not determine the local polynomial.
    """

    value: FloatArray
    row: FloatArray
    pivot: FloatArray
    defined: BoolArray

    def take(self, queries: IntArray) -> LocalValues:
        """The values at some of the queries."""
        return LocalValues(self.value[queries], self.row[queries], self.pivot[queries], self.defined[queries])


def smooth(
    how: LocalPolynomialFit,
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
    how : LocalPolynomialFit
    x : (n, d)
        Design points.
    y : (n, C)
        Responses.
    weights : (n,)
        Observation weights omega >= 0.
    at : (m, d)
        Queries.
    bandwidth : (d,) or (m, 1)
        One a dimension, or one a query: half-width of a compact kernel's support, scale of the others.
    derivative : d orders, optional
        Orders of the derivative in each dimension, of total at most the degree; default: the value.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 3.1.
    """
    powers, all_powers = exponents(x.shape[1], how.degree), exponents(x.shape[1], 2 * how.degree)
    order = tuple([0] * x.shape[1]) if derivative is None else tuple(derivative)
    row = powers.tolist().index(list(order))
    channels = np.concatenate([weights[None], weights * y.T])
    sums = local_moments(x, channels, at, bandwidth, how.kernel, 2 * how.degree, radial=how.radial, past=how.past)
    solved = solve_local(sums, powers, all_powers, row)
    unit = np.prod(bandwidth ** np.array(order), axis=-1) / prod(factorial(i) for i in order)
    unit = np.broadcast_to(unit, len(at))[:, None]
    value = solved.coefficients[:, row] / unit
    return LocalValues(value, solved.row / unit, solved.pivot, ~np.isnan(solved.row[:, 0]))


def leverage(values: LocalValues, weights: FloatArray) -> FloatArray:
    """Own weight ``l_i(x_i)`` of each point, from values at the design points themselves: K(0) = 1 and u = 0.  # (n,)"""
    return np.asarray(weights * values.row[:, 0])


def squared_norm(
    how: LocalPolynomialFit,
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
    how, x, weights, at, bandwidth
        As in `smooth`, which gave `values`.
    variance : (n,), optional
        Variance of each response; default 1, which gives the squared norm of the hat vector, 1 / n_eff.
    """
    powers, all_powers = exponents(x.shape[1], how.degree), exponents(x.shape[1], 2 * how.degree)
    channel = weights**2 if variance is None else weights**2 * variance
    sums = local_moments(
        x, channel[None], at, bandwidth, how.kernel, 2 * how.degree, radial=how.radial, past=how.past, squared=True
    )[:, 0]
    index = {tuple(a): k for k, a in enumerate(all_powers.tolist())}
    total = np.zeros(len(at))
    for a, left in enumerate(powers.tolist()):
        for b, right in enumerate(powers.tolist()):
            total += values.row[:, a] * values.row[:, b] * sums[:, index[tuple(np.add(left, right))]]
    steep = np.flatnonzero(values.defined & (values.pivot < STEEP))
    for low in range(0, len(steep), ROWS):
        part = steep[low : low + ROWS]
        width = bandwidth[part] if bandwidth.ndim == 2 else bandwidth
        hat = hat_matrix(how, x, weights, at[part], width, values.take(part))
        total[part] = (hat * hat) @ (np.ones(len(x)) if variance is None else variance)
    return total


def hat_matrix(
    how: LocalPolynomialFit,
    x: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    values: LocalValues,
) -> FloatArray:
    """Hat matrix: ``value = S y``.  # (m, n)"""
    powers = exponents(x.shape[1], how.degree)
    u = (x[None] - at[:, None]) / (bandwidth[:, None] if bandwidth.ndim == 2 else bandwidth)  # (m, n, d)
    profile = how.kernel.profile
    weight = profile(np.linalg.norm(u, axis=2)) if how.radial else np.prod(profile(u), axis=2)
    if how.past:
        weight = np.where(u[:, :, 0] <= 0.0, weight, 0.0)
    polynomial = np.zeros(u.shape[:2])
    for a, power in enumerate(powers):
        polynomial += values.row[:, a, None] * np.prod(u**power, axis=2)
    return np.asarray(weights * weight * polynomial)
