"""Text table of a fitted smoother."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.regression._quality import Quality
from kernadv.regression.smoother import LinearSmoother

WIDTH = 78


def summary(regressor: Any, smoother: LinearSmoother, fit: Quality, window: str) -> str:
    """Lay the numbers of a fit out in two columns, with notes on what not to trust.

    Parameters
    ----------
    regressor : KernelRegressor
    smoother : LinearSmoother
    fit : Quality
    window : str
        The bandwidth in words.
    """
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
            table.append(str(c).ljust(12) + "".join(_number(values[c]).rjust(22) for _, values in errors))
    half = WIDTH // 2 - 1
    lines = [type(regressor).__name__.center(WIDTH).rstrip(), "=" * WIDTH]
    lines += [f"{_pair(*a, half)}  {_pair(*b, half)}".rstrip() for a, b in zip(left, right, strict=True)]
    lines += [*table, "-" * WIDTH, window[:1].upper() + window[1:], *_notes(regressor, smoother, fit), "=" * WIDTH]
    return "\n".join(lines)


def _notes(regressor: Any, smoother: LinearSmoother, fit: Quality) -> list[str]:
    """What the reader should know before trusting the fit."""
    notes = []
    selection = getattr(regressor, "selection_", None)
    if selection is not None and selection.at_edge:
        notes.append("Note: the bandwidth lies at an end of the grid; the best one may lie beyond.")
    if selection is not None and selection.flat:
        notes.append("Note: the criterion hardly changes over the grid; the choice means little.")
    if fit.points < len(smoother.y):
        notes.append(f"Note: {len(smoother.y) - fit.points} observations have no estimate at their own place.")
    return notes


def _pair(name: str, value: str, width: int) -> str:
    return f"{name}:{value.rjust(width - len(name) - 1)}" if name else ""


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.4g}"
