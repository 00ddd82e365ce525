"""A fitted smoother as a table and as a picture."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, import_extra
from kernadv.regression._quality import Quality
from kernadv.regression.inference import REGRESSION_FUNCTION
from kernadv.regression.neighbours import InverseDistance
from kernadv.regression.smoother import LinearSmoother

#: Characters in a line of the table.
WIDTH = 78
#: Queries along the picture.
QUERIES = 200
#: Most points in the picture.
DRAWN = 10_000
#: Queries along each side of a picture of two columns, and its shades.
SIDE, LEVELS = 80, 12
#: Intervals and bands are cut this many ranges of data and fit beyond both.
BEYOND = 1.0


def summary(regressor: Any, smoother: LinearSmoother, fit: Quality, window: str) -> str:
    """Table of a fit in two columns, with notes on what not to trust; `window` is the bandwidth in words."""
    spec = smoother.spec
    kernel = f"{spec.kernel.name}{', past only' if spec.past else ''}"
    series = "" if regressor.groups_ is None else f" in {len(regressor.groups_)} series"
    left = [
        ("No. observations", f"{len(smoother.y)}{series}"),
        ("Dimensions", str(regressor.n_features_in_)),
        ("Kernel", kernel),
        ("Degree", str(spec.degree)),
    ]
    scale = fit.scale / np.sqrt(smoother.weights.mean())  # of a response of the mean weight
    errors = [("Residual std. error", scale), ("R-squared", fit.r_squared), ("LOO RMSE", fit.loo_rmse)]
    right = [("Edf (tr S)", f"{fit.edf:.4g}")]
    table = []
    if smoother.y.shape[1] == 1:
        right += [(name, _number(values[0])) for name, values in errors]
    else:
        right += [("Responses", str(smoother.y.shape[1])), ("", ""), ("", "")]
        table = ["-" * WIDTH, "Response".ljust(12) + "".join(name.rjust(22) for name, _ in errors)]
        for c in range(smoother.y.shape[1]):
            table.append(
                regressor.response_names_[c][:11].ljust(12)
                + "".join(_number(values[c]).rjust(22) for _, values in errors)
            )
    half = WIDTH // 2 - 1
    lines = [type(regressor).__name__.center(WIDTH).rstrip(), "=" * WIDTH]
    lines += [f"{_pair(*a, half)}  {_pair(*b, half)}".rstrip() for a, b in zip(left, right, strict=True)]
    lines += [*table, "-" * WIDTH, window[:1].upper() + window[1:], *_notes(regressor, smoother, fit), "=" * WIDTH]
    return "\n".join(lines)


def _notes(regressor: Any, smoother: LinearSmoother, fit: Quality) -> list[str]:
    """What to know before trusting the fit."""
    notes = []
    if regressor.n_missing_:
        notes.append(f"Note: {regressor.n_missing_} rows with missing values were left out.")
    selection = getattr(regressor, "selection_", None)
    if selection is not None and selection.at_edge:
        notes.append("Note: the bandwidth lies at an end of the grid; the best one may lie beyond.")
    if selection is not None and selection.flat:
        notes.append("Note: the criterion hardly changes over the grid; the choice means little.")
    if smoother is not regressor._smoother:
        notes.append("Note: degrees of freedom and errors are those of pseudovalues (robust steps).")
    if fit.points < len(smoother.y):
        notes.append(f"Note: {len(smoother.y) - fit.points} observations have no estimate at their own place.")
    return notes


def _pair(name: str, value: str, width: int) -> str:
    return f"{name}:{value.rjust(width - len(name) - 1)}" if name else ""


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.4g}"


def plot(regressor: Any, smoother: LinearSmoother, ax: Any, level: float) -> Any:
    """Draw data and fit: with interval and band over one column, as shades over two.  Returns the Axes.

    Interval and band have the same target.  They are cut where they leave data and fit by more than the range of both.  Of
    more than `DRAWN` points only a random sample is drawn, as the legend says.
    """
    columns = regressor.n_features_in_
    if columns > 2 or regressor.categories_ or smoother.y.shape[1] != 1 or regressor.groups_ is not None:
        raise ArgumentError(
            "plot draws one or two continuous columns, one response and no groups; plot predict(X) yourself, e.g. for each "
            "level or group"
        )
    if ax is None:
        ax = import_extra("matplotlib.pyplot", "a plot", "audit").figure(layout="constrained").add_subplot()
    if not hasattr(ax, "fill_between"):
        raise ArgumentTypeError(
            f"ax must be an Axes of matplotlib, got {type(ax).__name__}; figure.add_subplot() makes one"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")  # the queries are ours
        (_curve if columns == 1 else _surface)(regressor, smoother, ax, level)
    named = getattr(regressor, "feature_names_in_", ["x"] if columns == 1 else ["x1", "x2"])
    for axis, set_label, column, name in (
        (ax.xaxis, ax.set_xlabel, 0, named[0]),
        (ax.yaxis, ax.set_ylabel, 1, named[-1]),
    ):
        if column < columns:
            set_label(name)
            if regressor.times_.get(column) == "M":
                from matplotlib.dates import ConciseDateFormatter

                axis.axis_date()  # matplotlib counts in days since 1970-01-01 too
                axis.set_major_formatter(ConciseDateFormatter(axis.get_major_locator()))
            elif column in regressor.times_:
                set_label(f"{name} (days)")
    return ax


def _curve(regressor: Any, smoother: LinearSmoother, ax: Any, level: float) -> None:
    x, y = smoother.x[:, 0], smoother.y[:, 0]
    at = np.linspace(x.min(), x.max(), QUERIES)[:, None]
    fitted = regressor.predict(at)
    title, shown, label = None, np.arange(len(x)), "data"
    if len(x) > DRAWN:
        shown = np.random.default_rng(0).choice(len(x), DRAWN, replace=False)
        label = f"{DRAWN:,} of {len(x):,} data, at random"
    ax.scatter(x[shown], y[shown], s=10, color="0.6", label=label)
    if not isinstance(smoother.spec.kernel, InverseDistance):  # it interpolates and has no intervals
        inside = regressor.interval(at, level)
        outside = regressor.band(at, level, bias_corrected=inside.covers == REGRESSION_FUNCTION)
        low, high = np.nanmin([y.min(), *fitted]), np.nanmax([y.max(), *fitted])
        beyond = BEYOND * (high - low)
        for limits, shade, what in ((outside, 0.15, "band"), (inside, 0.3, "interval")):
            bottom, top = np.clip([limits.low, limits.high], low - beyond, high + beyond)
            ax.fill_between(at[:, 0], bottom, top, color="C0", alpha=shade, lw=0, label=f"{level:.0%} {what}")
        title = f"interval and band cover the {inside.covers}"
    ax.plot(at[:, 0], fitted, color="C0", label=type(regressor).__name__)
    ax.set_ylabel(regressor.response_names_[0])
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}  # where nothing is
    ax.legend(title=title, ncols=4, columnspacing=1.2, frameon=False, alignment="left", **above)


def _surface(regressor: Any, smoother: LinearSmoother, ax: Any, level: float) -> None:
    """Filled contours of the estimate, and the points in the same shades; blank where there is no estimate."""
    from matplotlib.ticker import MaxNLocator

    x, y = smoother.x, smoother.y[:, 0]
    sides = [np.linspace(column.min(), column.max(), SIDE) for column in x.T]
    grid = np.stack(np.meshgrid(*sides), axis=-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* queries have no estimate")  # blank says it
        fitted = regressor.predict(grid.reshape(-1, 2)).reshape(SIDE, SIDE)
    low, high = (
        max(np.nanmin(fitted), y.min()),
        min(np.nanmax(fitted), y.max()),
    )  # far from the points it may be anything
    levels = MaxNLocator(LEVELS).tick_values(low, high) if low < high else LEVELS
    shades = ax.contourf(*sides, fitted, levels=levels, cmap="viridis", extend="both")
    ax.scatter(
        *x.T, c=np.clip(y, *shades.get_clim()), s=14, cmap="viridis", norm=shades.norm, edgecolors="w", linewidths=0.5
    )
    ax.figure.colorbar(shades, ax=ax, label=f"{type(regressor).__name__} of {regressor.response_names_[0]}")
