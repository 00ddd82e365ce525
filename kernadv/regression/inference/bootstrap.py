"""Bootstrap of the residuals; the draws are the columns of the responses of one fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_count, check_level
from kernadv._jit import compiled
from kernadv.regression._threads import blocks, in_parallel
from kernadv.regression.inference._base import SMOOTHED_TARGET, Interval, checked
from kernadv.regression.inference.degrees_of_freedom import others
from kernadv.regression.inference.variance import LOST, standard_error
from kernadv.regression.local.polynomial import leverage
from kernadv.regression.local.products import WIDE, HatProducts
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

MULTIPLIERS = ("rademacher", "mammen")
#: Draws made at once.
BATCH = 256
#: Called with the number of draws that are done and their total.
Progress = Callable[[int, int], None]
#: Of columns of noise (n, draws), for each query: (m, draws).
Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Wild:
    """Residuals stay at their points and are multiplied by independent numbers of mean 0 and variance 1.

    For independent responses, whatever their variances.

    Attributes
    ----------
    multiplier : {"rademacher", "mammen"}
        +-1 with equal chances; or Mammen's two points, whose third moment is 1 as well.

    References
    ----------
    Mammen (1993), Bootstrap and wild bootstrap for high dimensional linear models, Annals of Statistics 21.
    Davidson and Flachaire (2008), The wild bootstrap, tamed at last, Journal of Econometrics 146.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import Wild
    >>> drawn = Wild().noise(np.array([1.0, -2.0]), np.arange(2.0), 100, np.random.default_rng(0))
    >>> np.unique(np.abs(drawn), axis=1)
    array([[1.],
           [2.]])
    """

    multiplier: str = "rademacher"
    #: Standard error by which a draw is divided.
    method = "hc3"

    def __post_init__(self) -> None:
        check_choice(self.multiplier, "multiplier", MULTIPLIERS)

    def noise(self, residual: FloatArray, x: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
        """Noise of some draws, from residuals (n,) at x (n,).  # (n, draws)"""
        noise = rng.random((len(residual), draws))
        if self.multiplier == "rademacher":
            low, values = 0.5, (-1.0, 1.0)
        else:
            root = np.sqrt(5.0)
            low, values = (root + 1.0) / (2.0 * root), ((1.0 - root) / 2.0, (1.0 + root) / 2.0)
        _choose(noise, low, residual * values[0], residual * values[1])
        return noise


@dataclass(frozen=True)
class MovingBlocks:
    """Blocks of successive residuals along the first dimension are drawn with replacement, less their mean.

    Points that share a place have no order; a random one is drawn for every `BATCH` draws.  A residual that moves to another
    point is multiplied by the square root of its own weight and divided by that of the other.

    For stationary noise whose correlation fades within a block.  Smoothing bias in the residuals counts as correlation: take
    a bandwidth that does not oversmooth.

    Attributes
    ----------
    length : int or None
        Points per block; None takes the cube root of n, rounded up.

    References
    ----------
    Kunsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression.inference import MovingBlocks
    >>> up_and_down = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    >>> drawn = MovingBlocks(length=3).noise(up_and_down, np.arange(6.0), 4, np.random.default_rng(0))
    >>> np.abs(np.diff(drawn, axis=0))[[0, 1, 3, 4]]  # within a block the order is kept
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]])
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
        order = np.lexsort([rng.random(n), x])  # ties in an order that is drawn
        ordered, starts, blocks = residual[order], n - length + 1, -(-n // length)
        mean = np.array([ordered[k : k + starts].mean() for k in range(length)])  # of the k-th point of a block
        first = rng.integers(0, starts, (blocks, 1, draws))
        drawn = ordered[first + np.arange(length)[:, None]] - mean[:, None]
        out = np.empty((n, draws))
        out[order] = drawn.reshape(blocks * length, draws)[:n]
        return out


def chosen_scheme(scheme: Wild | MovingBlocks | None) -> Wild | MovingBlocks:
    """Return the scheme, by default Wild(), or raise if it is something else."""
    if scheme is None:
        return Wild()
    if not isinstance(scheme, (Wild, MovingBlocks)):
        raise ArgumentTypeError(f"scheme must be Wild(...) or MovingBlocks(...), got {scheme!r}")
    return scheme


def bootstrap_error(
    fit: LinearSmoother,
    at: FloatArray,
    scheme: Wild | MovingBlocks | None = None,
    *,
    draws: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> FloatArray:
    """Standard deviation of the estimate over the draws.  # (m, C)

    **Covers** the smoothed target, as `kernadv.regression.inference.variance.standard_error` does.

    Parameters
    ----------
    fit : LinearSmoother
    at : (m, d)
        Queries.
    scheme : Wild or MovingBlocks, default Wild()
        How noise is drawn from the residuals over sqrt(1 - leverage).
    draws : int
        At least 2.
    seed : int
    progress : callable, optional
        Called after each batch with the number of draws done and their total over all responses.

    Raises
    ------
    ArgumentError
        No residuals, or blocks over points without one; fewer than 2 draws; bad arrays.

    References
    ----------
    Hardle and Marron (1991), Bootstrap simultaneous error bars for nonparametric regression, Annals of Statistics 19.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import bootstrap_error, standard_error
    >>> rng = np.random.default_rng(0)
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((50, 1)), rng.normal(size=(50, 1))).as_fit()
    >>> at = np.zeros((1, 1))
    >>> ratio = bootstrap_error(fit, at, draws=4000) / standard_error(fit, at, "hc2")
    >>> bool(abs(ratio[0, 0] - 1.0) < 0.05)
    True
    """
    fit, scheme = checked(fit), chosen_scheme(scheme)
    at = fit.queries(at)
    drawn = _resampled(fit, lambda own: _products(own, at).of, scheme, draws, seed, progress)
    out = np.stack([estimates.std(axis=1, ddof=1) for estimates in drawn], axis=1)
    return np.where(np.isnan(standard_error(fit, at, "hc2")), np.nan, out)


def percentile_t(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    scheme: Wild | MovingBlocks | None = None,
    *,
    draws: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> Interval[FloatArray]:
    """``[mhat - t_high se, mhat - t_low se]``, with quantiles of ``t* = (mhat* - E* mhat*) / se*`` over the draws.

    The standard error is hc3 for `Wild` and hac for `MovingBlocks`, in the data and in each draw.

    **Covers** the smoothed target: t* is centred at the mean of the draws.  For a fit of a higher degree
    (``fit.raised()``) the smoothing bias is of a smaller order.

    Parameters
    ----------
    fit, at, scheme, draws, seed, progress
        As in `bootstrap_error`.
    level : float
        Strictly between 0 and 1.

    Returns
    -------
    Interval
        NaN where the estimate is undefined, or rests on a point without a residual.

    References
    ----------
    Hall (1992), The Bootstrap and Edgeworth Expansion, sections 3.5 and 4.5.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import NadarayaWatson
    >>> from kernadv.regression.inference import percentile_t
    >>> rng = np.random.default_rng(0)
    >>> fit = NadarayaWatson(1.0, kernel="uniform").fit(np.zeros((50, 1)), rng.normal(size=(50, 1))).as_fit()
    >>> result = percentile_t(fit, np.zeros((1, 1)))
    >>> bool(result.low[0, 0] < result.estimate[0, 0] < result.high[0, 0]), result.covers
    (True, 'smoothed target')
    """
    tail = 0.5 * (1.0 - check_level(level))
    fit, scheme = checked(fit), chosen_scheme(scheme)
    at = fit.queries(at)
    estimate = fit.smooth(at).value
    error = standard_error(fit, at, scheme.method)
    low, high = np.empty_like(estimate), np.empty_like(estimate)
    for c, t in enumerate(studentised(fit, at, scheme, draws, seed, progress)):
        quantiles = np.quantile(t, [tail, 1.0 - tail], axis=1)
        low[:, c], high[:, c] = estimate[:, c] - quantiles[::-1] * error[:, c]
    return Interval(estimate, low, high, SMOOTHED_TARGET)


def studentised(
    fit: LinearSmoother,
    at: FloatArray,
    scheme: Wild | MovingBlocks,
    draws: int,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[FloatArray]:
    """``t* = (mhat* - E* mhat*) / se*`` of each response, (m, draws); NaN without a standard error."""

    def by_hac(own: LinearSmoother) -> Statistic:
        def t(noise: FloatArray) -> FloatArray:
            drawn = replace(own, y=noise)
            return over(drawn.smooth(at).value, standard_error(drawn, at, scheme.method))

        return t

    def by_hc3(own: LinearSmoother) -> Statistic:
        both = by_leverage(own, at)
        return lambda noise: over(*both(noise))

    statistic = by_hac if scheme.method == "hac" else by_hc3
    return _resampled(fit, statistic, scheme, draws, seed, progress)


def by_leverage(fit: LinearSmoother, at: FloatArray) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """Estimates of columns of responses (n, draws), and their standard errors by hc3.  # (m, draws) each

    What does not depend on the draws is computed once.
    """
    there, own = _products(fit, at), _products(fit, fit.x)
    rest = others(leverage(own.values, fit.weights))
    lonely = np.isnan(rest)
    lost = there.of_squares(np.stack([lonely, np.ones(len(lonely))], axis=1).astype(np.float64))
    unknown = ~there.values.defined | (lost[:, 0] > LOST * lost[:, 1])

    def part(responses: FloatArray) -> tuple[FloatArray, FloatArray]:
        responses = np.ascontiguousarray(responses)
        squares = own.of(responses)
        _square(squares, responses, rest)
        variance = there.of_squares(squares)
        variance[unknown] = np.nan
        return there.of(responses), np.sqrt(np.maximum(variance, 0.0))

    def both(responses: FloatArray) -> tuple[FloatArray, FloatArray]:
        parts = in_parallel(lambda own: part(responses[:, own]), blocks(responses.shape[1], WIDE))
        return np.concatenate([one for one, _ in parts], axis=1), np.concatenate([one for _, one in parts], axis=1)

    return both


@compiled()
def _choose(uniform: FloatArray, low: float, below: FloatArray, above: FloatArray) -> None:
    """One of the two numbers of each row, by whether the uniform number is below `low`; in place."""
    for j in range(len(uniform)):
        for b in range(uniform.shape[1]):
            uniform[j, b] = below[j] if uniform[j, b] < low else above[j]


@compiled(error_model="numpy")
def _square(fitted: FloatArray, noise: FloatArray, rest: FloatArray) -> None:
    """Squares of ``(noise - fitted) / rest``, 0 where there is none; in place."""
    for j in range(len(fitted)):
        for b in range(fitted.shape[1]):
            residual = (noise[j, b] - fitted[j, b]) / rest[j]
            fitted[j, b] = residual * residual if rest[j] > 0.0 else 0.0


def over(estimate: FloatArray, error: FloatArray) -> FloatArray:
    """The ratio; 0 for a draw without noise, which is exact."""
    return np.asarray(estimate / np.where(error == 0.0, np.inf, error))


def _products(fit: LinearSmoother, at: FloatArray) -> HatProducts:
    return HatProducts(fit.spec, fit.x, fit.weights, at, fit.bandwidth)


def _resampled(
    fit: LinearSmoother,
    statistic: Callable[[LinearSmoother], Statistic],
    scheme: Wild | MovingBlocks,
    draws: int,
    seed: int,
    progress: Progress | None,
) -> Iterator[FloatArray]:
    """A statistic (m, draws) of fits to noise alone, for each response.

    A linear smoother turns ``m + noise`` into ``S m + S noise``: without m, estimates are deviations from their mean.
    Points without a residual have no noise: estimates that rest on them have no standard error.
    """
    check_count(draws, "draws", 2)
    fit = fit.take(fit.sorted_rows())
    root = np.sqrt(fit.weights)[:, None]
    residuals = root * resampling_residuals(fit)
    lonely = int(np.isnan(residuals[:, 0]).sum())
    if lonely and isinstance(scheme, MovingBlocks):
        raise ArgumentError(
            f"blocks need the residual of every point, and {lonely} are too lonely to have one; widen the bandwidth"
        )
    compute = statistic(fit)
    rng, total = np.random.default_rng(check_count(seed, "seed", 0)), draws * residuals.shape[1]
    for column, residual in enumerate(np.nan_to_num(residuals).T):
        parts = []
        for low in range(0, draws, BATCH):
            size = min(BATCH, draws - low)
            noise = scheme.noise(residual, fit.x[:, 0], size, rng)
            noise /= root
            parts.append(compute(noise))
            if progress is not None:
                progress(column * draws + low + size, total)
        yield np.concatenate(parts, axis=1)


def resampling_residuals(fit: LinearSmoother) -> FloatArray:
    """``e_j / sqrt(1 - l_jj)``, which have the variance of noise of sigma^2 / omega; NaN where there is none.  # (n, C)"""
    own = fit.smooth(fit.x)
    residuals = (fit.y - own.value) / np.sqrt(others(leverage(own, fit.weights)))[:, None]
    if np.isnan(residuals).all():
        raise ArgumentError("no point has a neighbour within the bandwidth, so there are no residuals; widen it")
    return np.asarray(residuals)
