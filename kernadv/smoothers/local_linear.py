"""Local linear: the intercept of a line fitted in the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.moments import Moments
from kernadv.smoothers._base import Estimate
from kernadv.smoothers.nadaraya_watson import nadaraya_watson, residual_variance

#: The line is fitted only where s0 s2 - s1^2 exceeds this share of s0 s2; elsewhere the design has no spread.
RANK = 1e-10


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
