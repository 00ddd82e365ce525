"""Wiring to `kernadv.inference`: a fitted regressor as the smoother whose errors are asked for."""

from __future__ import annotations

from dataclasses import replace

from kernadv._errors import ArgumentError, check_choice
from kernadv._typing import FloatArray
from kernadv.inference import Fit, Interval, bands, correction, intervals
from kernadv.regressors import _hat_intervals
from kernadv.regressors._engine import needs_rows
from kernadv.regressors._hat_intervals import HatFit
from kernadv.regressors._rule import Rule
from kernadv.regressors._sample import Points, Sample
from kernadv.regressors._series import lay_out


def fit_of(rule: Rule, sample: Sample) -> Fit:
    """The fit as the inference functions take it.

    Raises
    ------
    ArgumentError
        If the bandwidth changes with the query, or columns are categorical.
    """
    if rule.categories or rule.bandwidth.ndim == 2:
        reason = "categorical columns" if rule.categories else "a bandwidth that changes with the query"
        raise ArgumentError(f"kernadv.inference does not know {reason}; ask interval, band, or predict with return_std")
    return Fit(rule.how, sample.points.x, sample.y, sample.weights, rule.bandwidth)


def has_moments(rule: Rule, dimensions: int) -> bool:
    """Whether `kernadv.inference` can take it, of a higher degree too: one bandwidth, no categories, few moments."""
    raised = replace(rule, how=replace(rule.how, degree=rule.how.degree + correction(rule.how)))
    return rule.bandwidth.ndim == 1 and not needs_rows(raised, dimensions)


def interval(rule: Rule, own: Rule, sample: Sample, at: Points, level: float, method: str) -> Interval:
    """Pointwise intervals.

    Parameters
    ----------
    rule, own : Rule
        With the bandwidths at the queries, and at the design points.
    sample : Sample
    at : Points
    level : float
    method : str
    """
    if not has_moments(rule, sample.points.x.shape[1]):
        return _hat_intervals.interval(HatFit(rule, own, sample, at), level, method)
    fit, q = _laid_out(rule, sample, at)
    return intervals.interval(fit, q, level, method)


def band(
    rule: Rule, own: Rule, sample: Sample, at: Points, level: float, method: str, bias_corrected: bool
) -> Interval:
    """Bands that hold at all queries together; parameters as in `interval`."""
    check_choice(method, "method of a band", bands.METHODS)
    if has_moments(rule, sample.points.x.shape[1]) and sample.points.x.shape[1] == 1:
        fit, q = _laid_out(rule, sample, at)
        return bands.band(fit, q, level, method, bias_corrected=bias_corrected)
    if method == "tube":
        raise ArgumentError(
            "the tube formula is for one continuous column and one bandwidth: hat vectors must form one smooth path; use "
            "method='sup_t'"
        )
    return _hat_intervals.band(HatFit(rule, own, sample, at), level, bias_corrected)


def _laid_out(rule: Rule, sample: Sample, at: Points) -> tuple[Fit, FloatArray]:
    x, q = lay_out(sample.points, at, rule.how.kernel, float(rule.bandwidth[0]))
    return fit_of(rule, sample)._replace(x=x), q
