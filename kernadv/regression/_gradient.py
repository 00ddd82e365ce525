"""Derivative of the Nadaraya-Watson estimate itself."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
from kernadv.regression.hat_rows import BLOCK, kernel_weights, other_weights
from kernadv.regression._rule import Rule
from kernadv.regression._sample import Points, Sample


def gradient(rule: Rule, sample: Sample, at: Points, axis: int) -> FloatArray:
    """``sum_j (dw_j / dx) (y_j - mhat(x)) / sum_j w_j``, x the coordinate `axis`; NaN where undefined.  # (m, C)

    Parameters
    ----------
    rule : Rule
        Degree 0.
    sample : Sample
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
    if rule.spec.past or rule.bandwidth.ndim == 2:
        reason = "one-sided windows jump" if rule.spec.past else "its bandwidth changes with the query"
        raise ArgumentError(f"the estimate of degree 0 has no derivative here: {reason}; use degree >= 1")
    x, h, kernel = sample.points.x, rule.bandwidth, rule.spec.kernel
    out = np.full((len(at.x), sample.y.shape[1]), np.nan)
    for block in gen_batches(len(at.x), max(1, BLOCK // x.size)):
        q = at.take(block)
        u = (x - q.x[:, None]) / h  # (b, n, d)
        weight = sample.weights * kernel_weights(rule, sample.points, q, u, block)
        if rule.spec.radial:
            distance = np.linalg.norm(u, axis=2)
            change = kernel.slope(distance) * u[:, :, axis] / np.where(distance > 0.0, distance, 1.0)
        else:
            change = kernel.slope(u[:, :, axis]) * np.prod(kernel.profile(np.delete(u, axis, axis=2)), axis=2)
        change = -sample.weights * other_weights(rule, sample.points, q) * change / h[axis]
        total = weight.sum(1, keepdims=True)
        known = (total[:, 0] > 0.0) & q.known
        total = np.where(total > 0.0, total, np.nan)
        mean = weight @ sample.y / total
        slope = (change @ sample.y - mean * change.sum(1, keepdims=True)) / total
        out[block] = np.where(known[:, None], slope, np.nan)
    return out
