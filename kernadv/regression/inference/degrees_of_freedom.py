"""Degrees of freedom of a linear smoother, leverages, and the effective sample size behind each estimate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.regression.inference._base import checked
from kernadv.regression.local.polynomial import LocalValues, leverage, smooth
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

#: A leverage nearer to 1 than this leaves no residual to divide by.
SATURATED = 1e-10


class DegreesOfFreedom(NamedTuple):
    """Degrees of freedom of the smoother ``mhat = S y`` at its design points.

    Attributes
    ----------
    points : int
        Design points where the fit is defined: n, unless some are alone in their window.
    trace : float
        ``tr S``: the effective degrees of freedom (edf).
    squared_trace : float
        ``sum_ij S_ij^2 omega_i / omega_j`` with the observation weights omega: ``tr S'S`` for the responses times
        sqrt(omega), which have one variance.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import effective_degrees_of_freedom
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> line = effective_degrees_of_freedom(LocalLinear(1e6).fit(x, x**2).as_fit())
    >>> round(line.trace, 4), round(line.residual, 4), line.enough() is line  # a straight line: 2, and 58 are left
    (2.0, 58.0, True)
    """

    points: int
    trace: float
    squared_trace: float

    @property
    def residual(self) -> float:
        """``n - 2 tr S + squared_trace``: for an unbiased fit E sum omega e^2 is sigma^2 times this."""
        return self.points - 2.0 * self.trace + self.squared_trace

    def enough(self) -> DegreesOfFreedom:
        """Return itself, or raise if less than one residual degree of freedom is left."""
        if not self.residual >= 1.0:
            raise ArgumentError(
                f"expected at least 1 residual degree of freedom, got {self.residual:.3g} from {self.points} points "
                f"and edf {self.trace:.3g}; widen the bandwidth, lower the degree, or use method='nearest'"
            )
        return self


def others(leverages: FloatArray) -> FloatArray:
    """``1 - l_jj``, the weight of the other responses; NaN where it leaves no residual to divide by.  # (n,)"""
    rest = 1.0 - leverages
    return np.where(rest > SATURATED, rest, np.nan)


def effective_degrees_of_freedom(fit: LinearSmoother) -> DegreesOfFreedom:
    """Traces of the hat matrix in O(n) on a line, without forming it.

    **Covers** neither target: these are properties of the smoother alone.

    Raises
    ------
    ArgumentError
        If the arrays of the fit do not belong together.

    References
    ----------
    Buja, Hastie and Tibshirani (1989), Linear smoothers and additive models, Annals of Statistics 17, section 2.7.
    Loader (1999), Local Regression and Likelihood, section 2.3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import effective_degrees_of_freedom
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((4, 1)), [1.0, 3.0, 1.0, 3.0]).as_fit()  # the mean of y
    >>> effective_degrees_of_freedom(fit)  # one for the mean
    DegreesOfFreedom(points=4, trace=1.0, squared_trace=1.0)
    >>> effective_degrees_of_freedom(fit).residual
    3.0
    """
    fit = checked(fit)
    return traces(fit, fit.smooth(fit.x))


def traces(fit: LinearSmoother, own: LocalValues) -> DegreesOfFreedom:
    """`effective_degrees_of_freedom` of a checked fit, from its values at the design points."""
    weights = fit.weights
    norm = weights * fit.squared_norm(fit.x, own, 1.0 / weights)
    known = own.defined
    return DegreesOfFreedom(int(known.sum()), float(leverage(own, weights)[known].sum()), float(norm[known].sum()))


def effective_sample_size(fit: LinearSmoother, at: FloatArray) -> FloatArray:
    """``n_eff(x) = 1 / sum_j l_j(x)^2``: the mean of as many equally weighted responses has the same variance.  # (m,)

    For degree 0 this is Kish's ``(sum w)^2 / sum w^2``.  Observation weights enter through l alone: this is the number of
    trials behind a proportion, and no weight changes the variance p (1 - p) of a response that is 0 or 1.  **Covers**
    neither target by itself; intervals that use it alone cover the smoothed one, since it does not measure bias.

    Raises
    ------
    ArgumentError
        If the arrays do not belong together.

    References
    ----------
    Kish (1965), Survey Sampling, section 11.7.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import effective_sample_size
    >>> x = np.array([[0.0], [0.5]])
    >>> fit = NadarayaWatson(1.0, kernel="triangular").fit(x, x).as_fit()
    >>> round(float(effective_sample_size(fit, x[:1])[0]), 9)  # weights 1 and .5: (1 + .5)^2 / (1 + .25)
    1.8
    """
    fit = checked(fit)
    at = fit.queries(at)
    values = smooth(fit.spec, fit.x, fit.y[:, :0], fit.weights, at, fit.bandwidth)
    norm = fit.squared_norm(at, values)
    return np.asarray(1.0 / np.where(values.defined, norm, np.nan))
