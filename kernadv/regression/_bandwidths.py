"""The bandwidth of a regressor: numbers checked, selectors called."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv._typing import FloatArray
from kernadv.regression._warnings import BandwidthWarning
from kernadv.regression.bandwidth import Selection, Selector, get
from kernadv.regression.bandwidth._mixed import select_mixed
from kernadv.regression.smoother import LinearSmoother, coefficients

#: Fewer rows than this determine no bandwidth.
FEWEST = 3


def choose(bandwidth: Any, smoother: LinearSmoother) -> tuple[LinearSmoother, Selection | None]:
    """The smoother with the bandwidth of each column: the numbers given, or those selected, and how.

    Parameters
    ----------
    bandwidth : number, sequence of numbers, name of a selector, or Selector
    smoother : LinearSmoother
        Its bandwidths are not read.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the numbers cannot be bandwidths, the name is unknown or the data determine no bandwidth.
    """
    (n, dimensions), categories = smoother.x.shape, smoother.categories
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
        return smoother.with_bandwidth(continuous, smoothing), None
    selector = get(bandwidth)
    if n < FEWEST:
        raise ArgumentError(
            f"bandwidth={bandwidth!r} needs at least {FEWEST} rows of positive weight, got n_samples={n}; "
            "give a number instead"
        )
    if categories:
        selection = select_mixed(selector, smoother)
        return smoother.with_bandwidth(selection.bandwidth, selection.smoothing), selection
    degree = smoother.spec.degree
    span, needed = np.ptp(smoother.x, axis=0), coefficients(dimensions, degree)
    few = dimensions > 1 and len(np.unique(smoother.x, axis=0)) <= needed
    if span.all() and (smoother.deficient or few):
        warnings.warn(
            f"no bandwidth can be selected: the {n} points, or all but one, do not determine the {needed} "
            f"coefficients of degree {degree} in {dimensions} dimensions, or columns are linear combinations of "
            "others; the range of each column is taken. Lower the degree, or leave columns out",
            BandwidthWarning,
            stacklevel=5,
        )
        return smoother.with_bandwidth(span), None
    selection = selector.select(smoother)
    return smoother.with_bandwidth(selection.bandwidth), selection


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
