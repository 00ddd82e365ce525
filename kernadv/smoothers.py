"""Smoothers: weighted moments -> estimate.  k-NN in time is Nadaraya-Watson with the bandwidth `Visits(k)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

import numpy as np

from kernadv._errors import check_choice
from kernadv.moments import Moments
from kernadv.typing import ArrayType

__all__ = ["SMOOTHERS", "Estimate", "Smoother", "get", "local_linear", "nadaraya_watson"]


def __dir__() -> list[str]:
    return __all__


#: Windows whose weights add up to less are empty: squares of such weights underflow.
UNDERFLOW = 1e-140
#: A line is fitted only where s0 s2 - s1^2 exceeds this share of s0 s2; elsewhere the design has no spread.
RANK = 1e-10


class Estimate(NamedTuple, Generic[ArrayType]):
    """An estimate at each query; arrays, or tensors where tensors came in.

    Attributes
    ----------
    value : (...,) float
        The estimate; NaN where `defined` is False.
    variance : (...,) float
        Estimated variance of `value` given the path of the true values: weighted residual variance times the squared norm
        of the hat vector.  NaN where n_eff is 1 (one visit), and 0 where all rewards of the window are equal, as is common
        with 0/1 rewards: an interval of two standard errors is then too short.
    n_eff : (...,) float
        Effective sample size, 1 / sum of the squared hat vector; (sum w)^2 / sum w^2 (Kish) for Nadaraya-Watson; 0 where
        undefined.
    defined : (...,) bool
        False where no observation has weight.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> est = KernelValueEstimator()
    >>> est.advantages(["a", "a"], [1.0, 0.0], step=1)
    array([ 1., -1.])
    >>> estimate = est.values(["a", "a"], [1.0, 1.0], step=2)
    >>> estimate.value.round(2), estimate.defined
    (array([0.61, 0.61]), array([ True,  True]))
    """

    value: ArrayType
    variance: ArrayType
    n_eff: ArrayType
    defined: Any  # of the same kind, but of bool


def nadaraya_watson(moments: Moments, xp: Any = np) -> Estimate:
    """``V = t0 / s0``: the weighted mean of the responses in the window.

    Parameters
    ----------
    moments : Moments of arrays of one shape
    xp : module
        Of the arrays: numpy, or torch for tensors.

    Returns
    -------
    Estimate of arrays of that shape

    References
    ----------
    Nadaraya (1964); Watson (1964).  Kish (1965) for n_eff.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.moments import Moments
    >>> from kernadv.smoothers import nadaraya_watson
    >>> weight, lag, y = np.array([1.0, 0.5]), np.array([0.0, -2.0]), np.array([1.0, 0.0])
    >>> w2 = weight**2
    >>> sums = [weight @ lag**k for k in range(3)] + [weight @ (lag**k * y) for k in range(2)]
    >>> moments = Moments(*sums, *(w2 @ lag**k for k in range(3)), weight @ y**2)
    >>> round(float(nadaraya_watson(moments).value), 4), round(float(nadaraya_watson(moments).n_eff), 4)
    (0.6667, 1.8)
    """
    defined = moments.s0 > UNDERFLOW
    s0 = xp.where(defined, moments.s0, 1.0)
    q0 = xp.where(defined, moments.q0, 1.0)
    value = xp.where(defined, moments.t0 / s0, math.nan)
    n_eff = xp.where(defined, s0 * s0 / q0, 0.0)
    variance = residual_variance(moments, s0, n_eff, xp) / xp.where(defined, n_eff, 1.0)
    return Estimate(value, variance, n_eff, defined)


def residual_variance(moments: Moments, s0: Any, kish: Any, xp: Any = np) -> Any:
    """Unbiased weighted variance about the weighted mean, ``(r0/s0 - V^2) n_eff / (n_eff - 1)``; NaN for n_eff <= 1."""
    several = kish > 1.0 + 1e-9
    mean = moments.t0 / s0
    spread = xp.clip(moments.r0 / s0 - mean * mean, 0.0, None)
    return xp.where(several, spread * kish / xp.where(several, kish - 1.0, 1.0), math.nan)


def local_linear(moments: Moments, xp: Any = np) -> Estimate:
    """``V = (s2 t0 - s1 t1) / (s0 s2 - s1^2)``; the weighted mean where all visits lie at one step.

    The hat vector is ``l_j = w_j (s2 - s1 d_j) / (s0 s2 - s1^2)``; n_eff is 1 / sum l_j^2.  The estimate is a linear
    extrapolation to the newest step: it removes the lag of the mean, has 2.5 (exponential) to 4 (uniform) times its
    variance, 3.6 times with the triangular kernel, and may leave the range of the responses.

    Parameters
    ----------
    moments : Moments of arrays of one shape
    xp : module
        Of the arrays: numpy, or torch for tensors.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, sections 2.3 and 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.moments import Moments
    >>> from kernadv.smoothers import local_linear
    >>> weight, lag = np.array([1.0, 0.5, 0.25]), np.array([-1.0, -2.0, -3.0])
    >>> y, w2 = 0.5 + 0.1 * lag, weight**2
    >>> sums = [weight @ lag**k for k in range(3)] + [weight @ (lag**k * y) for k in range(2)]
    >>> moments = Moments(*sums, *(w2 @ lag**k for k in range(3)), weight @ y**2)
    >>> round(float(local_linear(moments).value), 4)  # the line at lag 0
    0.5
    """
    mean = nadaraya_watson(moments, xp)
    s0, s1, s2, t0, t1, q0, q1, q2 = moments[:8]
    det = s0 * s2 - s1 * s1
    line = det > RANK * s0 * s2
    det = xp.where(line, det, 1.0)
    norm = xp.where(line, (s2 * s2 * q0 - 2.0 * s1 * s2 * q1 + s1 * s1 * q2) / det**2, 1.0)
    norm = xp.clip(norm, np.finfo(np.float64).tiny, None)
    spread = residual_variance(moments, xp.where(mean.defined, s0, 1.0), mean.n_eff, xp)
    return Estimate(
        value=xp.where(line, (s2 * t0 - s1 * t1) / det, mean.value),
        variance=xp.where(line, spread * norm, mean.variance),
        n_eff=xp.where(line, 1.0 / norm, mean.n_eff),
        defined=mean.defined,
    )


#: A function of moments, and of the namespace of their arrays (numpy if left out).
Smoother = Callable[..., Estimate]

#: Every smoother of a history by name.
SMOOTHERS: dict[str, Smoother] = {"nadaraya_watson": nadaraya_watson, "local_linear": local_linear}


def get(name: str) -> Smoother:
    """Return the smoother of that name, or raise with the list of the known ones.

    Examples
    --------
    >>> from kernadv.smoothers import get
    >>> get("local_linear").__name__
    'local_linear'
    """
    return SMOOTHERS[check_choice(name, "smoother", SMOOTHERS)]
