"""Weighted moments around any queries, by the fastest exact path for the kernel, the dimension and the bandwidth.

| case | path |
|---|---|
| a line, one bandwidth, polynomial kernels (uniform ... tricube) | `_line_power`, O(n + m) |
| a line, one bandwidth, exponential | `_line_exponential`, O(n + m) |
| a line, one bandwidth, Gaussian | `_line_gaussian`, O(n + m), to 1e-14 of the largest weight per point |
| a line, one bandwidth per query, polynomial kernels; windows that lost digits | `_line_direct`, O(points in the windows) |
| kernels with an edge otherwise: several dimensions, other kernels | `_pairs`, O(points near the windows) |
| kernels without an edge otherwise | `_blocked`, O(n m) |
"""

from __future__ import annotations

import numpy as np

from kernadv.kernels import Exponential, Gaussian, Kernel, Power
from kernadv.regression.local._blocked import blocked_moments
from kernadv.regression.local._line_direct import direct_moments
from kernadv.regression.local._line_exponential import exponential_moments
from kernadv.regression.local._line_gaussian import gaussian_moments
from kernadv.regression.local._line_power import power_moments
from kernadv.regression.local._pairs import window_moments
from kernadv.regression.local.monomials import monomials
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Polynomial kernels of a higher degree lose too many digits in the shifts and are summed directly.
HIGHEST_POWER = 12
#: Moments whose highest power is typically below this share of the lowest are computed again without a shift.
CLOSE = 3e-4
#: The same for shifts longer than a bandwidth.
SHIFTED = 1e-2
#: Gaussian sums below this share of one point's weight are computed again without the cut-off.
FAR = 1e-6


def exponents(dimensions: int, degree: int) -> IntArray:
    """Exponents of the monomials of total degree <= `degree`, in order of their degree.  # (E, d)"""
    return monomials(dimensions, degree).exponents


def local_moments(
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    kernel: Kernel,
    order: int,
    *,
    radial: bool = False,
    past: bool = False,
    squared: bool = False,
) -> FloatArray:
    """Sums over j of ``w_j v_cj u_j^a``, with ``u_j = (x_j - q) / bandwidth``, for all queries q.

    Parameters
    ----------
    x : (n, d)
        Design points in any order.
    channels : (C, n)
        The values to sum, e.g. weights and weighted responses; the first channel must not be negative.
    at : (m, d)
        Queries in any order.
    bandwidth : (d,) or (m, 1)
        One a dimension, or one a query.
    kernel : Kernel
        ``w_j = prod_i K(u_ji)``, or ``K(|u_j|)`` with `radial`.
    order : int
        Highest total degree of the monomials, see `exponents`.
    radial, past, squared : bool
        Radial kernel; only points with ``x <= q`` in the first dimension; squared weights.

    Returns
    -------
    (m, C, E) float64
    """
    z, q, scale = in_units(x, at, bandwidth)
    points, queries = ascending(z[:, 0]), _neighbours(q)
    z, v = z[points], np.ascontiguousarray(channels[:, points])
    q = q if isinstance(queries, slice) else q.take(queries, axis=0)
    scale = None if scale is None else scale[queries]
    powers = exponents(x.shape[1], order)
    options = {"radial": radial, "past": past, "squared": squared}
    if x.shape[1] == 1 and scale is None and _has_line(kernel, order, squared):
        sums, lost = _line(z[:, 0], v, q[:, 0], kernel, order, past, squared)
        lost |= _close(sums[:, 0], powers, order, SHIFTED if isinstance(kernel, Gaussian) else CLOSE)
    elif np.isfinite(kernel.support):
        sums, lost = _windows(z, v, q, kernel, order, scale, **options), np.zeros(len(q), np.bool_)
    else:
        sums = blocked_moments(z, v, q, kernel, order, scale=scale, **options)
        lost = _close(sums[:, 0], powers, order, SHIFTED)
    if lost.any():
        own = None if scale is None else scale[lost]
        sums[lost] = _windows(z, v, q[lost], kernel, order, own, **options)
    if isinstance(queries, slice):
        return sums
    given = np.empty_like(queries)
    given[queries] = np.arange(len(q))
    return sums.take(given, axis=0)


def in_units(x: FloatArray, at: FloatArray, bandwidth: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Points and queries in units of the bandwidth; unscaled, with the scales (m,), if there is one bandwidth per query.

    Points that are further from 0 than from each other are first moved near 0, which is exact: division far from 0 would
    lose digits of their distances.
    """
    low, high = x.min(0), x.max(0)
    origin = np.where(np.minimum(np.abs(low), np.abs(high)) > high - low, low, 0.0)
    if bandwidth.ndim == 2:
        return x - origin, at - origin, bandwidth[:, 0]
    return (x - origin) / bandwidth, (at - origin) / bandwidth, None


def _has_line(kernel: Kernel, order: int, squared: bool) -> bool:
    """Whether there is a path in O(n + m)."""
    if isinstance(kernel, Power):
        return kernel.degree * (2 if squared else 1) + order <= HIGHEST_POWER
    return isinstance(kernel, (Exponential, Gaussian))


def _line(
    x: FloatArray, v: FloatArray, at: FloatArray, kernel: Kernel, order: int, past: bool, squared: bool
) -> tuple[FloatArray, BoolArray]:
    """Moments on a line in units of the bandwidth, and which have lost digits; x and at ascend."""
    twice = 2 if squared else 1
    if isinstance(kernel, Power):
        width = kernel.edge if kernel.closed else 1.0
        coefficients = np.asarray(np.polynomial.polynomial.polypow(kernel.coefficients, twice), np.float64)
        sums, lost = power_moments(x, v, at, width, coefficients, order, past)
        if width != 1.0:
            sums *= width ** np.arange(order + 1)
        return sums, lost
    if isinstance(kernel, Exponential):
        return exponential_moments(x, v, at, kernel.rho**twice, order, past), np.zeros(len(at), np.bool_)
    narrow = 1.0 / np.sqrt(twice)
    sums = gaussian_moments(x, v, at, narrow, order, past) * narrow ** np.arange(order + 1)
    return sums, sums[:, 0, 0] < FAR * v[0].max(initial=0.0)


def _windows(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    kernel: Kernel,
    order: int,
    scale: FloatArray | None,
    *,
    radial: bool,
    past: bool,
    squared: bool,
) -> FloatArray:
    """Moments from the points of each window, about the query itself."""
    if x.shape[1] == 1 and isinstance(kernel, Power):
        own = np.ones(len(at)) if scale is None else np.ascontiguousarray(scale)
        return direct_moments(
            np.ascontiguousarray(x[:, 0]), v, np.ascontiguousarray(at[:, 0]), own, kernel, order, past, squared
        )
    return window_moments(x, v, at, kernel, order, scale=scale, radial=radial, past=past, squared=squared)


def _close(sums: FloatArray, powers: IntArray, order: int, share: float) -> BoolArray:
    """Queries whose points are so near that the highest moments are rounding errors of the shifts.  # (m,)"""
    if order < 2:
        return np.zeros(len(sums), np.bool_)
    squares = [k for k, a in enumerate(powers.tolist()) if sum(a) == 2 and max(a) == 2]
    second = sums[:, squares[0]] if len(squares) == 1 else sums[:, squares].min(1)
    return np.asarray((second < share ** (2.0 / order) * sums[:, 0]) & (sums[:, 0] > 0.0))


def ascending(x: FloatArray, *, ties: bool = True) -> IntArray | slice:
    """Order in which x ascends; a full slice if it does already.  Without `ties`, faster, these come in any order."""
    return slice(None) if (x[1:] >= x[:-1]).all() else np.argsort(x, kind="stable" if ties else None)


def _neighbours(q: FloatArray) -> IntArray | slice:
    """Order in which consecutive queries are near: along the line, or by cells of the first dimensions."""
    if q.shape[1] == 1:
        return ascending(q[:, 0], ties=False)
    cells = np.floor(q[:, : min(q.shape[1], 3)])
    return np.asarray(np.lexsort((q[:, 0], *cells.T[::-1])), dtype=np.int64)
