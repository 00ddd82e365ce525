"""Intervals and bands from hat vectors: bandwidths that change with the query, categorical columns, high dimensions.

What `kernadv.regression.inference` computes from moments is computed here from the rows of the hat matrix, in O(n) a query
and, for bands, O(n^2) in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError, check_choice, check_level
from kernadv._typing import BoolArray, FloatArray
from kernadv.regression.hat_rows import BLOCK, determines
from kernadv.regression.smoother import estimate, hat
from kernadv.regression._rule import Rule, coefficients
from kernadv.regression._sample import Points, Sample
from kernadv.regression.inference import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval, Wild, correction
from kernadv.regression.inference.bands import largest_t
from kernadv.regression.inference.intervals import METHODS
from kernadv.regression.inference.two_values import (
    PROPORTION,
    PROPORTIONS,
    by_column,
    check_two_values,
    proportion_interval,
    wider,
)
from kernadv.regression.inference.window import in_window, sound

#: A leverage nearer to 1 than this leaves no residual to divide by.
SATURATED = 1e-10
#: Share of a variance that points without a residual may have.
LOST = 1e-10
#: Draws of the bootstrap, and how many at once.
DRAWS, BATCH = 1000, 200


@dataclass(frozen=True)
class HatFit:
    """A fitted smoother and queries.

    Attributes
    ----------
    rule : Rule
        Its bandwidths are those at the queries.
    own : Rule
        The same with the bandwidths at the design points.
    sample : Sample
    at : Points
    """

    rule: Rule
    own: Rule
    sample: Sample
    at: Points

    def raised(self) -> HatFit:
        """The fit of a higher degree with the same bandwidths, whose bias is of a smaller order."""
        degree = self.rule.spec.degree + correction(self.rule.spec)
        x, spec = self.sample.points.x, replace(self.rule.spec, degree=degree)
        deficient = x.shape[1] > 1 and not determines(x, degree)
        rule, own = (replace(rule, spec=spec, deficient=deficient) for rule in (self.rule, self.own))
        return replace(self, rule=rule, own=own)

    def responses(self, columns: BoolArray) -> HatFit:
        """The fit of some of the responses."""
        return replace(self, sample=self.sample._replace(y=self.sample.y[:, columns]))

    def rows(self) -> Iterator[tuple[slice, FloatArray]]:
        """Hat vectors of some queries at a time; NaN where there is no estimate."""
        for block in gen_batches(len(self.at.x), max(1, BLOCK // len(self.sample.y))):
            bandwidth = self.rule.bandwidth
            local = replace(self.rule, bandwidth=bandwidth[block] if bandwidth.ndim == 2 else bandwidth)
            yield block, hat(local, self.sample, self.at.take(block))

    def residuals(self) -> tuple[FloatArray, FloatArray]:
        """Residuals at the design points, NaN where nothing else is in the window, and the weight of the others there.

        Returns
        -------
        residuals : (n, C)
        others : (n, 1)
            ``1 - l_j(x_j)``.
        """
        fit = estimate(self.own, self.sample, self.sample.points)
        others = 1.0 - fit.centre * self.sample.weights
        known = fit.defined & (others > SATURATED)
        if not known.any():
            raise ArgumentError(
                "no point has another one with weight in its window, so there are no residuals; widen the bandwidth, or "
                "use a kernel that does not interpolate"
            )
        return (
            np.where(known[:, None], self.sample.y - fit.value, np.nan),
            np.where(known, others, np.nan)[:, None],
        )


class _Estimates(NamedTuple):
    """At m queries, for C responses.

    Attributes
    ----------
    value : (m, C)
    norm : (m,)
        ``sum_j l_j^2``, 1 / n_eff.
    fourth : (m,)
        ``sum_j l_j^4``.
    window : (m, C) and (m, C)
        The smallest and the largest response in each window.
    variance : (m, C)
        ``sum_j l_j^2 e_j^2`` of residuals e; NaN where points without one have a share of it.
    """

    value: FloatArray
    norm: FloatArray
    fourth: FloatArray
    window: tuple[FloatArray, FloatArray]
    variance: FloatArray


def interval(fit: HatFit, level: float, method: str) -> Interval:
    """Pointwise intervals.

    "robust" takes the fit of `correction` degrees more with the same bandwidths, and **covers** the regression function, but
    for the bias that points of other levels bring where lambda > 0: nothing corrects that.  "normal" and the others
    **cover** the smoothed target.  With e the residuals at the design points, the variance of "normal" is
    ``sum_j l_j^2 e_j^2 / (1 - l_jj)^2`` (HC3) and its quantiles are normal; that of "robust" is
    ``sum_j l_j^2 e_j^2 / (1 - l_jj)`` (HC2), with Student's t of ``(sum l^2)^2 / sum l^4``, less the number of coefficients,
    degrees of freedom, or of 1 if these are fewer: the residuals are not those of one window, which rarely leaves less.

    Parameters
    ----------
    fit : HatFit
    level : float
    method : str
        As in `kernadv.regression.inference.interval`.
    """
    tail = 0.5 * (1.0 - check_level(level))
    check_choice(method, "method", METHODS)
    if method in PROPORTIONS:
        return _proportion(fit, tail, method, SMOOTHED_TARGET)
    if method == "normal":
        residuals, others = fit.residuals()
        return _around(fit, _estimates(fit, residuals / others), ndtri(1.0 - tail), tail, SMOOTHED_TARGET)
    if method == "robust":
        return _robust(fit.raised(), tail)
    return by_column(
        fit.sample.y,
        lambda columns: _two_values(fit.responses(columns), lambda one: tail, True),
        lambda columns: _robust(fit.raised().responses(columns), tail),
    )


def band(fit: HatFit, level: float, bias_corrected: bool) -> Interval:
    """Sup-t band: it **covers** its target at all the queries together.

    As `kernadv.regression.inference.band`: for responses of two values Jeffreys' limits; for others the largest t of the
    noise that is drawn by `Wild`, each draw divided by its own standard error.

    Parameters
    ----------
    fit : HatFit
    level : float
    bias_corrected : bool
        Whether it covers the regression function, by the fit of a higher degree; else the smoothed target.
    """
    check_level(level)
    raised = fit.raised() if bias_corrected else fit
    covers = REGRESSION_FUNCTION if bias_corrected else SMOOTHED_TARGET
    return by_column(
        fit.sample.y,
        lambda columns: _two_values(
            fit.responses(columns), lambda one: float(ndtr(-_largest_normal(one, level))), bias_corrected
        ),
        lambda columns: _sup_t(raised.responses(columns), level, covers),
    )


def _robust(raised: HatFit, tail: float) -> Interval:
    residuals, others = raised.residuals()
    got = _estimates(raised, residuals / np.sqrt(others))
    size = coefficients(raised.at.x.shape[1], raised.rule.spec.degree)
    freedom = np.maximum(got.norm**2 / got.fourth - size, 1.0)
    return _around(raised, got, stdtrit(freedom, 1.0 - tail)[:, None], tail, REGRESSION_FUNCTION)


def _sup_t(fit: HatFit, level: float, covers: str) -> Interval:
    residuals, others = fit.residuals()
    noise_of = np.nan_to_num(residuals / np.sqrt(others))
    own = np.nan_to_num(hat(fit.own, fit.sample, fit.sample.points))
    rows = np.concatenate([hat for _, hat in fit.rows()])
    order = fit.sample.order()
    rng, critical, got = np.random.default_rng(0), np.empty(noise_of.shape[1]), _estimates(fit, residuals / others)
    for c in range(len(critical)):
        drawn = []
        for _ in range(DRAWS // BATCH):
            noise = np.empty((len(own), BATCH))
            noise[order] = Wild().noise(noise_of[order, c], np.zeros(len(own)), BATCH, rng)
            spread = np.sqrt(rows**2 @ (np.nan_to_num((noise - own @ noise) / others)) ** 2)
            t = np.abs(rows @ noise) / np.where(spread > 0.0, spread, np.inf)
            drawn.append(np.nan_to_num(t))
        critical[c], known = largest_t(np.concatenate(drawn, axis=1), level)
        got.variance[~known, c] = np.nan
    return _around(fit, got, critical, ndtr(-critical), covers)


def _largest_normal(fit: HatFit, level: float) -> float:
    """Level-quantile of the largest ``|l(x)'e| / |l(x)|`` over the queries, e independent and normal: simulated."""
    noise, largest = np.empty((len(fit.sample.y), DRAWS)), np.zeros(DRAWS)
    noise[fit.sample.order()] = np.random.default_rng(0).standard_normal(noise.shape)
    for _, rows in fit.rows():
        t = np.abs(rows @ noise) / np.linalg.norm(rows, axis=1, keepdims=True)
        largest = np.maximum(largest, np.nan_to_num(t).max(axis=0, initial=0.0))
    return float(np.quantile(largest, level))


def _two_values(fit: HatFit, tail: Callable[[HatFit], float], bias_corrected: bool) -> Interval:
    """Jeffreys' limits of the fit, or the wider ones of it and of the raised one."""
    if not bias_corrected:
        return _proportion(fit, tail(fit), PROPORTION, SMOOTHED_TARGET)
    return wider(*(_proportion(one, tail(one), PROPORTION, REGRESSION_FUNCTION) for one in (fit.raised(), fit)))


def _proportion(fit: HatFit, tail: float, method: str, covers: str) -> Interval:
    pairs = check_two_values(fit.sample.y, method)
    got = _estimates(fit, np.zeros_like(fit.sample.y))
    return proportion_interval(got.value, 1.0 / got.norm, pairs, tail, method, covers)


def _around(fit: HatFit, got: _Estimates, times: float | FloatArray, tail: float | FloatArray, covers: str) -> Interval:
    """``value -+ times standard error``, where the responses of the window can tell that much."""
    half = times * np.sqrt(got.variance)
    made = Interval(got.value, got.value - half, got.value + half, covers)
    return sound(made, fit.sample.y, got.window, 1.0 / got.norm, tail)


def _estimates(fit: HatFit, each: FloatArray) -> _Estimates:
    """Estimates and, from residuals (n, C), their variances."""
    y, lonely = fit.sample.y, np.isnan(each[:, 0])
    squares = np.where(lonely[:, None], 0.0, each) ** 2
    value, low, high, variance = (np.empty((len(fit.at.x), y.shape[1])) for _ in range(4))
    norm, fourth = np.empty(len(value)), np.empty(len(value))
    for block, rows in fit.rows():
        weight, inside = rows**2, in_window(rows)
        value[block], variance[block] = rows @ y, weight @ squares
        norm[block], fourth[block] = weight.sum(1), (weight**2).sum(1)
        variance[block][weight @ lonely > LOST * norm[block]] = np.nan
        for c, column in enumerate(y.T):
            low[block, c] = np.where(inside, column, np.inf).min(axis=1)
            high[block, c] = np.where(inside, column, -np.inf).max(axis=1)
    return _Estimates(value, norm, fourth, (low, high), variance)
