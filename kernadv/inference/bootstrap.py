"""Bootstrap of the residuals: the responses of all draws are the columns of one `smooth`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kernadv._errors import ArgumentError, check_choice, check_count
from kernadv._typing import FloatArray
from kernadv.inference import variance
from kernadv.inference._base import SMOOTHED_TARGET, Fit, Interval, check_level
from kernadv.smoothers.local_polynomial import smooth

MULTIPLIERS = ("rademacher", "mammen")
#: Draws smoothed at once.
BATCH = 256
#: Called with the number of draws done and their total.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wild:
    """Residuals stay at their points and are multiplied by independent numbers of mean 0 and variance 1.

    For independent responses, whatever their variances.

    Attributes
    ----------
    multiplier : {"rademacher", "mammen"}
        +-1 with equal chances; or Mammen's two points, whose third moment is 1 too.

    References
    ----------
    Mammen (1993), Bootstrap and wild bootstrap for high dimensional linear models, Annals of Statistics 21.
    Davidson and Flachaire (2008), The wild bootstrap, tamed at last, Journal of Econometrics 146.
    """

    multiplier: str = "rademacher"
    #: Standard error by which a draw is divided.
    method = "hc3"

    def __post_init__(self) -> None:
        check_choice(self.multiplier, "multiplier", MULTIPLIERS)

    def noise(self, residual: FloatArray, x: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
        """Noise of some draws, from residuals (n,) at x (n,).  # (n, draws)"""
        uniform = rng.random((len(residual), draws))
        if self.multiplier == "rademacher":
            return np.asarray(residual[:, None] * np.where(uniform < 0.5, -1.0, 1.0))
        root = np.sqrt(5.0)
        low = uniform < (root + 1.0) / (2.0 * root)
        return np.asarray(residual[:, None] * np.where(low, (1.0 - root) / 2.0, (1.0 + root) / 2.0))


@dataclass(frozen=True)
class MovingBlocks:
    """Blocks of successive centred residuals, in order of the first dimension, are drawn with replacement.

    For stationary noise whose correlation fades within a block.  The smoothing bias in the residuals counts as correlation:
    take a bandwidth that does not oversmooth.

    Attributes
    ----------
    length : int or None
        Points a block; None takes the cube root of n, rounded up.

    References
    ----------
    Kunsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17.
    """

    length: int | None = None
    #: Standard error by which a draw is divided.
    method = "hac"

    def __post_init__(self) -> None:
        if self.length is not None:
            check_count(self.length, "length")

    def noise(self, residual: FloatArray, x: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
        """Noise of some draws, from residuals (n,) at x (n,).  # (n, draws)"""
        n = len(residual)
        length = int(np.ceil(n ** (1.0 / 3.0))) if self.length is None else self.length
        if length > n:
            raise ArgumentError(f"a block of {length} points needs as many, got {n}")
        order = np.argsort(x, kind="stable")
        blocks = -(-n // length)
        start = rng.integers(0, n - length + 1, (blocks, 1, draws))
        index = (start + np.arange(length)[:, None]).reshape(blocks * length, draws)[:n]
        out = np.empty((n, draws))
        out[order] = (residual - residual.mean())[order][index]
        return out


def bootstrap_error(
    fit: Fit,
    at: FloatArray,
    scheme: Wild | MovingBlocks | None = None,
    *,
    draws: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> FloatArray:
    """Standard deviation of the estimate over the draws.  # (m, C)

    **Covers** the smoothed target, as `kernadv.inference.variance.standard_error` does.

    Parameters
    ----------
    fit : Fit
    at : (m, d)
        Queries.
    scheme : Wild or MovingBlocks, default Wild()
        How noise is drawn from the residuals, which are first divided by sqrt(1 - leverage).
    draws : int
        At least 2.
    seed : int
    progress : callable, optional
        Called after each batch with the number of draws done and their total over all responses.

    Raises
    ------
    ArgumentError
        Points without a residual, fewer than 2 draws, bad arrays.

    References
    ----------
    Hardle and Marron (1991), Bootstrap simultaneous error bars for nonparametric regression, Annals of Statistics 19.
    """
    fit, scheme = fit.checked(), scheme or Wild()
    at = fit.queries(at)
    columns: list[list[FloatArray]] = [[] for _ in range(fit.y.shape[1])]
    for column, drawn in _draws(fit, scheme, draws, seed, progress):
        columns[column].append(smooth(drawn.how, drawn.x, drawn.y, drawn.weights, at, drawn.bandwidth).value)
    return np.stack([np.concatenate(parts, axis=1).std(axis=1, ddof=1) for parts in columns], axis=1)


def percentile_t(
    fit: Fit,
    at: FloatArray,
    level: float = 0.95,
    scheme: Wild | MovingBlocks | None = None,
    *,
    draws: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> Interval:
    """``[mhat - t_high se, mhat - t_low se]``, with quantiles of ``t* = (mhat* - E* mhat*) / se*`` over the draws.

    The standard error is hc3 for `Wild` and hac for `MovingBlocks`, in the data and in each draw.

    **Covers** the smoothed target: t* is centred at the mean of the draws.  On the fit of one degree more
    (``fit.raised()``) the smoothing bias is of a smaller order.

    Parameters
    ----------
    fit, at, scheme, draws, seed, progress
        As in `bootstrap_error`.
    level : float
        Strictly between 0 and 1.

    References
    ----------
    Hall (1992), The Bootstrap and Edgeworth Expansion, sections 3.5 and 4.5.
    """
    tail = 0.5 * (1.0 - check_level(level))
    fit, scheme = fit.checked(), scheme or Wild()
    at = fit.queries(at)
    estimate = smooth(fit.how, fit.x, fit.y, fit.weights, at, fit.bandwidth).value
    error = variance.standard_error(fit, at, scheme.method)
    columns: list[list[FloatArray]] = [[] for _ in range(fit.y.shape[1])]
    for column, drawn in _draws(fit, scheme, draws, seed, progress):
        spread = variance.standard_error(drawn, at, scheme.method)
        spread = np.where(spread > 0.0, spread, np.inf)  # a draw without noise is exact
        deviation = smooth(drawn.how, drawn.x, drawn.y, drawn.weights, at, drawn.bandwidth).value
        columns[column].append(deviation / spread)
    low, high = np.empty_like(estimate), np.empty_like(estimate)
    for c, parts in enumerate(columns):
        quantiles = np.quantile(np.concatenate(parts, axis=1), [tail, 1.0 - tail], axis=1)
        low[:, c], high[:, c] = estimate[:, c] - quantiles[::-1] * error[:, c]
    undefined = np.isnan(estimate)
    low[undefined], high[undefined] = np.nan, np.nan
    return Interval(estimate, low, high, SMOOTHED_TARGET)


def _draws(
    fit: Fit, scheme: Wild | MovingBlocks, draws: int, seed: int, progress: Progress | None
) -> Iterator[tuple[int, Fit]]:
    """Fits whose responses are the noise of some draws: (which response, fit with draws as responses).

    A linear smoother turns ``m + noise`` into ``S m + S noise``: without m, estimates are deviations from their mean.
    """
    if check_count(draws, "draws") < 2:
        raise ArgumentError("draws must be at least 2, got 1")
    residuals = variance.inflated_residuals(fit, "hc2")
    rng, total = np.random.default_rng(seed), draws * residuals.shape[1]
    for column in range(residuals.shape[1]):
        for low in range(0, draws, BATCH):
            size = min(BATCH, draws - low)
            yield column, fit._replace(y=scheme.noise(residuals[:, column], fit.x[:, 0], size, rng))
            if progress is not None:
                progress(column * draws + low + size, total)
