"""Wiring to `kernadv.regression.inference`: a fitted regressor as the smoother whose errors are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kernadv._errors import ArgumentError, check_choice
from kernadv._typing import FloatArray, IntArray
from kernadv.regression import _hat_intervals
from kernadv.regression.smoother import needs_rows
from kernadv.regression.inference._rows import HatFit
from kernadv.regression._rule import Rule
from kernadv.regression._sample import Points, Sample
from kernadv.regression.inference import Fit, Interval, bands, correction, intervals
from kernadv.regression.series import apart


def fit_of(rule: Rule, sample: Sample) -> Fit:
    """The fit as the inference functions take it.

    Raises
    ------
    ArgumentError
        If the bandwidth changes with the query, or columns are categorical.
    """
    if rule.categories or rule.bandwidth.ndim == 2:
        reason = "categorical columns" if rule.categories else "a bandwidth that changes with the query"
        raise ArgumentError(
            f"kernadv.regression.inference does not know {reason}; ask interval, band, or predict with return_std"
        )
    return Fit(rule.spec, sample.points.x, sample.y, sample.weights, rule.bandwidth)


def has_moments(rule: Rule, dimensions: int) -> bool:
    """Whether `inference` can take it, of a higher degree too: one bandwidth, no categories, few moments."""
    raised = replace(rule, spec=replace(rule.spec, degree=rule.spec.degree + correction(rule.spec)))
    return rule.bandwidth.ndim == 1 and not needs_rows(raised, dimensions)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
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
    parts = list(_fits(rule, sample, at))
    results = [intervals.interval(fit, q, level, method) for _, fit, q in parts]
    if len({result.covers for result in results}) > 1:  # "auto" may differ between series; robust suits all
        results = [intervals.interval(fit, q, level, "robust") for _, fit, q in parts]
    return _joined([queries for queries, _, _ in parts], results, at, sample)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def band(
    rule: Rule, own: Rule, sample: Sample, at: Points, level: float, method: str, bias_corrected: bool
) -> Interval:
    """Bands that hold at all queries together; parameters as in `interval`."""
    check_choice(method, "method of a band", bands.METHODS)
    own, sample = _asked(own, sample, at)
    on_line = sample.points.x.shape[1] == 1 and has_moments(rule, 1)
    parts = list(_fits(rule, sample, at)) if on_line else []
    if len(parts) == 1:
        ((queries, fit, q),) = parts
        result = bands.band(fit, q, level, method, bias_corrected=bias_corrected)
        return _joined([queries], [result], at, sample)
    if method == "tube":
        raise ArgumentError(
            "the tube formula is for one continuous column and one bandwidth: hat vectors must form one smooth path; use "
            "method='sup_t'"
        )
    return _hat_intervals.band(HatFit(rule, own, sample, at), level, bias_corrected)


def _fits(rule: Rule, sample: Sample, at: Points) -> Iterator[tuple[IntArray | slice, Fit, FloatArray]]:
    """Fits of series that are smoothed together, with the rows and the places of their queries."""
    points = sample.points
    if not at.known.any():  # nothing to estimate, but it is known how
        yield slice(0, 0), fit_of(rule, sample), at.x[:0]
    for rows, queries, x, q, h in apart(points.x, points.series, at.x, at.series, rule.spec.kernel, rule.bandwidth):
        yield queries, Fit(rule.spec, x, sample.y[rows], sample.weights[rows], h), q


def _asked(own: Rule, sample: Sample, at: Points) -> tuple[Rule, Sample]:
    """The sample, and the rule at its points, without the series that no query is in: they have no part in a band."""
    series = sample.points.series
    if series is None or at.series is None:
        return own, sample
    kept = np.isin(series, at.series)
    if not kept.any():
        return own, sample
    bandwidth = own.bandwidth[kept] if own.bandwidth.ndim == 2 else own.bandwidth
    return replace(own, bandwidth=bandwidth), Sample(sample.points.take(kept), sample.y[kept], sample.weights[kept])


def _joined(rows: list[IntArray | slice], results: list[Interval], at: Points, sample: Sample) -> Interval:
    """Intervals of parts as those of all queries, NaN for queries of unseen series."""
    estimate, low, high = np.full((3, len(at.x), sample.y.shape[1]), np.nan)
    for queries, result in zip(rows, results, strict=True):
        estimate[queries], low[queries], high[queries] = result[:3]
    return Interval(estimate, low, high, results[0].covers)
