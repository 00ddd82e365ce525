"""Wiring to `kernadv.inference`: a fitted regressor as the smoother whose errors are asked for."""

from __future__ import annotations

from collections.abc import Callable

from kernadv._errors import ArgumentError, check_choice
from kernadv._typing import FloatArray
from kernadv.inference import Fit, Interval, bands, intervals
from kernadv.regressors._rule import HIGHEST_DEGREE, Rule
from kernadv.regressors._sample import Points, Sample
from kernadv.regressors._series import lay_out

#: Bands by name.
BANDS: dict[str, Callable[[Fit, FloatArray, float], Interval]] = {
    "sup_t": bands.multiplier_bootstrap,
    "tube": bands.tube,
}


def fit_of(rule: Rule, sample: Sample, at: Points) -> tuple[Fit, FloatArray]:
    """The fit and the queries as the inference functions take them.

    Raises
    ------
    ArgumentError
        If the bandwidth changes with the query, or columns are categorical.
    """
    if rule.categories or rule.bandwidth.ndim == 2:
        reason = "categorical columns" if rule.categories else "a bandwidth that changes with the query"
        raise ArgumentError(f"there are no intervals for {reason}; predict(X, return_std=True) gives standard errors")
    x, q = lay_out(sample.points, at, rule.how.kernel, float(rule.bandwidth[0]))
    return Fit(rule.how, x, sample.y, sample.weights, rule.bandwidth), q


def interval(rule: Rule, sample: Sample, at: Points, level: float, method: str) -> Interval:
    """Pointwise intervals; "auto" corrects the bias where a degree higher than the fit's exists."""
    fit, q = fit_of(rule, sample, at)
    if method == "auto" and rule.how.degree == HIGHEST_DEGREE:
        method = "normal"
    return intervals.interval(fit, q, level, method)


def band(rule: Rule, sample: Sample, at: Points, level: float, method: str) -> Interval:
    """Bands that hold at all queries together."""
    fit, q = fit_of(rule, sample, at)
    return BANDS[check_choice(method, "method of a band", BANDS)](fit, q, level)
