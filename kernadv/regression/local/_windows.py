"""Weighted moments from the points inside each window, taken about the query itself: exact for any kernel."""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv._typing import FloatArray, IntArray
from kernadv.kernels import Kernel
from kernadv.regression.local._pairs import Pairs, over_windows, steps


def window_moments(
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

    Parameters and result as in `kernadv.regression.local._blocked.blocked_moments`; the queries come in any order.
    """
    parents = steps(x.shape[1], order)
    out = np.zeros((len(at), len(channels), len(parents)))

    def work(own: slice, pairs: Pairs, v: FloatArray) -> None:
        weight = pairs.weight * pairs.weight if squared else pairs.weight
        _accumulate(weight, *pairs[1:], v, parents, out[own])

    over_windows(work, x, channels, at, kernel, scale, radial, past)
    return out


@compiled()
def _accumulate(
    weight: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    v: FloatArray,
    parents: IntArray,
    out: FloatArray,
) -> None:
    channels, size = v.shape[0], len(parents)
    power = np.ones(size)
    p = 0
    for m in range(begin, upto):
        while p < ends[m]:
            w, j = weight[p], point[p]
            if w > 0.0:
                power[0] = w
                for k in range(1, size):
                    power[k] = power[parents[k, 0]] * u[parents[k, 1], p]
                for c in range(channels):
                    for k in range(size):
                        out[m, c, k] += v[c, j] * power[k]
            p += 1
