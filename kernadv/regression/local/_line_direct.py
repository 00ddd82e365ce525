"""Weighted moments on a line, each from the points of its own window: kernels (1 - |u|^power)^exponent, any bandwidths.

A window is a stretch of the sorted points.  It is summed about the query itself, so no digit is lost.
"""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv.kernels import Power
from kernadv.regression._threads import in_parallel, stretches
from kernadv.typing import FloatArray

#: Points weighted at a time, which stay in a core's nearest cache.
TOGETHER = 512
#: Queries that are worth a separate thread.
QUERIES = 64


def direct_moments(
    x: FloatArray,
    channels: FloatArray,
    at: FloatArray,
    scale: FloatArray,
    kernel: Power,
    order: int,
    past: bool,
    squared: bool,
) -> FloatArray:
    """Sums over j of ``w_j v_cj u_j^k`` with u = (x_j - q) / scale, for all queries q.

    Parameters
    ----------
    x : (n,) ascending
    channels : (C, n)
    at : (m,)
        In any order.
    scale : (m,)
        Bandwidth of each query.
    kernel : Power
    order : int
        Highest k.
    past, squared : bool
        Only points with x_j <= q count; squared weights.

    Returns
    -------
    (m, C, order + 1) float64
    """
    out = np.zeros((len(at), len(channels), order + 1))
    exponent, reach = kernel.exponent * (2 if squared else 1), kernel.zero_beyond * (1.0 + 1e-12)

    def part(own: slice) -> None:
        _direct(x, channels, at[own], scale[own], reach, kernel.edge, kernel.power, exponent, past, out[own])

    in_parallel(part, stretches(len(at), QUERIES))
    return out


@compiled()
def _direct(
    x: FloatArray,
    v: FloatArray,
    at: FloatArray,
    scale: FloatArray,
    reach: float,
    edge: float,
    power: int,
    exponent: int,
    past: bool,
    out: FloatArray,
) -> None:
    u, w, base = np.empty(TOGETHER), np.empty(TOGETHER), np.empty(TOGETHER)
    for m in range(len(at)):
        q, h = at[m], scale[m]
        low = int(np.searchsorted(x, q - reach * h))
        high = low + int(np.searchsorted(x[low:], q if past else q + reach * h, "right"))
        for start in range(low, high, TOGETHER):
            count = min(TOGETHER, high - start)
            _weights(x[start : start + count], q, h, edge, power, exponent, u, w, base)
            for k in range(out.shape[2]):
                for c in range(v.shape[0]):
                    total = 0.0
                    for i in range(count):
                        total += w[i] * v[c, start + i]
                    out[m, c, k] += total
                if k + 1 < out.shape[2]:
                    for i in range(count):
                        w[i] *= u[i]


@compiled()
def _weights(
    x: FloatArray,
    q: float,
    h: float,
    edge: float,
    power: int,
    exponent: int,
    u: FloatArray,
    w: FloatArray,
    base: FloatArray,
) -> None:
    """Lags and weights of some points; the edge decides which of them are in the window."""
    for i in range(len(x)):
        u[i] = (x[i] - q) / h
        base[i] = abs(u[i])
        w[i] = 1.0 if base[i] <= edge else 0.0
    for _ in range(power - 1):
        for i in range(len(x)):
            base[i] *= abs(u[i])
    for _ in range(exponent):
        for i in range(len(x)):
            w[i] *= 1.0 - base[i]
