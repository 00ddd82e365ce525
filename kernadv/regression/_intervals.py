"""Intervals and bands of a fitted regressor: series by series from moments, or all at once from hat rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kernadv._errors import ArgumentError, check_choice
from kernadv.regression.inference import Interval, bands, effects, intervals
from kernadv.regression.inference._rows import BAND_PARTS, INTERVAL_PARTS
from kernadv.regression.inference.functionals import kind_of_errors
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import BoolArray, FloatArray, IntArray

#: Most points with which a band allows for the choice of the bandwidth; with more that changes little, and takes long.
CHOOSING = 200


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def interval(smoother: LinearSmoother, at: Points, level: float, method: str, errors: str) -> Interval[FloatArray]:
    """Pointwise intervals, see `kernadv.regression.inference.interval`."""
    check_choice(method, "method", intervals.METHODS)
    if kind_of_errors(smoother, errors) != "independent":
        return effects.values(smoother, at, level, method, errors)
    if smoother.intervals_by_rows:
        return intervals.make_interval(smoother, at, level, method, INTERVAL_PARTS)
    curves = list(_curves(smoother, at))
    results = [intervals.interval(curve, q, level, method) for _, curve, q in curves]
    if len({result.covers for result in results}) > 1:  # "auto" may differ between series; robust suits all
        results = [intervals.interval(curve, q, level, "robust") for _, curve, q in curves]
    return _joined([queries for queries, _, _ in curves], results, at, smoother)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def band(
    smoother: LinearSmoother,
    at: Points,
    level: float,
    method: str,
    bias_corrected: bool,
    errors: str,
    choice: bands.Choice | None,
) -> Interval[FloatArray]:
    """Bands that cover at all queries simultaneously, see `kernadv.regression.inference.band`."""
    check_choice(method, "method of a band", bands.METHODS)
    dependent = kind_of_errors(smoother, errors) != "independent"
    if dependent and method == "tube":
        raise ArgumentError("the tube formula is for independent errors; use method='sup_t'")
    if smoother.series is not None or len(smoother.x) > CHOOSING or not bias_corrected:  # the target has that bandwidth
        choice = None
    if smoother.series is not None and at.series is not None:  # those without a query do not matter
        kept = np.isin(smoother.series, at.series)
        smoother = smoother.take(kept) if kept.any() else smoother
    if dependent:
        return effects.band(smoother, at, level, bias_corrected, errors)
    on_line = smoother.x.shape[1] == 1 and not smoother.intervals_by_rows
    curves = list(_curves(smoother, at)) if on_line else []
    if len(curves) == 1:
        ((queries, curve, q),) = curves
        result = bands.band(curve, q, level, method, bias_corrected=bias_corrected, choice=choice)
        return _joined([queries], [result], at, smoother)
    if method == "tube":
        raise ArgumentError(
            "the tube formula is for one continuous column and one bandwidth: hat vectors must form one smooth path; "
            "use method='sup_t'"
        )
    return bands.make_band(smoother, at, level, bias_corrected, BAND_PARTS)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def derivative(
    smoother: LinearSmoother, at: Points, level: float, order: tuple[int, ...], errors: str
) -> Interval[FloatArray]:
    """Pointwise intervals of a derivative, see `kernadv.regression.inference.robust_bias_corrected`."""
    dependent = kind_of_errors(smoother, errors) != "independent"
    if (
        dependent
        or smoother.intervals_by_rows
        or effects.corrected(smoother, sum(order)).by_rows
        or not smoother.spec.degree
    ):
        return effects.derivative(smoother, at, level, order, errors)
    curves = list(_curves(smoother, at))
    results = [intervals.robust_bias_corrected(curve, q, level, derivative=order) for _, curve, q in curves]
    return _joined([queries for queries, _, _ in curves], results, at, smoother)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def average_derivative(
    smoother: LinearSmoother, at: Points, level: float, order: tuple[int, ...], errors: str
) -> tuple[Interval, BoolArray]:
    """Interval of a mean derivative, and the queries that have one."""
    return effects.average_derivative(smoother, at, level, order, errors)


@np.errstate(all="ignore")  # what overflows, far from all data, is no estimate
def contrast(smoother: LinearSmoother, at: Points, other: Points, level: float, errors: str) -> Interval[FloatArray]:
    """Intervals of differences between queries."""
    return effects.contrast(smoother, at, other, level, errors)


def _curves(smoother: LinearSmoother, at: Points) -> Iterator[tuple[IntArray | slice, LinearSmoother, FloatArray]]:
    """Each part of the series that is smoothed as one curve: rows of its queries, smoother, queries."""
    spec, bandwidth = smoother.spec, smoother.bandwidth
    if not at.known.any():  # nothing to estimate, but the method is known
        yield slice(0, 0), LinearSmoother(spec, smoother.x, smoother.y, smoother.weights, bandwidth), at.x[:0]
    for rows, queries, x, q, h in smoother.parts(at):
        yield queries, LinearSmoother(spec, x, smoother.y[rows], smoother.weights[rows], h), q


def _joined(
    rows: list[IntArray | slice], results: list[Interval], at: Points, smoother: LinearSmoother
) -> Interval[FloatArray]:
    """The intervals of the parts put together; NaN for queries of unseen series."""
    estimate, low, high = np.full((3, len(at.x), smoother.y.shape[1]), np.nan)
    for queries, result in zip(rows, results, strict=True):
        estimate[queries], low[queries], high[queries] = result[:3]
    return Interval(estimate, low, high, results[0].covers)
