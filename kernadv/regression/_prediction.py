"""Prediction intervals: where a new response lies, from the errors of the old ones under fits without them.

References
----------
Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), Distribution-free predictive inference for regression, JASA 113
(residuals divided by a local scale, section 5.2).
Barber, Candes, Ramdas and Tibshirani (2021), Predictive inference with the jackknife+, Annals of Statistics 49.
Steinberger and Leeb (2023), Conditional predictive inference for stable algorithms, Annals of Statistics 51.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from kernadv import kernels
from kernadv._errors import ArgumentError, check_choice, check_level
from kernadv.regression._quality import quality
from kernadv.regression.bandwidth import get
from kernadv.regression.bandwidth._mixed import select_mixed
from kernadv.regression.inference import NEW_RESPONSE, Interval
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

METHODS = ("local", "constant")
#: A rank is not raised by rounding errors of the level.
ROUNDING = 1e-9


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def prediction_interval(
    robust: LinearSmoother, fit: LinearSmoother, at: Points, level: float, method: str
) -> Interval[FloatArray]:
    """The jackknife, with errors in units of a local scale.

    The interval is ``mhat(x) -+ q s(x)``.  q is the ``ceil(level (n + 1))``-th smallest ``|y_i - mhat_(-i)(x_i)| /
    s_(-i)(x_i)``, where -i is without row i.  The scale s is the local mean of these absolute errors, with a Gaussian kernel
    whose bandwidths are chosen by leave-one-out; with the method "constant" it is 1.

    Parameters
    ----------
    robust, fit : LinearSmoother
        The smoother of the estimates, and that of their errors; they are the same without robust steps.
    at : Points of m queries
    level : float
    method : {"local", "constant"}
    """
    check_level(level)
    check_choice(method, "method of a prediction interval", METHODS)
    unit = np.sqrt(fit.weights / fit.weights.mean())[:, None]
    error = np.abs(robust.y - quality(fit).loo) * unit
    known = ~np.isnan(error).any(axis=1)
    rank = ceil(level * (known.sum() + 1) - ROUNDING)
    if rank > known.sum():
        least = ceil(level / (1.0 - level) - ROUNDING)
        raise ArgumentError(
            f"a level of {level:g} needs at least {least} rows with an estimate from the others, got {known.sum()}; lower "
            "the level"
        )
    scale, own = np.ones((len(at.x), error.shape[1])), np.ones(error[known].shape)
    if method == "local":
        scale, own = _scale(fit.take(known), error[known], at)
    score = np.where(error[known] > 0.0, error[known] / own, 0.0)
    value, half = robust.estimate(at).value, np.sort(score, axis=0)[rank - 1] * scale
    return Interval(value, value - half, value + half, NEW_RESPONSE)


def _scale(fit: LinearSmoother, error: FloatArray, at: Points) -> tuple[FloatArray, FloatArray]:
    """Local mean of the errors (n, C) at the queries (m, C), and at each point from the others (n, C)."""
    spec = LocalPolynomialSpec(kernels.get("gaussian"))
    mean = replace(fit, spec=spec, y=error, weights=np.ones(len(error)), bandwidth=np.empty(0), metric="euclidean")
    selector = get("leave_one_out")
    if fit.categories:
        chosen = select_mixed(selector, mean)
    elif np.ptp(fit.x, axis=0).all():
        chosen = selector.select(mean)
    else:  # nothing for the scale to follow
        return np.ones((len(at.x), error.shape[1])), np.ones(error.shape)
    mean = mean.with_bandwidth(chosen.bandwidth, chosen.smoothing)
    return mean.estimate(at.with_bandwidth(None)).value, quality(mean).loo
