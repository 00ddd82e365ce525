"""Rules of thumb: from the spread of the design, and from one quartic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import ArgumentError, check_positive, check_range
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._constants import canonical, from_gaussian
from kernadv.regression.bandwidth._ordered import Ordered, prepare, prepare_curve
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray


@dataclass(frozen=True)
class NormalReference(Selector):
    """``h_j = c A_j n^(-1/(4 + d)) delta_0(K) / delta_0(Gaussian)``, ``A = min(sd, IQR / 1.349)``.

    A scale to start from: it depends on the design only, not on the responses.  With series, n is the mean number of points
    of a series, and A the spread within them.

    Parameters
    ----------
    name : str
    factor : float, optional
        c; default ``(4 / (d + 2))^(1 / (d + 4))``, 1.06 on a line, which is optimal for the density of a normal design.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis, sections 3.4.2 and 4.3.2.
    Scott (1992), Multivariate Density Estimation, section 6.3.
    Marron and Nolan (1988), Canonical kernels for density estimation, Statistics & Probability Letters 7.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> x = np.random.default_rng(0).normal(size=1000)
    >>> model = NadarayaWatson("rule_of_thumb", kernel="gaussian").fit(x, x)
    >>> sd = min(x.std(ddof=1), np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.349)
    >>> bool(np.isclose(model.bandwidth_[0], (4 / 3) ** 0.2 * sd * 1000**-0.2))
    True
    """

    name: str = "rule_of_thumb"
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.factor is not None:
            check_positive(self.factor, "factor", "it multiplies the spread of the design")

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """One bandwidth per dimension; see `Selector.select`."""
        sample = prepare(smoother)
        d = sample.x.shape[1]
        factor = (4.0 / (d + 2.0)) ** (1.0 / (d + 4.0)) if self.factor is None else self.factor
        count = len(sample.x) / sample.n_series
        bandwidth = factor * from_gaussian(sample.spec.kernel) * spread(sample.x) * count ** (-1.0 / (4.0 + d))
        return Selection(bandwidth, bandwidth[None], np.full(1, np.nan), "normal reference rule", False, False)


def spread(x: FloatArray) -> FloatArray:
    """Robust standard deviation of each dimension, ``min(sd, IQR / 1.349)``; sd where the IQR is 0.  # (d,)"""
    deviation = x.std(0, ddof=1)
    quartiles = np.quantile(x, [0.25, 0.75], axis=0)
    robust = (quartiles[1] - quartiles[0]) / 1.349
    return np.asarray(np.where(robust > 0.0, np.minimum(deviation, robust), deviation))


@dataclass(frozen=True)
class QuarticRule(Selector):
    """``h = delta_0(K) (sigma^2 int w_0 / sum_i m''(x_i)^2 w_0(x_i))^(1/5)``, m and sigma^2 from a global quartic.

    w_0 is 1, except near the ends of the design.  For local linear fits on a line; for degree 0 the design bias is
    neglected.  Too wide for curves that a quartic cannot follow.

    Parameters
    ----------
    boundary : float
        Share of the range at each end where w_0 is 0.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> x = np.linspace(0.0, 1.0, 60)
    >>> wavy, straight = (LocalLinear("quartic_rule").fit(x, y + 0.1 * np.cos(1000 * x)) for y in (np.sin(6 * x), x))
    >>> bool(wavy.bandwidth_[0] < straight.bandwidth_[0])
    True
    """

    name = "quartic_rule"
    boundary: float = 0.05

    def __post_init__(self) -> None:
        check_range(self.boundary, "boundary", 0.0, 0.49)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """One bandwidth; see `Selector.select`.  If the quartic has no curvature, the widest one."""
        sample = prepare_curve(self.name, smoother)
        u, c, variance = quartic(sample)
        if len(np.unique(u)) < 6:
            raise ArgumentError(f"{self.name} needs at least 6 distinct x, got {len(np.unique(u))}; use leave_one_out")
        inner = np.abs(u) <= 1.0 - 2.0 * self.boundary
        second = np.polynomial.legendre.legval(u[inner], np.polynomial.legendre.legder(c, 2))  # (C, n)
        curvature = float((second**2 @ sample.weights[inner]).sum())
        width = 2.0 * (1.0 - 2.0 * self.boundary)
        straight = curvature <= 1e-20 * float(sample.variance.sum()) * len(u)
        bandwidth = np.inf if straight else canonical(sample.spec.kernel) * (variance * width / curvature) ** 0.2
        return sample.kept(float(bandwidth) * float(sample.span[0]) / 2.0, "quartic rule of thumb")


def quartic(sample: Ordered) -> tuple[FloatArray, FloatArray, float]:
    """One quartic over the design, scaled to [-1, 1]: the design (n,), Legendre coefficients (5, C), residual variance."""
    u = np.asarray(sample.x[:, 0] / (float(sample.span[0]) / 2.0) - 1.0)
    design = np.polynomial.legendre.legvander(u, 4)
    root = np.sqrt(sample.weights)[:, None]
    c = np.asarray(np.linalg.lstsq(root * design, root * sample.y, rcond=None)[0], np.float64)
    squares = float((sample.weights @ (sample.y - design @ c) ** 2).sum())
    return u, c, squares / max(len(u) - 5, 1)


SELECTORS = (NormalReference(), NormalReference("silverman", 0.9), QuarticRule())
