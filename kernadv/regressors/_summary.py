"""Text table of a fitted smoother."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regressors._quality import Quality
from kernadv.regressors._sample import Sample

WIDTH = 78


def summary(regressor: Any, sample: Sample, fit: Quality, window: str) -> str:
    """Lay the numbers of a fit out in two columns, with notes on what not to trust.

    Parameters
    ----------
    regressor : KernelRegressor
    sample : Sample
    fit : Quality
    window : str
        The bandwidth in words.
    """
    how = f"{regressor._how().kernel.name}{', past only' if regressor._past else ''}"
    series = "" if regressor.groups_ is None else f" in {len(regressor.groups_)} series"
    left = [
        ("No. observations", f"{len(sample.y)}{series}"),
        ("Dimensions", str(regressor.n_features_in_)),
        ("Kernel", how),
        ("Degree", str(regressor.degree)),
    ]
    right = [
        ("Edf (tr S)", f"{fit.edf:.4g}"),
        ("Residual std. error", _each(fit.scale)),
        ("R-squared", _each(fit.r_squared)),
        ("LOO RMSE", _each(fit.loo_rmse)),
    ]
    half = WIDTH // 2 - 1
    lines = [type(regressor).__name__.center(WIDTH).rstrip(), "=" * WIDTH]
    lines += [f"{_pair(*a, half)}  {_pair(*b, half)}".rstrip() for a, b in zip(left, right, strict=True)]
    lines += ["-" * WIDTH, window[:1].upper() + window[1:], *_notes(regressor, sample, fit), "=" * WIDTH]
    return "\n".join(lines)


def _notes(regressor: Any, sample: Sample, fit: Quality) -> list[str]:
    """What the reader should know before trusting the fit."""
    notes = []
    selection = getattr(regressor, "selection_", None)
    if selection is not None and selection.at_edge:
        notes.append("Note: the bandwidth lies at an end of the grid; the best one may lie beyond.")
    if selection is not None and selection.flat:
        notes.append("Note: the criterion hardly changes over the grid; the choice means little.")
    if fit.points < len(sample.y):
        notes.append(f"Note: {len(sample.y) - fit.points} observations have no estimate at their own place.")
    return notes


def _pair(name: str, value: str, width: int) -> str:
    return f"{name}:{value.rjust(width - len(name) - 1)}"


def _each(values: FloatArray) -> str:
    """One number a response."""
    return ", ".join("undefined" if np.isnan(v) else f"{v:.4g}" for v in values)
