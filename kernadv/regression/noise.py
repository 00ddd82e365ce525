"""Variance of the responses around their curve, without a smoother: from differences of neighbours on a line."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray


def difference_variance(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean square of ``(a y_(i-1) + b y_(i+1) - y_i) / sqrt(a^2 / w_(i-1) + b^2 / w_(i+1) + 1 / w_i)``.  # (C,)

    ``a y_(i-1) + b y_(i+1)`` is the line through the neighbours of x_i at x_i.  Responses that share an x are replicates:
    each of them but one gives the square of its own mean's pure error, and their weighted mean, with their total weight,
    is the one response there.  The order of the rows so never matters.

    Parameters
    ----------
    x : (n,)
    y : (n, C)
    weights : (n,)
        All positive; the variances of the responses are in inverse proportion, the result is that at weight 1.

    Raises
    ------
    ArgumentError
        If there are neither three distinct x nor two responses at one.

    References
    ----------
    Gasser, Sroka and Jennen-Steinmetz (1986), Residual variance and residual pattern in nonlinear regression,
    Biometrika 73.
    Draper and Smith (1998), Applied Regression Analysis, section 2.1 (pure error).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.0, 1.0, 2.0]), np.array([[1.0], [3.0], [1.0]])
    >>> float(difference_variance(x, y, np.ones(3))[0])  # (1 - 3)^2 / (1/4 + 1/4 + 1)
    2.6666666666666665
    >>> float(difference_variance(np.zeros(3), y, np.ones(3))[0])  # sum (y - 5/3)^2 / 2
    1.3333333333333335
    """
    order = np.argsort(x, kind="stable")
    x, y, w = x[order], y[order], weights[order]
    new = np.append(True, np.diff(x) > 0.0)
    first, place = np.flatnonzero(new), np.cumsum(new) - 1
    spots = len(first)
    freedom = len(x) - spots + max(spots - 2, 0)
    if freedom < 1:
        raise ArgumentError(f"difference-based variance needs at least 3 points on a line, or ties, got {len(x)}")
    squares = np.zeros(y.shape[1])
    if spots < len(x):
        total = np.add.reduceat(w, first)
        mean = np.add.reduceat(w[:, None] * y, first) / total[:, None]
        squares += w @ (y - mean[place]) ** 2
        x, y, w = x[first], mean, total
    right = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    left = 1.0 - right
    residual = left[:, None] * y[:-2] + right[:, None] * y[2:] - y[1:-1]
    scale = left**2 / w[:-2] + right**2 / w[2:] + 1.0 / w[1:-1]
    return np.asarray((squares + (residual**2 / scale[:, None]).sum(0)) / freedom)
