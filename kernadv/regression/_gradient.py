"""Derivative of the Nadaraya-Watson estimate itself."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
from kernadv.regression.hat_rows import BLOCK, other_weights, pair_weights
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother


def gradient(smoother: LinearSmoother, at: Points, axis: int) -> FloatArray:
    """``sum_j (dw_j / dx) (y_j - mhat(x)) / sum_j w_j``, x the coordinate `axis`; NaN where undefined.  # (m, C)

    Parameters
    ----------
    smoother : LinearSmoother
        Of degree 0.
    at : Points of m queries
    axis : int

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
    out = np.full((len(at.x), smoother.y.shape[1]), np.nan)
    for block in gen_batches(len(at.x), max(1, BLOCK // x.size)):
        q = at.take(block)
        u = (x - q.x[:, None]) / h  # (b, n, d)
        weight = smoother.weights * pair_weights(smoother, q, u)
        if spec.radial:
            distance = np.linalg.norm(u, axis=2)
            change = kernel.slope(distance) * u[:, :, axis] / np.where(distance > 0.0, distance, 1.0)
        else:
            change = kernel.slope(u[:, :, axis]) * np.prod(kernel.profile(np.delete(u, axis, axis=2)), axis=2)
        change = -smoother.weights * other_weights(smoother, q) * change / h[axis]
        total = weight.sum(1, keepdims=True)
        known = (total[:, 0] > 0.0) & q.known
        total = np.where(total > 0.0, total, np.nan)
        mean = weight @ smoother.y / total
        slope = (change @ smoother.y - mean * change.sum(1, keepdims=True)) / total
        out[block] = np.where(known[:, None], slope, np.nan)
    return out
