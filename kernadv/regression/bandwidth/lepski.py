"""Lepski's rule: at each query the widest bandwidth that contradicts no narrower one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernadv._errors import check_count, check_positive
from kernadv.regression._threads import in_parallel
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._ordered import Ordered, prepare_curve
from kernadv.regression.noise import difference_variance
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray


@dataclass(frozen=True)
class Lepski(Selector):
    """One bandwidth per query, by intersecting confidence intervals.

    The intervals ``m(q; h) +- constant sigma |l(q; h)|`` are intersected from the narrowest bandwidth upwards.  The last
    bandwidth before the intersection becomes empty is chosen: there the bias is about as large as the standard deviation.
    sigma is the same everywhere, estimated from differences of neighbours and of ties.  With several responses, the first
    contradiction counts.

    Choosing at every query separately costs variance: on a curve of even roughness the risk is about twice that of one
    bandwidth from cross-validation.  It pays where narrow features stand on a smooth curve.  The defaults are a compromise
    over three such curves at n = 400 and 1600.  `curve` is the share of the queries at which the intersection is empty.

    Parameters
    ----------
    constant : float
        Half-width of the intervals in standard deviations: larger is smoother.
    size : int
        Bandwidths of the log grid.
    fewest : float
        Least effective sample size ``1 / |l|^2`` per coefficient of the local polynomial.

    References
    ----------
    Lepskii (1991), On a problem of adaptive estimation in Gaussian white noise, Theory of Probability & Its Applications 35.
    Goldenshluger and Nemirovski (1997), On spatially adaptive estimation of nonparametric regression, Mathematical Methods
    of Statistics 6.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> rng = np.random.default_rng(0)
    >>> x = rng.random(400)
    >>> model = LocalLinear("lepski").fit(x, np.where(x < 0.5, 0.0, np.sin(30 * x)) + 0.1 * rng.normal(size=400))
    >>> bool(np.median(model.bandwidth_[x < 0.4]) > 2 * np.median(model.bandwidth_[x > 0.6]))  # wide where m is flat
    True
    """

    name = "lepski"
    constant: float = 1.0
    size: int = 24
    fewest: float = 12.0

    def __post_init__(self) -> None:
        check_positive(self.constant, "constant", "it is the half-width of the intervals in standard deviations")
        check_count(self.size, "size", 3, most=2**20)
        check_positive(self.fewest, "fewest", "it is an effective sample size a coefficient")

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """A bandwidth (m, 1) at the queries, by default the design points; see `Selector.select`."""
        sample = prepare_curve(self.name, smoother, degrees=(0, 1, 2, 3), past=True)
        queries = sample.shifted(smoother, at)
        low, high = sample.bounds()
        grid = low * (high / low) ** np.linspace(0.0, 1.0, self.size)[:, None]
        noise = difference_variance(sample.x[:, 0], sample.y, sample.weights)
        bounds = in_parallel(lambda h: self._interval(sample, queries, h, noise), list(grid))
        lower = np.maximum.accumulate([b[0] for b in bounds])  # (H, m, C)
        upper = np.minimum.accumulate([b[1] for b in bounds])
        agree = np.all(lower <= upper, axis=2)  # (H, m), true from the narrowest on
        last = agree.sum(0) - 1
        usable = np.array([np.isfinite(b[1]).all(1) for b in bounds])
        last = np.maximum(last, np.where(usable.any(0), usable.argmax(0), len(grid) - 1))
        curve = 1.0 - agree.mean(1)
        at_edge = bool(np.isin(last, (0, len(grid) - 1)).any())
        return Selection(grid[last], grid, curve, "share of contradictions", at_edge, bool(np.ptp(curve) == 0.0))

    def _interval(
        self, sample: Ordered, queries: FloatArray, bandwidth: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Ends of the intervals at one bandwidth; infinite where undefined.  # (m, C) each"""
        smoother = sample.with_bandwidth(bandwidth)
        fit = smoother.smooth(queries)
        norm = smoother.squared_norm(
            queries, fit, 1.0 / sample.weights
        )  # the variance of a response is sigma^2 / omega
        half = self.constant * np.sqrt(np.maximum(norm, 0.0)[:, None] * noise)
        rounding = 1e-9 * np.sqrt(sample.variance)
        known = (fit.defined & (norm * self.fewest <= sample.spec.degree + 1))[:, None]
        return (
            np.where(known, fit.value - half - rounding, -np.inf),
            np.where(known, fit.value + half + rounding, np.inf),
        )


SELECTORS = (Lepski(),)
