"""Bands on a line, which hold at all queries simultaneously."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from kernadv._errors import ArgumentError, check_choice, check_count, check_level, check_positive, check_range
from kernadv.regression.inference._base import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval, checked
from kernadv.regression.inference.bootstrap import (
    BATCH,
    MovingBlocks,
    Wild,
    by_leverage,
    chosen_scheme,
    over,
    resampling_residuals,
    studentised,
)
from kernadv.regression.inference.degrees_of_freedom import effective_sample_size, traces
from kernadv.regression.inference.dependent import hat_blocks
from kernadv.regression.inference.intervals import around, estimate_and_size
from kernadv.regression.inference.skewness import estimate_skewness, half_widths, residual_skewness
from kernadv.regression.inference.two_values import PROPORTION, by_column, proportion_interval, wider
from kernadv.regression.inference.variance import ONE_VARIANCE, standard_error
from kernadv.regression.local.polynomial import smooth
from kernadv.regression.local.products import HatProducts
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray

#: The curve of unit hat vectors is cut into twice as many chords until its length changes by less than this share.
LENGTH = 1e-3
#: Fewest and most chords.
CHORDS = (256, 16384)
#: Draws for the largest of many errors; half as many beyond `MANY` points: chance then moves a width by 1.7, not 1.2%.
DRAWS, MANY = 1000, 50_000
#: Draws that choose their bandwidths.
CHOOSERS = 500
METHODS = ("sup_t", "tube")


class Choice(NamedTuple):
    """How the bandwidth of a fit was chosen, so that draws can choose theirs.

    Attributes
    ----------
    degree : int
        Of the fit whose bandwidth is chosen; that of the band may be higher.
    best : callable
        The bandwidth (C, 1) that each response of a fit would get.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import LeaveOneOut
    >>> from kernadv.regression.inference import Choice, multiplier_bootstrap
    >>> rng = np.random.default_rng(3)
    >>> x = rng.random(60)[:, None]
    >>> model = LocalLinear("leave_one_out").fit(x, np.sin(6 * x) + 0.5 * rng.normal(size=(60, 1)))
    >>> fit, grid, at = model.as_fit(), model.selection_.grid[8:], np.linspace(0.1, 0.9, 9)[:, None]
    >>> choice = Choice(fit.spec.degree, lambda drawn: LeaveOneOut().best_each(drawn, grid))
    >>> fixed, chosen = (multiplier_bootstrap(fit.raised(), at, draws=200, choice=how) for how in (None, choice))
    >>> bool((chosen.high - chosen.low > fixed.high - fixed.low).all())
    True
    """

    degree: int
    best: Callable[[LinearSmoother], FloatArray]


class BandParts(NamedTuple):
    """How bands are computed, by a method, from moments or from rows: functions of a smoother and queries."""

    usual: Callable[..., Interval]  # and of the level
    critical: Callable[..., float]  # and of the level: critical value of the largest normal error
    estimate_and_size: Callable[..., tuple[FloatArray, FloatArray]]  # as in `IntervalParts`


def band(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    method: str = "sup_t",
    *,
    bias_corrected: bool = True,
    choice: Choice | None = None,
) -> Interval[FloatArray]:
    """Band of the method that suits each column of the responses.

    Errors are taken as independent.  For others ask a regressor: ``band(X, errors="cluster")`` or ``"serial"``.

    **Covers** the regression function at all queries, simultaneously, as `interval` does at each; without
    `bias_corrected` the smoothed target.

    Columns of two values get Jeffreys' limits with n_eff responses, at the level at which a normal error of the estimate
    would be that large somewhere: with rare successes the residuals are 0 in most windows, of no use to draws and formulas.
    With `bias_corrected` they get the wider limits of two such bands, of the fit and of the raised fit, or those of the fit
    alone where the window is too small for the other.  Simulated (benchmarks/coverage.py), a nominal 95% with
    `bias_corrected` covers 97 to 99% with a fixed bandwidth, 93 to 98% with one chosen by leave-one-out.

    Parameters
    ----------
    fit : LinearSmoother
        In one dimension.
    at : (m, 1)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"sup_t", "tube"}
        `multiplier_bootstrap`, at the queries, with 500 draws beyond 50,000 points; or `tube`, between them too.
    bias_corrected : bool
    choice : Choice, optional
        As in `multiplier_bootstrap`.

    Returns
    -------
    Interval
        NaN where the responses of the window say too little, as in `interval`.

    Raises
    ------
    ArgumentError
        As the function of that method.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import band
    >>> x = np.linspace(0.0, 1.0, 41)[:, None]
    >>> fit = LocalLinear(0.5, kernel="triangular").fit(x, np.zeros((41, 1))).as_fit()
    >>> got = band(fit, x)  # no success: a band of probabilities all the same
    >>> bool((got.low == 0.0).all()), bool(((got.high > 0.2) & (got.high < 0.9)).all())
    (True, True)
    """
    check_choice(method, "method of a band", METHODS)
    fit = _on_a_line(fit)
    draws = DRAWS if len(fit.x) <= MANY else DRAWS // 2
    drawn = MOMENTS._replace(usual=partial(multiplier_bootstrap, choice=choice, draws=draws))
    return make_band(fit, fit.queries(at), level, bias_corrected, drawn if method == "sup_t" else TUBE)


def make_band(
    fit: LinearSmoother, at: Any, level: float, bias_corrected: bool, parts: BandParts
) -> Interval[FloatArray]:
    """`band`, computed from these parts; `at` is what they take."""
    check_level(level)
    chosen, covers = _chosen(fit, bias_corrected)

    def two(columns: BoolArray) -> Interval[FloatArray]:
        own, made = fit.responses(columns), []
        for one in (own.raised(), own) if bias_corrected else (own,):
            tail = float(ndtr(-parts.critical(one, at, level)))
            made.append(proportion_interval(own.y, *parts.estimate_and_size(one, at), tail, PROPORTION, covers))
        return reduce(wider, made)

    made = by_column(fit.y, two, lambda columns: parts.usual(chosen.responses(columns), at, level))
    return made._replace(covers=covers)


def tube(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    method: str = "homoskedastic",
    *,
    bias_corrected: bool = False,
) -> Interval[FloatArray]:
    """``mhat(x) +- c sigma |l(x)|`` for all x between the smallest and the largest query, simultaneously.

    ``|l|^2 = sum_j l_j^2 / omega_j`` with the weights omega of the fit.  c solves ``P(c) = 1 - level`` of
    `tube_probability`, with the residual degrees of freedom of sigma for "homoskedastic".

    **Covers** the smoothed target, simultaneously; with `bias_corrected` (`LinearSmoother.raised`, same bandwidth) the
    regression function.  For independent normal responses of the variances ``sigma^2 / omega``; for responses of two values
    see `band`.

    Parameters
    ----------
    fit : LinearSmoother
        In one dimension, where no window between the queries is empty.
    at : (m, 1)
        Queries.
    level : float
        Strictly between 0 and 1.
    method : {"homoskedastic", "difference"}
        Which sigma.
    bias_corrected : bool

    Raises
    ------
    ArgumentError
        More than one dimension, unknown method, a window that does not determine the polynomial, bad arrays.

    References
    ----------
    Sun and Loader (1994), Simultaneous confidence bands for linear regression and smoothing, Annals of Statistics 22.
    Loader (1999), Local Regression and Likelihood, section 9.2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import normal, tube
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> fit = LocalLinear(0.3, kernel="triangular").fit(x, np.sin(9 * x)).as_fit()
    >>> everywhere, each = tube(fit, x), normal(fit, x, method="homoskedastic")
    >>> bool((everywhere.high > each.high).all()), everywhere.covers
    (True, 'smoothed target')
    """
    check_level(level)
    check_choice(method, "method", ONE_VARIANCE)
    fit, covers = _chosen(_on_a_line(fit), bias_corrected)
    at = fit.queries(at)
    freedom = traces(fit, fit.smooth(fit.x)).enough().residual if method == "homoskedastic" else np.inf
    critical = _tube_critical_value(fit, at, level, freedom)
    return around(fit, at, critical * standard_error(fit, at, method), ndtr(-critical), covers)


def kappa(fit: LinearSmoother, low: float, high: float) -> float:
    """Arc length of ``l(x) / |l(x)|`` from low to high: pi times the number of independent comparisons of a band.

    l are the hat vectors of the fit over the square roots of its weights: those of responses of one variance.

    **Covers** nothing by itself: it is a property of the smoother.

    Parameters
    ----------
    fit : LinearSmoother
        In one dimension.
    low, high : float

    References
    ----------
    Sun and Loader (1994), Annals of Statistics 22, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import kappa
    >>> x = np.array([[-1.0], [1.0]])  # a line through two points: l turns by a right angle
    >>> fit = LocalLinear(1.0, kernel="gaussian").fit(x, x).as_fit()
    >>> round(kappa(fit, -1.0, 1.0), 4)  # pi / 2
    1.5708
    """
    fit = _on_a_line(fit)
    low, high = (check_range(end, name, -np.inf) for name, end in (("low", low), ("high", high)))
    chords, length, before = CHORDS[0], 0.0, np.inf
    while chords <= CHORDS[1] and abs(length - before) > LENGTH * length:
        before, length = length, _arc(fit, np.linspace(low, high, chords + 1)[:, None])
        chords *= 2
    return length


def tube_probability(critical: float, arc: float, freedom: float = np.inf) -> float:
    """Chance that the standardised error exceeds `critical` somewhere.

    ``(kappa / pi) exp(-c^2 / 2) + 2 (1 - Phi(c))``; with v degrees of freedom of sigma,
    ``(kappa / pi) (1 + c^2 / v)^(-v / 2) + 2 P(T_v > c)``.  **Covers** nothing by itself; see `tube`.

    References
    ----------
    Sun and Loader (1994), Annals of Statistics 22, equations of section 3.

    Examples
    --------
    >>> from kernadv.regression.inference import tube_probability
    >>> round(tube_probability(1.96, 0.0), 4)  # one comparison: the normal distribution
    0.05
    """
    critical, arc = check_range(critical, "critical", 0.0), check_range(arc, "arc", 0.0)
    freedom = check_positive(freedom, "freedom", "infinity for a known variance", allow_inf=True)
    if np.isinf(freedom):
        return float(arc / np.pi * np.exp(-0.5 * critical**2) + 2.0 * ndtr(-critical))
    tail = np.exp(-0.5 * freedom * np.log1p(critical**2 / freedom))
    return float(arc / np.pi * tail + 2.0 * stdtr(freedom, -critical))


def tube_critical_value(arc: float, level: float = 0.95, freedom: float = np.inf) -> float:
    """The c at which `tube_probability` is 1 - level.  **Covers** nothing by itself; see `tube`.

    Examples
    --------
    >>> from kernadv.regression.inference import tube_critical_value
    >>> round(tube_critical_value(0.0), 2), round(tube_critical_value(0.0, freedom=10.0), 2)  # normal, and Student's t
    (1.96, 2.23)
    """
    check_level(level)
    highest = 10.0
    while tube_probability(highest, arc, freedom) > 1.0 - level:
        highest *= 10.0
    return float(brentq(lambda c: tube_probability(c, arc, freedom) - (1.0 - level), 0.0, highest, xtol=1e-12))


def _tube_critical_value(fit: LinearSmoother, at: FloatArray, level: float, freedom: float = np.inf) -> float:
    """`tube_critical_value` for all x between the smallest and the largest query."""
    if not len(at):
        raise ArgumentError("a band needs at least one query; it holds between the smallest and the largest")
    return tube_critical_value(kappa(fit, float(at.min()), float(at.max())), level, freedom)


def multiplier_bootstrap(
    fit: LinearSmoother,
    at: FloatArray,
    level: float = 0.95,
    scheme: Wild | MovingBlocks | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    bias_corrected: bool = False,
    choice: Choice | None = None,
) -> Interval[FloatArray]:
    """``mhat(x) +- c se(x)`` at all queries simultaneously (sup-t), c by a bootstrap of the largest t.

    A draw is ``max_x |t*(x)|`` with ``t* = (mhat* - E* mhat*) / se*`` of resampled responses; c is its level-quantile.  The
    standard error is hc3 for `Wild` and hac for `MovingBlocks`, in the data and in each draw.  Dividing each draw by its own
    standard error keeps the level at boundaries of small samples, where the standard error itself is uncertain.  The limits
    allow for the skewness of the residuals, see `kernadv.regression.inference.skewness`.

    **Covers** the smoothed target at all queries, simultaneously; with `bias_corrected` (`LinearSmoother.raised`, same
    bandwidth) the regression function.  For independent responses, whatever their variances, or with `MovingBlocks` for
    stationary noise; for responses of two values see `band`.  Simulated (benchmarks/coverage.py), a nominal 95% with
    `bias_corrected` covers 94% at n = 300 and 100; with the bandwidth chosen by leave-one-out, and `choice`, 92 to 97%; with
    `MovingBlocks` 89% at n = 400 and an autocorrelation of .5, where without blocks it is 30%.

    Parameters
    ----------
    fit : LinearSmoother
        In one dimension.
    at : (m, 1)
        Queries: the band holds at these, so take a grid much finer than the bandwidth.
    level : float
        Strictly between 0 and 1.
    scheme : Wild or MovingBlocks, default Wild()
        How noise is drawn from the residuals.
    draws : int
        At least 2.
    seed : int
    bias_corrected : bool
    choice : Choice, optional
        How the bandwidth was chosen: the band allows for that.  Where noise looks like a curve, a narrow bandwidth is
        chosen, and the estimate follows the noise; with a bandwidth that counts as fixed the band is then too narrow.  For
        bands of the regression function, with `Wild`, of some hundred points: all draws are held at once.

    Returns
    -------
    Interval
        NaN where the estimate is undefined, rests on a point without a residual, or has a standard error with less than one
        degree of freedom according to the draws; the band holds at the other queries.

    Raises
    ------
    ArgumentError
        More than one dimension, no residuals, or blocks over points without one; bandwidths chosen for blocks; bad arrays.

    References
    ----------
    Chernozhukov, Chetverikov and Kato (2013), Gaussian approximations and multiplier bootstrap for maxima of sums of
    high-dimensional random vectors, Annals of Statistics 41.
    Montiel Olea and Plagborg-Moller (2019), Simultaneous confidence bands, Journal of Applied Econometrics 34 (sup-t).
    Davidson and Flachaire (2008), The wild bootstrap, tamed at last, Journal of Econometrics 146 (why +-1).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import multiplier_bootstrap, normal
    >>> x = np.linspace(0.0, 1.0, 21)[:, None]
    >>> fit = LocalLinear(0.3, kernel="triangular").fit(x, np.sin(9 * x)).as_fit()
    >>> band = multiplier_bootstrap(fit, x, draws=200, bias_corrected=True)
    >>> bool((band.high > normal(fit.raised(), x).high).all()), band.covers
    (True, 'regression function')
    """
    check_level(level)
    (fit, covers), scheme = _chosen(_on_a_line(fit), bias_corrected), chosen_scheme(scheme)
    at = fit.queries(at)
    error, critical = standard_error(fit, at, scheme.method), np.empty(fit.y.shape[1])
    factor = np.ones(fit.y.shape[1])
    if choice is not None:
        if not isinstance(scheme, Wild):
            raise ArgumentError("draws choose their bandwidths with scheme=Wild() only")
        factor = widening(fit, at, level, scheme, choice, min(draws, CHOOSERS), seed)
    for c, t in enumerate(studentised(fit, at, scheme, draws, seed)):
        critical[c], known = largest_t(np.nan_to_num(np.abs(t)), level)
        critical[c] *= factor[c]
        error[~known, c] = np.nan
    half = half_widths(error, critical, estimate_skewness(fit, at)[:, None] * residual_skewness(fit))
    return around(fit, at, half, ndtr(-critical), covers)


def widening(
    fit: LinearSmoother, at: FloatArray, level: float, scheme: Wild, choice: Choice, draws: int, seed: int
) -> FloatArray:
    """Factor of the critical value that allows for the choice of the bandwidth, at least 1.  # (C,)

    Draws are noise around the fit of the degree whose bandwidth was chosen: that of the band follows the noise more, and
    they would take it for a curve.  The largest t of each, with the bandwidth that it chooses, is divided by the critical
    value that belongs to this bandwidth as a fixed one; the factor is the level-quantile.  Each response chooses by itself.
    Meant for hundreds of points: all draws, (n, draws), are held at once.

    References
    ----------
    Beran (1987), Prepivoting to reduce level error of confidence sets, Biometrika 74.
    """
    fit, rng = fit.take(fit.sorted_rows()), np.random.default_rng(check_count(seed, "seed", 0))
    plain = replace(fit, spec=replace(fit.spec, degree=choice.degree))
    own, there, root = plain.smooth(fit.x), plain.smooth(at).value, np.sqrt(fit.weights)
    middle, residuals = np.where(own.defined[:, None], own.value, fit.y), np.nan_to_num(resampling_residuals(fit))
    found = np.empty(fit.y.shape[1])
    for c in range(len(found)):
        noise = scheme.noise(root * residuals[:, c], fit.x[:, 0], draws, rng) / root[:, None]
        y, largest = middle[:, [c]] + noise, np.empty(draws)
        bandwidth = choice.best(replace(plain, y=y))[:, 0]
        for h in np.unique(bandwidth):
            both, chose = by_leverage(fit.with_bandwidth(np.array([h])), at), bandwidth == h
            critical, known = largest_t(np.nan_to_num(np.abs(over(*both(noise)))), level)
            value, error = both(y[:, chose])
            t = np.nan_to_num(np.abs(over(value - there[:, [c]], error)))
            largest[chose] = t[known].max(axis=0, initial=0.0) / critical
        found[c] = np.quantile(largest, level)
    return np.maximum(found, 1.0)


def largest_t(t: FloatArray, level: float) -> tuple[float, BoolArray]:
    """Critical value of a sup-t band from its draws ``|t|`` (m, draws), and the queries for which it holds.

    A query whose own quantile lies beyond that of Student's t with 1 degree of freedom is left out: its standard error is
    worthless.  No band is narrower than a normal interval.
    """
    tail = 0.5 + 0.5 * level
    known = np.quantile(t, level, axis=1) <= stdtrit(1.0, tail)
    return max(float(np.quantile(t[known].max(axis=0, initial=0.0), level)), float(ndtri(tail))), known


def largest_normal(fit: LinearSmoother, at: FloatArray, level: float) -> float:
    """Level-quantile of the largest ``|l(x)'e| / |l(x)|`` over the queries, e independent and normal: simulated."""
    fit = fit.take(fit.sorted_rows())
    rng, root = np.random.default_rng(0), np.sqrt(effective_sample_size(fit, at))[:, None]
    products, largest = HatProducts(fit.spec, fit.x, fit.weights, at, fit.bandwidth), []
    for low in range(0, DRAWS, BATCH):
        noise = rng.standard_normal((len(fit.x), min(BATCH, DRAWS - low)))
        t = products.of(noise) * root
        largest.append(np.nan_to_num(np.abs(t)).max(axis=0, initial=0.0))
    return float(np.quantile(np.concatenate(largest), level))


def _chosen(fit: LinearSmoother, bias_corrected: bool) -> tuple[LinearSmoother, str]:
    """The fit that a band is made of, and what the band covers."""
    return (fit.raised(), REGRESSION_FUNCTION) if bias_corrected else (fit, SMOOTHED_TARGET)


def _on_a_line(fit: LinearSmoother) -> LinearSmoother:
    """`checked`, in one dimension."""
    fit = checked(fit)
    if fit.x.shape[1] != 1:
        raise ArgumentError(f"bands are for one dimension, got {fit.x.shape[1]}; use pointwise intervals")
    return fit


def _arc(fit: LinearSmoother, grid: FloatArray) -> float:
    """Sum of the angles between the hat vectors of successive points of the grid."""
    values = smooth(fit.spec, fit.x, fit.y[:, :0], fit.weights, grid, fit.bandwidth)
    if not values.defined.all():
        gap = float(grid[~values.defined][0, 0])
        raise ArgumentError(f"the window around {gap:.4g} holds too few points for a band; widen the bandwidth")
    total, last = 0.0, np.empty((0, len(fit.x)))
    for _, hat in hat_blocks(fit, grid, values):
        hat = hat / np.sqrt(fit.weights)
        unit = np.concatenate([last, hat / np.linalg.norm(hat, axis=1, keepdims=True)])
        chord = np.linalg.norm(np.diff(unit, axis=0), axis=1)
        total += float((2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0))).sum())
        last = unit[-1:]
    return total


MOMENTS = BandParts(multiplier_bootstrap, largest_normal, estimate_and_size)
TUBE = BandParts(tube, _tube_critical_value, estimate_and_size)
