"""Local logistic regression: local likelihood for responses 0 and 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv import kernels
from kernadv._errors import ArgumentError, check_choice, check_positive
from kernadv._typing import BoolArray, FloatArray
from kernadv.kernels import Kernel

#: Queries that are solved at a time: blocks of queries x points stay small.
BLOCK = 256
#: Newton steps, and the change of the linear predictor below which they end.
STEPS, TOLERANCE = 60, 1e-10
#: Linear predictors beyond which the likelihood has no maximum: the window separates zeros from ones.
SEPARATED = 30.0


class LocalLogistic(NamedTuple):
    """The fit at M queries; NaN where no maximum of the local likelihood exists.

    Attributes
    ----------
    logit : (M,) float64
        Log odds of a 1.
    standard_error : (M,) float64
        Of the logit, from the sandwich ``J^-1 V J^-1`` with J = sum K v x x' and V = sum K^2 v x x', v = p (1 - p).
    probability : (M,) float64
    defined : (M,) bool
    """

    logit: FloatArray
    standard_error: FloatArray
    probability: FloatArray
    defined: BoolArray


def local_logistic(
    x: FloatArray,
    y: FloatArray,
    at: FloatArray,
    bandwidth: float,
    kernel: str | Kernel = "epanechnikov",
    degree: int = 1,
) -> LocalLogistic:
    """Maximise ``sum_j K((x_j - x) / h) log-likelihood(y_j; a + b (x_j - x))`` at each query x; the logit is a.

    Parameters
    ----------
    x : (n,)
        Design points.
    y : (n,)
        Responses, 0 or 1.
    at : (M,)
        Queries.
    bandwidth : float
        Half-width h of a compact kernel's support, scale of the others.
    kernel : str or Kernel
    degree : {0, 1}
        0: the logit of the Nadaraya-Watson estimate.

    Raises
    ------
    ArgumentError
        If the lengths differ, a response is neither 0 nor 1, a number is not finite, or bandwidth or degree cannot be used.

    References
    ----------
    Tibshirani and Hastie (1987), local likelihood; Loader (1999), Local Regression and Likelihood, chapter 4.
    """
    x, y, at = (np.asarray(array, np.float64) for array in (x, y, at))
    h = check_positive(bandwidth, "bandwidth", "it is in units of x", allow_inf=True)
    check_choice(str(degree), "degree", ("0", "1"))
    if x.ndim != 1 or x.shape != y.shape or at.ndim != 1:
        raise ArgumentError(f"x, y and at must be vectors, x and y of one length, got {x.shape}, {y.shape}, {at.shape}")
    if not (np.isfinite(x).all() and np.isfinite(at).all()):
        raise ArgumentError("x and at must be finite numbers, got NaN or infinity; drop those rows")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ArgumentError(f"responses must be 0 or 1, got {y[~np.isin(y, (0.0, 1.0))][0]}")
    shape = kernels.get(kernel)
    logit, error = np.empty(len(at)), np.empty(len(at))
    for low in range(0, len(at), BLOCK):
        some = slice(low, low + BLOCK)
        logit[some], error[some] = _block(x, y, at[some], h, shape, int(degree))
    return LocalLogistic(logit, error, 1.0 / (1.0 + np.exp(-logit)), ~np.isnan(logit))


def _block(
    x: FloatArray, y: FloatArray, at: FloatArray, h: float, kernel: Kernel, degree: int
) -> tuple[FloatArray, ...]:
    """Logits and standard errors of some queries by Newton's method.  # (M,), (M,)"""
    d = x - at[:, None]
    u = np.abs(d) / h
    w = np.where(u <= kernel.support, kernel.profile(u), 0.0)
    scale = np.sqrt((w * d * d).sum(1) / np.maximum(w.sum(1), 1e-300))
    line = d / np.where(scale > 0, scale, 1.0)[:, None]  # (M, n), so that both coefficients are of one size
    design = np.stack([np.ones_like(line), line][: degree + 1], axis=-1)  # (M, n, p)
    beta = np.zeros((len(at), degree + 1))
    alive = ((w * y).sum(1) > 0) & ((w * (1.0 - y)).sum(1) > 0)
    for _ in range(STEPS):
        eta = np.clip((design @ beta[:, :, None])[..., 0], -2 * SEPARATED, 2 * SEPARATED)
        p = 1.0 / (1.0 + np.exp(-eta))
        score = np.einsum("mn,mnp->mp", w * (y - p), design)
        j = np.einsum("mn,mnp,mnq->mpq", w * p * (1.0 - p), design, design)
        step = _solve(j, score, alive)
        size = np.abs(step).max(1, initial=0.0)
        beta += step * np.minimum(1.0, 4.0 / np.maximum(size, 1e-300))[:, None]  # a damped step cannot overshoot far
        if not (size > TOLERANCE).any():
            break
    alive &= (np.abs(beta).max(1) < SEPARATED) & (size <= TOLERANCE)
    v = np.einsum("mn,mnp,mnq->mpq", w * w * p * (1.0 - p), design, design)
    first = np.zeros_like(beta)
    first[:, 0] = 1.0
    row = _solve(j, first, alive)
    error = np.sqrt(np.maximum(np.einsum("mp,mpq,mq->m", row, v, row), 0.0))
    return np.where(alive, beta[:, 0], np.nan), np.where(alive, error, np.nan)


def _solve(j: FloatArray, right: FloatArray, alive: BoolArray) -> FloatArray:
    """``j^-1 right`` of each query, 0 where j is singular or the query is done for; `alive` is updated.  # (M, p)"""
    if j.shape[-1] == 1:
        det = j[:, 0, 0]
        inverse = np.ones_like(j)
    else:
        det = j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] ** 2
        inverse = np.stack([np.stack([j[:, 1, 1], -j[:, 0, 1]], -1), np.stack([-j[:, 0, 1], j[:, 0, 0]], -1)], -2)
    size = j[:, 0, 0] * (j[:, 1, 1] if j.shape[-1] == 2 else 1.0)
    alive &= det > 1e-12 * np.maximum(size, 1e-290)
    solved = np.einsum("mpq,mq->mp", inverse, right) / np.where(alive, det, 1.0)[:, None]
    return np.where(alive[:, None], solved, 0.0)
