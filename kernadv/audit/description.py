"""What a log looks like: spread of the values, errors by pass rate, revisit gaps, drift."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.groups import Groups

#: Edges of the strata of pass rate.
STRATA = (0.1, 0.3, 0.7, 0.9)


def between(groups: Groups) -> float | None:
    """Variance of V over the prompts of a step, unbiased: products within a group minus products across prompts."""
    many = groups.n > 1
    tick, n, s = groups.step[many], groups.n[many].astype(np.float64), groups.s[many]
    _, code = np.unique(tick, return_inverse=True)
    own = (s * s - groups.ss[many]) / (n * (n - 1.0))
    mean = s / n
    count, sums, squares, owns = (np.bincount(code, part) for part in (np.ones(len(n)), mean, mean * mean, own))
    several = count > 1
    if not several.any():
        return None
    k = count[several]
    variance = owns[several] / k - (sums[several] ** 2 - squares[several]) / (k * (k - 1.0))
    return float((k * variance).sum() / k.sum())


def strata(groups: Groups, used: BoolArray, error: FloatArray, names: list[str], grid: int) -> list[dict[str, Any]]:
    """Errors by pass rate, and the best bandwidth, of those from column `grid` on, in each stratum.

    A group's stratum comes from the prompt's other groups, so that its own noise does not choose it.
    """
    n, s = (np.bincount(groups.prompt, part)[groups.prompt] - part for part in (groups.n, groups.s))
    rate = np.where(n > 0, s / np.maximum(n, 1), np.nan)[used]
    weight = groups.n[used].astype(np.float64)
    unit = groups.s.min() >= 0 and (groups.ss <= groups.n + 1e-9).all()
    edges = np.array(STRATA) if unit else np.unique(np.nanquantile(rate, (0.2, 0.4, 0.6, 0.8)))
    code = np.digitize(rate, edges)
    bounds = [0.0 if unit else float(np.nanmin(rate)), *edges.tolist(), 1.0 if unit else float(np.nanmax(rate))]
    rows = []
    for stratum, (low, high) in enumerate(pairwise(bounds)):
        own = (code == stratum) & ~np.isnan(rate)
        if own.any():
            mse = error[own].sum(0) / weight[own].sum()
            by_name = dict(zip(names, mse.tolist(), strict=True))
            best = names[grid + int(np.argmin(mse[grid:]))]
            rows.append({"low": low, "high": high, "rows": int(weight[own].sum()), "best": best, "mse": by_name})
    return rows


def gaps(groups: Groups) -> list[dict[str, Any]]:
    """Histogram of the steps between consecutive visits of a prompt, by powers of two."""
    gap = np.diff(groups.step)[np.diff(groups.prompt) == 0]
    power = np.floor(np.log2(gap)).astype(np.int64)
    return [
        {"low": 2**p, "high": 2 ** (p + 1) - 1, "count": int(times)}
        for p, times in enumerate(np.bincount(power).tolist())
    ]


def drift(groups: Groups, bins: int = 200) -> list[dict[str, float]]:
    """Mean reward by step, in at most `bins` stretches of steps."""
    clock, tick = np.unique(groups.step, return_inverse=True)
    stretch = tick * min(bins, len(clock)) // len(clock)
    n, s, step = (np.bincount(stretch, part) for part in (groups.n, groups.s, groups.step * groups.n))
    return [{"step": float(i), "mean": float(m), "rows": float(r)} for i, m, r in zip(step / n, s / n, n, strict=True)]
