"""Normal-reference bandwidths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import check_positive
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._constants import from_gaussian
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.smoother import LinearSmoother


@dataclass(frozen=True)
class NormalReference(Selector):
    """``h_j = c A_j n^(-1/(4 + d)) delta_0(K) / delta_0(Gaussian)``, ``A = min(sd, IQR / 1.349)``.

    A scale to start from: it looks at the design only, not at the responses.  With series, n is the mean number of points
    of a series and A the spread of the time within them.

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
    """

    name: str = "rule_of_thumb"
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.factor is not None:
            check_positive(self.factor, "factor", "it multiplies the spread of the design")

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """One bandwidth a dimension; see `Selector.select`."""
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


SELECTORS = (NormalReference(), NormalReference("silverman", 0.9))
