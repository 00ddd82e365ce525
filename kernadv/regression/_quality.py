"""How well a smoother fits its own sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Fewer residual degrees of freedom than this count as none.
FREE = 1e-9
#: A point counts as alone if the others in its window have less weight than this in all.
ALONE = 1e-12


class Quality(NamedTuple):
    """A fit at its own design points; the sums leave out points without an estimate, or with that of the nearest place.

    Attributes
    ----------
    fitted : (n, C) float64
    loo : (n, C) float64
        Estimate at each point without its own response; NaN where no other point is left, unless something stands in.
    points : int
        Number of points with an estimate.
    edf : float
        ``tr S``.
    residual_df : float
        ``n - 2 tr S + tr S'S``, weighted so that it is exact for responses of variance sigma^2 / weight.
    scale : (C,) float64
        Residual standard error sigma; NaN without a residual degree of freedom.
    scales : (S, C) float64
        The same for each series.
    r_squared : (C,) float64
        1 - RSS / TSS; NaN for constant responses.
    loo_rmse : (C,) float64
        NaN if the estimate without its own response does not exist at some point.
    """

    fitted: FloatArray
    loo: FloatArray
    points: int
    edf: float
    residual_df: float
    scale: FloatArray
    scales: FloatArray
    r_squared: FloatArray
    loo_rmse: FloatArray

    def scale_at(self, at: Points) -> FloatArray:
        """Residual standard error of each query's series; arbitrary if the series has no points.  # (m, C)"""
        series = np.zeros(len(at.x), np.int64) if at.series is None else at.series
        return np.asarray(self.scales[np.minimum(series, len(self.scales) - 1)])


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def quality(smoother: LinearSmoother) -> Quality:
    """Fit at the design points, its degrees of freedom and its errors.

    References
    ----------
    Loader (1999), Local Regression and Likelihood, section 2.3 (degrees of freedom), 2.4 (leave-one-out).
    """
    points, n = smoother.points, len(smoother.y)
    plain = smoother.filled("nan", smoother.fall_back) if smoother.empty == "nearest" else smoother
    own = plain.estimate(points, square=True)
    assert own.square is not None
    y, weights, known = smoother.y, smoother.weights, own.defined
    leverage = own.centre * weights
    total = weights[known].sum()
    residual = y - own.value
    rest = (1.0 - leverage)[:, None]
    alone = ~(rest > ALONE)
    loo = np.where(
        alone, np.nan, y - residual / np.where(alone, 1.0, rest)
    )  # exactly what a refit without the point gives
    if smoother.fills and n > 1:
        nothing = False if points.bandwidth is None or smoother.empty == "nearest" else points.bandwidth == 0.0
        for i in np.flatnonzero(alone.any(axis=1) & ~np.ravel(nothing)):  # a window of no width stays so
            others = np.arange(n) != i
            loo[i] = smoother.take(others).estimate(points.take(np.array([i]))).value[0]
    edf = float(leverage[known].sum())
    freedom = 1.0 - 2.0 * leverage + weights * own.square
    squares = weights[:, None] * residual**2
    rss = squares[known].sum(0)
    mean = np.average(y[known], axis=0, weights=weights[known]) if known.any() else np.nan
    tss = (weights[:, None] * (y - mean) ** 2)[known].sum(0)
    nothing = np.full(rss.shape, np.nan)
    return Quality(
        own.value,
        loo,
        int(known.sum()),
        edf,
        float(freedom[known].sum()),
        _scale(squares[known], freedom[known]),
        np.stack([_scale(squares[own], freedom[own]) for own in _series(smoother.series, known)]),
        1.0 - np.divide(rss, tss, out=nothing.copy(), where=tss > 0),
        np.sqrt((weights[:, None] * (y - loo) ** 2).sum(0) / total) if known.all() else nothing,
    )


def _scale(squares: FloatArray, freedom: FloatArray) -> FloatArray:
    """Residual standard error from squared residuals (n, C) and their degrees of freedom (n,).  # (C,)"""
    total = float(freedom.sum())
    return np.asarray(np.sqrt(squares.sum(0) / total) if total > FREE else np.full(squares.shape[1], np.nan))


def _series(series: IntArray | None, known: BoolArray) -> list[IntArray]:
    """The points with an estimate, series by series."""
    rows = np.flatnonzero(known)
    if series is None:
        return [rows]
    rows = rows[np.argsort(series[rows], kind="stable")]
    return np.split(rows, np.searchsorted(series[rows], np.arange(1, int(series.max()) + 1)))
