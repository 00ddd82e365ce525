"""Picture of a one-dimensional fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.regression.inference import REGRESSION_FUNCTION
from kernadv.regression.smoother import LinearSmoother

#: Queries along the picture.
QUERIES = 200
#: Intervals and bands are cut where they leave data and fit by more than this many times the range of both.
BEYOND = 1.0


def plot(regressor: Any, smoother: LinearSmoother, ax: Any, level: float) -> Any:
    """Draw data, fit, pointwise interval and band, the latter two of one target.

    Intervals and bands that leave data and fit by more than the range of both are cut there.

    Parameters
    ----------
    regressor : KernelRegressor
        One continuous column, one response, no groups.
    smoother : LinearSmoother
    ax : matplotlib Axes or None
    level : float

    Returns
    -------
    matplotlib Axes
    """
    if (
        regressor.n_features_in_ != 1
        or regressor.categories_
        or smoother.y.shape[1] != 1
        or regressor.groups_ is not None
    ):
        raise ArgumentError("plot draws one continuous column, one response and no groups; plot predict(X) yourself")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure().add_subplot()
    if not hasattr(ax, "fill_between"):
        raise ArgumentTypeError(
            f"ax must be an Axes of matplotlib, got {type(ax).__name__}; figure.add_subplot() makes one"
        )
    x, y = smoother.x[:, 0], smoother.y[:, 0]
    at = np.linspace(x.min(), x.max(), QUERIES)[:, None]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")  # the queries are ours
        inside = regressor.interval(at, level)
        outside = regressor.band(at, level, bias_corrected=inside.covers == REGRESSION_FUNCTION)
        fitted = regressor.predict(at)
    low, high = np.nanmin([y.min(), *fitted]), np.nanmax([y.max(), *fitted])
    beyond = BEYOND * (high - low)
    names = getattr(regressor, "feature_names_in_", ["x"])
    ax.scatter(x, y, s=10, color="0.6", label="data")
    for limits, shade, what in ((outside, 0.15, "band"), (inside, 0.3, "interval")):
        label = f"{level:.0%} {what} of the {limits.covers}"
        bottom, top = np.clip([limits.low, limits.high], low - beyond, high + beyond)
        ax.fill_between(at[:, 0], bottom, top, color="C0", alpha=shade, lw=0, label=label)
    ax.plot(at[:, 0], fitted, color="C0", label=type(regressor).__name__)
    ax.set_xlabel(names[0])
    ax.set_ylabel("y")
    ax.legend()
    return ax
