"""Local least squares at any queries: from moments, and from the points of the window where these lose their digits."""

from __future__ import annotations

import numpy as np

from kernadv._typing import FloatArray
from kernadv.kernels import Kernel
from kernadv.regression.local._orthogonal import orthogonal_solution, squared_sums
from kernadv.regression.local.moments import ascending, exponents, in_units, local_moments
from kernadv.regression.local.solve import TINY, Solution, solve_local

#: Windows with a smaller pivot are solved from their points: of the digits of moments 1 / pivot^2 are lost.
STEEP = 0.03


def local_least_squares(
    x: FloatArray,
    weights: FloatArray,
    y: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    kernel: Kernel,
    degree: int,
    row: int = 0,
    *,
    radial: bool = False,
    past: bool = False,
) -> Solution:
    """Local polynomials at all queries.

    Parameters
    ----------
    x, at, bandwidth, kernel, radial, past
        As in `kernadv.regression.local.moments.local_moments`.
    weights : (n,)
        Observation weights >= 0.
    y : (n, C)
    degree, row : int
        As in `kernadv.regression.local.solve.solve_local`.
    """
    channels = np.concatenate([weights[None], weights * y.T])
    sums = local_moments(x, channels, at, bandwidth, kernel, 2 * degree, radial=radial, past=past)
    out = solve_local(sums, exponents(x.shape[1], degree), exponents(x.shape[1], 2 * degree), row)
    steep = np.flatnonzero((out.pivot < STEEP) & (sums[:, 0, 0] > TINY))
    if len(steep):
        asked = np.column_stack([at, bandwidth])[steep] if bandwidth.ndim == 2 else at[steep]
        _, first, which = np.unique(asked, axis=0, return_index=True, return_inverse=True)
        own = steep[first]
        z, q, scale = in_units(x, at[own], bandwidth[own] if bandwidth.ndim == 2 else bandwidth)
        points = ascending(z[:, 0])
        channels = np.concatenate([weights[None], y.T])[:, points]
        better = orthogonal_solution(z[points], channels, q, kernel, degree, row, scale=scale, radial=radial, past=past)
        for old, new in zip(out, better, strict=True):
            old[steep] = new[which.ravel()]
    return out


def local_squares(
    x: FloatArray,
    weights: FloatArray,
    variance: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    kernel: Kernel,
    degree: int,
    row: int = 0,
    *,
    radial: bool = False,
    past: bool = False,
) -> FloatArray:
    """``sum_j l_j^2 variance_j`` of the hat vectors, from the points of the windows; NaN where there are none.  # (m,)

    Parameters
    ----------
    x, weights, at, bandwidth, kernel, degree, row, radial, past
        As in `local_least_squares`.
    variance : (n,)
    """
    z, q, scale = in_units(x, at, bandwidth)
    points = ascending(z[:, 0])
    channels = np.stack([weights, variance])[:, points]
    return squared_sums(z[points], channels, q, kernel, degree, row, scale=scale, radial=radial, past=past)
