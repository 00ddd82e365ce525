"""What the selectors by asymptotic formulas share: which fits they are for, and their result."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.regression.bandwidth._base import Selection
from kernadv.regression.bandwidth._ordered import Ordered, check_shapes, prepare
from kernadv.regression.smoother import LinearSmoother


def formula_data(name: str, smoother: LinearSmoother, degrees: tuple[int, ...] = (0, 1), past: bool = False) -> Ordered:
    """Checked data for a formula that holds for fits of one curve on a line, one-sided ones only if `past` says so.

    Raises
    ------
    ArgumentError
        If the fit is one-sided or of another degree, or there are several dimensions or series.
    """
    check_shapes(smoother)
    spec, instead = smoother.spec, "use leave_one_out"
    if smoother.x.shape[1] > 1:
        raise ArgumentError(f"{name} is for one dimension, got {smoother.x.shape[1]}; {instead}")
    if spec.past and not past:
        raise ArgumentError(f"{name} is for two-sided smoothing; use prequential")
    if spec.degree not in degrees:
        raise ArgumentError(f"{name} is for degree {' or '.join(map(str, degrees))}, got {spec.degree}; {instead}")
    sample = prepare(smoother)
    if sample.n_series > 1:
        raise ArgumentError(f"{name} is for one series, got {sample.n_series}; {instead} or prequential")
    return sample


def formula_selection(sample: Ordered, bandwidth: float, criterion: str) -> Selection:
    """Result of a formula, kept between the bounds of a search, see `Sample.bounds`.

    `at_edge` and `flat` say that the formula went beyond, the latter to a straight line.
    """
    low, high = (float(bound[0]) for bound in sample.bounds())
    kept = np.array([min(max(bandwidth, low), high)])
    return Selection(kept, kept[None], np.full(1, np.nan), criterion, bool(kept[0] != bandwidth), bandwidth >= high)
