"""The bandwidth of a regressor: numbers checked, selectors called."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._mixed import select_mixed
from kernadv.regression._rule import Rule, coefficients
from kernadv.regression._sample import Points, Sample
from kernadv.regression._warnings import BandwidthWarning
from kernadv.regression.bandwidth import Selection, Selector, get

#: Fewer rows than this determine no bandwidth.
FEWEST = 3


class Chosen(NamedTuple):
    """A bandwidth and where it comes from.

    Attributes
    ----------
    continuous : (d,) or (n, 1) float64
    smoothing : (c,) float64
        Lambda of the categorical columns.
    selection : Selection, or None for numbers
    """

    continuous: FloatArray
    smoothing: FloatArray
    selection: Selection | None


def choose(bandwidth: Any, rule: Rule, sample: Sample) -> Chosen:
    """Bandwidth of each column: the numbers given, or those selected.

    Parameters
    ----------
    bandwidth : number, sequence of numbers, name of a selector, or Selector
    rule : Rule
        Its bandwidths are not read.
    sample : Sample

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the numbers cannot be bandwidths, the name is unknown or the data determine no bandwidth.
    """
    dimensions, categories = sample.points.x.shape[1], rule.categories
    if not isinstance(bandwidth, (str, Selector)):
        h = _numbers(bandwidth, dimensions + len(categories), bool(categories))
        lambdas = [category.column for category in categories]
        continuous, smoothing = np.delete(h, lambdas), h[lambdas]
        if not (continuous > 0).all() or not np.isfinite(h).all():
            raise ArgumentError(
                f"bandwidth must be positive and finite, got {bandwidth!r}; it is the half-width of a compact kernel's "
                "support and the scale of the others"
            )
        for category, value in zip(categories, smoothing.tolist(), strict=True):
            if not 0.0 <= value <= category.largest:
                raise ArgumentError(
                    f"the bandwidth (lambda) of categorical column {category.name} must lie between 0 and "
                    f"{category.largest:g}, got {value!r}"
                )
        return Chosen(continuous, smoothing, None)
    selector = get(bandwidth)
    if len(sample.y) < FEWEST:
        raise ArgumentError(
            f"bandwidth={bandwidth!r} needs at least {FEWEST} rows of positive weight, got n_samples={len(sample.y)}; "
            "give a number instead"
        )
    if categories:
        selection = select_mixed(selector, rule, sample)
        assert selection.smoothing is not None
        return Chosen(selection.bandwidth, selection.smoothing, selection)
    span, needed = np.ptp(sample.points.x, axis=0), coefficients(dimensions, rule.spec.degree)
    few = dimensions > 1 and len(np.unique(sample.points.x, axis=0)) <= needed
    if span.all() and (rule.deficient or few):
        warnings.warn(
            f"no bandwidth can be selected: the {len(sample.y)} points, or all but one, do not determine the {needed} "
            f"coefficients of degree {rule.spec.degree} in {dimensions} dimensions, or columns are linear combinations of "
            "others; the range of each column is taken. Lower the degree, or leave columns out",
            BandwidthWarning,
            stacklevel=5,
        )
        return Chosen(span, np.empty(0), None)
    selection = _select(selector, rule, sample)
    return Chosen(selection.bandwidth, np.empty(0), selection)


def _select(selector: Selector, rule: Rule, sample: Sample, at: FloatArray | None = None) -> Selection:
    """Call a selector."""
    (x, _, series), y, weights = sample
    return selector.select(rule.spec, x, y, weights, at=at, series=series)


def _numbers(bandwidth: Any, columns: int, mixed: bool) -> FloatArray:
    """One number a column."""
    given = bandwidth
    if isinstance(bandwidth, Real) and not isinstance(bandwidth, bool):
        if mixed:
            raise ArgumentError(
                f"with categorical columns give one bandwidth a column ({columns}), got the number {bandwidth!r}"
            )
        given = [bandwidth] * columns
    try:
        h = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        h = np.empty((0, 0))
    if h.ndim != 1 or isinstance(bandwidth, bool):
        raise ArgumentTypeError(
            f"bandwidth must be a number, one number a column, a selector's name or a Selector, got {bandwidth!r:.80}"
        )
    if len(h) != columns:
        raise ArgumentError(f"bandwidth must have one number a column, {columns}, got {len(h)}: {bandwidth!r}")
    return h


def select_at(bandwidth: Any, rule: Rule, sample: Sample, at: Points) -> Rule:
    """The rule with the bandwidths that a selector of local bandwidths gives the queries."""
    selection = _select(get(bandwidth), rule, sample, at.x)
    return replace(rule, bandwidth=selection.bandwidth)
