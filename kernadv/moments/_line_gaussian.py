"""Moving sums under a Gaussian kernel on a line in O(n + m): the fast Gauss transform.

The line is cut into cells of half a bandwidth, and each cell is reduced to the power sums of its points about its centre.
With s the centre and t the point relative to it, in bandwidths from the query,

    exp(-(s + t)^2 / 2) = exp(-s^2 / 2) sum_k He_k(-s) t^k / k!,     |t| <= 1/4,

with the Hermite polynomials He_k.  `TERMS` terms leave less than 1e-14 of the largest weight, and cells further away than
`CUTOFF` bandwidths, whose points weigh less than 1e-15, are left out.

References
----------
Greengard and Strain (1991), The fast Gauss transform.
"""

from __future__ import annotations

from math import comb

import numpy as np

from kernadv._jit import compiled
from kernadv._typing import FloatArray, IntArray

#: Terms of the Hermite series.
TERMS = 16
#: Largest distance of a cell's centre, in bandwidths.
CUTOFF = 8.6


def gaussian_moments(
    x: FloatArray, channels: FloatArray, at: FloatArray, width: float, order: int, past: bool
) -> FloatArray:
    """Sums over j of ``exp(-u^2 / 2) v_cj u^k`` with u = (x_j - q) / width, for all queries q.

    Parameters and result as in `kernadv.moments._line_power.power_moments`; with `past`, points after the query do not
    count, and the cell that holds the query is summed point by point.
    """
    start = np.floor(2.0 * (x - x[0]) / width)
    cells, first = np.unique(start, return_index=True)
    centre = x[0] + (cells + 0.5) * (0.5 * width)
    bounds = np.append(first, len(x))
    binomial = np.array([[comb(r, k) for k in range(order + 1)] for r in range(order + 1)], dtype=np.float64)
    out = np.empty((len(at), len(channels), order + 1))
    _transform(x, channels, at, float(width), order, past, centre, bounds, binomial, out)
    return out


@compiled()
def _transform(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    h: float,
    order: int,
    past: bool,
    centre: FloatArray,
    bounds: IntArray,
    binomial: FloatArray,
    out: FloatArray,
) -> None:
    channels, depth = v.shape[0], TERMS + order
    sums = np.zeros((len(centre), channels, depth))
    for b in range(len(centre)):
        for j in range(bounds[b], bounds[b + 1]):
            t = (x[j] - centre[b]) / h
            for c in range(channels):
                term = v[c, j]
                for r in range(depth):
                    sums[b, c, r] += term
                    term *= t
    series = np.empty(TERMS)
    shifted = np.empty(order + 1)
    for m in range(len(at)):
        q = at[m]
        out[m] = 0.0
        low = np.searchsorted(centre, q - CUTOFF * h)
        high = np.searchsorted(centre, q if past else q + CUTOFF * h)
        if past:  # the cell of the query may hold points on both sides of it
            for b in range(max(high - 1, 0), min(high + 1, len(centre))):
                for j in range(bounds[b], bounds[b + 1]):
                    u = (x[j] - q) / h
                    if u <= 0.0:
                        weight = np.exp(-0.5 * u * u)
                        for c in range(channels):
                            term = weight * v[c, j]
                            for k in range(order + 1):
                                out[m, c, k] += term
                                term *= u
            high = max(high - 1, 0)
        for b in range(low, high):
            s = (centre[b] - q) / h
            series[0] = np.exp(-0.5 * s * s)
            series[1] = -s * series[0]
            for k in range(2, TERMS):  # He_k / k!
                series[k] = (-s * series[k - 1] - series[k - 2]) / k
            for c in range(channels):
                for i in range(order + 1):
                    total = 0.0
                    for k in range(TERMS):
                        total += series[k] * sums[b, c, k + i]
                    shifted[i] = total
                for k in range(order + 1):
                    power = 1.0
                    for i in range(k, -1, -1):
                        out[m, c, k] += binomial[k, i] * power * shifted[i]
                        power *= s
