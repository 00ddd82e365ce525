"""Intervals and bands from hat vectors: bandwidths that change with the query, categorical columns, high dimensions.

What `kernadv.inference` computes from moments is computed here from the rows of the hat matrix, in O(n) a query and, for
bands, O(n^2) in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit
from sklearn.utils import gen_batches

from kernadv._errors import ArgumentError, check_choice, check_level
from kernadv._typing import BoolArray, FloatArray
from kernadv.inference import REGRESSION_FUNCTION, SMOOTHED_TARGET, Interval, Wild, correction
from kernadv.inference.intervals import METHODS, PROPORTION, PROPORTIONS, proportion_limits
from kernadv.regressors._dense import BLOCK, determines
from kernadv.regressors._engine import estimate, hat
from kernadv.regressors._rule import Rule, coefficients
from kernadv.regressors._sample import Points, Sample

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
        degree = self.rule.how.degree + correction(self.rule.how)
        x, how = self.sample.points.x, replace(self.rule.how, degree=degree)
        deficient = x.shape[1] > 1 and not determines(x, degree)
        rule, own = (replace(rule, how=how, deficient=deficient) for rule in (self.rule, self.own))
        return replace(self, rule=rule, own=own)

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


def interval(fit: HatFit, level: float, method: str) -> Interval:
    """Pointwise intervals.

    "robust" takes the fit of `correction` degrees more with the same bandwidths, and **covers** the regression function, but
    for the bias that points of other levels bring where lambda > 0: nothing corrects that.  "normal" and the others
    **cover** the smoothed target.  With e the residuals at the design points, the variance of "normal" is
    ``sum_j l_j^2 e_j^2 / (1 - l_jj)^2`` (HC3) and its quantiles are normal; that of "robust" is
    ``sum_j l_j^2 e_j^2 / (1 - l_jj)`` (HC2), with Student's t of ``(sum l^2)^2 / sum l^4``, less the number of coefficients,
    degrees of freedom.

    Parameters
    ----------
    fit : HatFit
    level : float
    method : str
        As in `kernadv.inference.interval`.
    """
    check_level(level)
    check_choice(method, "method", METHODS)
    degree, binary = fit.rule.how.degree, bool(np.isin(fit.sample.y, (0.0, 1.0)).all())
    if method == "auto":
        method = PROPORTION if binary and degree == 0 else "robust"
    if method in PROPORTIONS:
        if not binary:
            raise ArgumentError(f"method {method!r} needs responses that are 0 or 1; use method='robust'")
        return _proportion(fit, level, method)
    if method == "normal":
        residuals, others = fit.residuals()
        value, error, _ = _errors(fit, residuals / others)
        half, covers = ndtri(0.5 + 0.5 * level) * error, SMOOTHED_TARGET
    else:
        fit = fit.raised()
        residuals, others = fit.residuals()
        value, error, freedom = _errors(fit, residuals / np.sqrt(others))
        half, covers = stdtrit(freedom, 0.5 + 0.5 * level) * error, REGRESSION_FUNCTION
    return Interval(value, value - half, value + half, covers)


def band(fit: HatFit, level: float, bias_corrected: bool) -> Interval:
    """Sup-t band: it **covers** its target at all the queries together.

    As `kernadv.inference.multiplier_bootstrap`: the largest t of the noise that is drawn by `Wild`, each draw divided by
    its own standard error.

    Parameters
    ----------
    fit : HatFit
    level : float
    bias_corrected : bool
        Whether the fit has been raised, and so covers the regression function; else the smoothed target.
    """
    check_level(level)
    residuals, others = fit.residuals()
    value, error, _ = _errors(fit, residuals / others)
    noise_of = np.nan_to_num(residuals / np.sqrt(others))
    points = fit.sample.points
    own = np.nan_to_num(hat(fit.own, fit.sample, points))
    rows = np.concatenate([hat for _, hat in fit.rows()])
    rng, critical = np.random.default_rng(0), np.empty(value.shape[1])
    for c in range(value.shape[1]):
        largest = []
        for _ in range(DRAWS // BATCH):
            noise = Wild().noise(noise_of[:, c], np.zeros(len(own)), BATCH, rng)
            spread = np.sqrt(rows**2 @ (np.nan_to_num((noise - own @ noise) / others)) ** 2)
            t = np.abs(rows @ noise) / np.where(spread > 0.0, spread, np.inf)
            largest.append(np.nan_to_num(t).max(axis=0, initial=0.0))
        critical[c] = np.quantile(np.concatenate(largest), level)
    covers = REGRESSION_FUNCTION if bias_corrected else SMOOTHED_TARGET
    return Interval(value, value - critical * error, value + critical * error, covers)


def _errors(fit: HatFit, each: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Estimates and their standard errors from residuals, (m, C), and the degrees of freedom of these, (m, 1)."""
    shape = len(fit.at.x), each.shape[1]
    value, variance, freedom = np.empty(shape), np.empty(shape), np.empty((shape[0], 1))
    lonely: BoolArray = np.isnan(each[:, 0])
    squares = np.where(lonely[:, None], 0.0, each) ** 2
    size = coefficients(fit.at.x.shape[1], fit.rule.how.degree)
    for block, rows in fit.rows():
        weight = rows**2
        value[block], variance[block] = rows @ fit.sample.y, weight @ squares
        total = weight.sum(1)
        variance[block][weight @ lonely > LOST * total] = np.nan
        freedom[block, 0] = np.maximum(total**2 / (weight**2).sum(1) - size, 1.0)
    return value, np.sqrt(variance), freedom


def _proportion(fit: HatFit, level: float, method: str) -> Interval:
    value = np.empty((len(fit.at.x), fit.sample.y.shape[1]))
    size = np.empty_like(value)
    for block, rows in fit.rows():
        value[block], size[block] = rows @ fit.sample.y, 1.0 / (rows**2).sum(1)[:, None]
    value = np.clip(value, 0.0, 1.0)
    low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    known = ~np.isnan(value)
    low[known], high[known] = proportion_limits(value[known] * size[known], size[known], level, method)
    return Interval(value, low, high, SMOOTHED_TARGET)
