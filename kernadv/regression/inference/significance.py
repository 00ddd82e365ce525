"""Does a column matter, given the others?  A wild bootstrap of how much better a fit is with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_count
from kernadv.regression.bandwidth import get
from kernadv.regression.bandwidth._constants import EPANECHNIKOV, canonical
from kernadv.regression.inference.bootstrap import Wild
from kernadv.regression.inference.comparison import smoother_of
from kernadv.regression.inference.degrees_of_freedom import others
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray

#: Bandwidths of the tested column, in its ranges, for the Epanechnikov kernel.
WIDTHS = (0.25, 0.5, 1.0, 4.0)
#: A bandwidth is left out if a larger share of the points have no estimate with it.
UNDEFINED = 0.1


class Significance(NamedTuple):
    """Test of a column, for C responses.

    Attributes
    ----------
    statistic : (C,) float64
        The largest improvement over the bandwidths of the column, in standard deviations above its mean without an effect.
    p_value : (C,) float64
        Exact but for the estimate of the regression function and its errors: a multiple of 1 / (draws + 1).  NaN if the fit
        leaves no residuals.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.inference import significance
    >>> x = np.random.default_rng(0).random((60, 2))
    >>> test = significance(LocalLinear(0.5).fit(x, np.sin(6 * x[:, 0])), 0, draws=99)
    >>> float(test.p_value[0])  # the smallest of 99 draws
    0.01
    """

    statistic: FloatArray
    p_value: FloatArray


def significance(fit: Any, column: int | str, *, draws: int = 199, seed: int = 0) -> Significance:
    """Test whether the regression function depends on a column, given the other ones.

    The fit without the column, with bandwidths by leave-one-out, is compared with fits that have it, and the same
    bandwidths otherwise; that of the column goes from a quarter of its range to where its effect is a line (degree >= 1).
    The statistic is the largest of ``(RSS_0 - RSS_k) / RSS_k``, each in units of its mean and standard deviation over the
    draws.  A draw has the fit without the column as its truth, and that fit's residuals over ``sqrt(1 - leverage)``, with
    random signs, as its errors.  Errors may have any variances, but must be independent.

    **Covers** neither target.  Bias of the fit without the column can pass for an effect if the columns are related.
    Simulated sizes are in the documentation (Regression).

    Parameters
    ----------
    fit : fitted regressor or LinearSmoother
        Its data, degree and kernel are used, not its bandwidth.  No categorical columns.
    column : int or str
        Number of the column, or its name if X had names.
    draws : int
        At least 19.
    seed : int

    Raises
    ------
    ArgumentError
        If there is no such column, it is constant, or all windows with it are too empty.

    References
    ----------
    Racine (1997), Consistent significance testing for nonparametric regression, Journal of Business & Economic Statistics
    15.
    Fan and Li (1996), Consistent model specification tests: omitted variables and semiparametric functional forms,
    Econometrica 64.
    Horowitz and Spokoiny (2001), An adaptive, rate-optimal test of a parametric mean-regression model, Econometrica 69
    (largest over bandwidths).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression import LocalLinear
    >>> from kernadv.regression.inference import significance
    >>> rng = np.random.default_rng(0)
    >>> x = rng.random((100, 2))
    >>> fit = LocalLinear(0.5).fit(x, np.sin(6 * x[:, 0]) + 0.3 * rng.standard_normal(100))
    >>> significance(fit, 0).p_value < 0.01, significance(fit, 1).p_value > 0.1
    (array([ True]), array([ True]))
    """
    smoother, draws = smoother_of(fit), check_count(draws, "draws", 19)
    if smoother.categories:
        raise ArgumentError("significance is for fits without categorical columns")
    tested = _column(fit, column, smoother.x.shape[1])
    spread = float(np.ptp(smoother.x[:, tested]))
    if spread == 0.0:
        raise ArgumentError(f"column {column!r} is constant: it cannot have an effect")
    weights = smoother.weights
    without, kept = _without(smoother, tested)
    known = ~np.isnan(without[:, 0])
    hats = _with(smoother, tested, kept, spread, known)
    rng, order, c = np.random.default_rng(check_count(seed, "seed", 0)), smoother.sorted_rows(), smoother.y.shape[1]
    statistic, p_value = np.full((2, c), np.nan)
    leverage = np.where(known, np.diagonal(without), 0.0)
    for response in range(c):
        y = smoother.y[:, response]
        value = np.where(known, np.nan_to_num(without) @ y, y)
        residual = np.nan_to_num((y - value) / np.sqrt(others(leverage)))
        noise = np.empty((len(y), draws))
        noise[order] = Wild().noise(residual[order], np.zeros(len(y)), draws, rng)
        every = np.column_stack([y, value[:, None] + noise])
        error = every - np.nan_to_num(without) @ every
        gains = [_gain(weights, error, every, hat, rows) for hat, rows in hats]
        sure = [(gain - gain.mean()) / gain.std() for gain in gains if np.isfinite(gain).all() and gain.std() > 0.0]
        if sure:
            largest = np.max(sure, axis=0)
            statistic[response] = largest[0]
            p_value[response] = (1 + np.count_nonzero(largest[1:] >= largest[0])) / (draws + 1)
    return Significance(statistic, p_value)


def _column(fit: Any, column: int | str, columns: int) -> int:
    """Number of a column."""
    names = list(getattr(fit, "feature_names_in_", []))
    if isinstance(column, str):
        if column not in names:
            raise ArgumentError(f"there is no column {column!r}; known: {', '.join(names) or 'none, X had no names'}")
        return names.index(column)
    return check_count(column, "column", 0, columns - 1)


def _without(fit: LinearSmoother, tested: int) -> tuple[FloatArray, FloatArray]:
    """Hat matrix of the fit without the column at the design points, and its bandwidths."""
    x = np.delete(fit.x, tested, axis=1)
    if not x.shape[1]:
        series = np.zeros(len(fit.y), np.int64) if fit.series is None else fit.series
        same = (series[:, None] == series) * fit.weights
        return same / same.sum(1, keepdims=True), np.empty(0)
    rest = replace(fit, x=x, bandwidth=np.empty(0), metric="euclidean")
    rest = rest.with_bandwidth(get("leave_one_out").select(rest).bandwidth)
    return rest.hat(rest.points), rest.bandwidth


def _with(
    fit: LinearSmoother, tested: int, kept: FloatArray, spread: float, known: BoolArray
) -> list[tuple[FloatArray, BoolArray]]:
    """Hat matrices with the column at several bandwidths, and the rows where they and the fit without it are defined."""
    factor, hats = canonical(fit.spec.kernel) / canonical(EPANECHNIKOV), []
    for width in WIDTHS:
        own = replace(fit, bandwidth=np.insert(kept, tested, width * factor * spread), metric="euclidean")
        hat = own.hat(own.points)
        rows = known & ~np.isnan(hat[:, 0])
        if rows.mean() >= 1.0 - UNDEFINED:
            hats.append((hat[rows], rows))
    if not hats:
        raise ArgumentError(
            "too few points in the windows with the column; lower the degree, or take a kernel without an edge: "
            "kernel='gaussian'"
        )
    return hats


def _gain(weights: FloatArray, error: FloatArray, every: FloatArray, hat: FloatArray, rows: BoolArray) -> FloatArray:
    """``(RSS_0 - RSS_k) / RSS_k`` of the responses in the columns of `every`, over these rows.  # (draws + 1,)"""
    w = weights[rows]
    after = w @ (every[rows] - hat @ every) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((w @ error[rows] ** 2 - after) / after)
