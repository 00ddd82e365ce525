"""Weighted moments in any dimension, for any kernel, block by block: never an n x m matrix in memory."""

from __future__ import annotations

import numpy as np

from kernadv.kernels import Gaussian, Kernel
from kernadv.regression._threads import blocks, in_parallel
from kernadv.regression.local.monomials import monomials, shifted, values
from kernadv.typing import FloatArray

#: Queries and points of a block, whose weights fit into a core's cache.
QUERIES, POINTS = 256, 512
#: Sums about the middle of a block lose the digits of (distance to a query, in bandwidths) ** order when they are moved to
#: the query.  Blocks are cut where that is more than this.
LOSS = 1e3


def blocked_moments(
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    kernel: Kernel,
    order: int,
    *,
    scale: FloatArray | None = None,
    radial: bool = False,
    past: bool = False,
    squared: bool = False,
) -> FloatArray:
    """Sums over j of ``w_j v_cj u_j^a`` with u_j = (x_j - q) / scale, for all queries q and monomials a.

    Parameters
    ----------
    x : (n, d)
        Points in units of the bandwidth of each dimension; sorted by the first dimension.
    channels : (C, n)
    at : (m, d)
        Queries, in the same units; consecutive ones should be near each other.
    kernel : Kernel
        ``w = prod_i K(u_i)``, or ``K(|u|)`` if `radial`.
    order : int
        Highest total degree of the monomials.
    scale : (m,), optional
        Further factor of the bandwidth at each query.
    radial, past, squared : bool
        Radial kernel; only points with x <= q in the first dimension; squared weights.

    Returns
    -------
    (m, C, E) float64
    """
    basis = monomials(x.shape[1], order)
    units = np.ones(len(at)) if scale is None else scale
    product = x.shape[1] > 3 and isinstance(kernel, Gaussian)
    out = np.empty((len(at), len(channels), len(basis.exponents)))

    def block(own: slice) -> None:
        q, unit = at[own], units[own]
        centre = 0.5 * (q.min(0) + q.max(0))
        last = int(np.searchsorted(x[:, 0], q[:, 0].max(), "right")) if past else len(x)
        step = POINTS * max(1, QUERIES // (2 * len(q)))
        sums = np.zeros((len(q), len(channels) * len(basis.exponents)))
        for part in blocks(last, step):
            near = x[part] - centre
            weight = _gaussian(near, q - centre, unit) if product else _weights(x[part], q, unit, kernel, radial)
            if past:
                weight[x[part, 0] > q[:, 0, None]] = 0.0
            if squared:
                weight *= weight
            powers = values(near, basis)  # (b, E)
            sums += weight @ (channels[:, part].T[:, :, None] * powers[:, None, :]).reshape(len(powers), -1)
        raw = sums.reshape(len(q), len(channels), len(basis.exponents))
        out[own] = shifted(raw, centre - q, basis) / unit[:, None, None] ** basis.exponents.sum(1)

    reach = LOSS ** (1.0 / max(order, 2)) if order or product else np.inf
    in_parallel(block, _near_blocks(at, units, reach))
    return out


def _near_blocks(at: FloatArray, unit: FloatArray, reach: float) -> list[slice]:
    """Blocks of at most `QUERIES` queries, each within `reach` of its units of the middle of its block."""
    found = []
    todo = blocks(len(at), QUERIES)[::-1]
    while todo:
        own = todo.pop()
        q = at[own]
        if len(q) > 1 and 0.5 * float(np.ptp(q, axis=0).max()) > reach * float(unit[own].min()):
            middle = (own.start + own.stop) // 2
            todo += [slice(middle, own.stop), slice(own.start, middle)]
        else:
            found.append(own)
    return found


def _gaussian(x: FloatArray, q: FloatArray, unit: FloatArray) -> FloatArray:
    """Gaussian weights of a block about a near origin, by one product: ``-|x - q|^2 / 2 = q x - |q|^2 / 2 - |x|^2 / 2``.

    Other kernels are not flat at 0, so that the rounding of small distances would matter.
    """
    left = np.column_stack([q, -0.5 * (q * q).sum(1), np.ones(len(q))]) / (unit * unit)[:, None]
    weight: FloatArray = left @ np.column_stack([x, np.ones(len(x)), -0.5 * (x * x).sum(1)]).T
    return np.asarray(np.exp(np.minimum(weight, 0.0, out=weight), out=weight))


def _weights(x: FloatArray, q: FloatArray, unit: FloatArray, kernel: Kernel, radial: bool) -> FloatArray:
    """Kernel weights of a block.  # (queries, points)"""
    if radial or isinstance(kernel, Gaussian):  # a product of Gaussians is the radial one
        square = np.zeros((len(q), len(x)))
        for i in range(x.shape[1]):
            square += (x[:, i] - q[:, i, None]) ** 2
        square /= (unit * unit)[:, None]
        if isinstance(kernel, Gaussian):
            square *= -0.5
            return np.asarray(np.exp(square, out=square))
        return np.asarray(kernel.profile(np.sqrt(square, out=square)))
    weight = np.ones((len(q), len(x)))
    for i in range(x.shape[1]):
        weight *= kernel.profile((x[:, i] - q[:, i, None]) / unit[:, None])
    return weight
