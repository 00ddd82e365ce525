"""What a log looks like: spread of the values, dead groups, errors by pass rate, revisit gaps, drift."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from kernadv.auditing.result import Dead
from kernadv.groups import Groups
from kernadv.typing import AnyArray, BoolArray, FloatArray, IntArray

#: Edges of the strata of pass rate.
STRATA = (0.1, 0.3, 0.7, 0.9)


def spread(groups: Groups) -> tuple[FloatArray, IntArray] | None:
    """Variance of V over the prompts of a step, unbiased: products within a group minus products across prompts.

    Returns
    -------
    ((M,) float64, (M,) int64) or None
        Contribution and prompt of each group in a step with several; the mean is the estimate, and their spread over the
        prompts that of the estimate: each product across prompts is a part of both.
    """
    many = groups.n > 1
    tick, n, s = groups.step[many], groups.n[many].astype(np.float64), groups.s[many]
    _, code = np.unique(tick, return_inverse=True)
    own = (s * s - groups.ss[many]) / (n * (n - 1.0))
    mean = s / n
    count, sums, squares = (np.bincount(code, part) for part in (np.ones(len(n)), mean, mean * mean))
    several = (count > 1)[code]
    if not several.any():
        return None
    k = np.maximum(count, 2.0)[code]
    across = ((sums**2 - squares)[code]) / (k * (k - 1.0))
    part = own - 2.0 * mean * (sums[code] - mean) / (k - 1.0) + across
    return part[several], groups.prompt[many][several]


def two_values(groups: Groups) -> tuple[float, float] | None:
    """The two values that every reward has, the smaller first; None if there are more of them, or one.

    (z - a)(z - b) = 0 for every reward, so the sums of squares are linear in the counts and sums.
    """
    n, s, ss = groups.n.astype(np.float64), groups.s, groups.ss
    if is_binary(groups):
        return (0.0, 1.0) if 0 < s.sum() < n.sum() else None
    scale = float(np.sqrt(ss.sum() / n.sum()))
    (c, b), _, rank, _ = np.linalg.lstsq(np.column_stack([n, s / scale]), ss / scale**2, rcond=None)
    root = b * b / 4.0 + c
    if rank == 2 and root > 0:
        low, high = scale * (b / 2.0 - np.sqrt(root)), scale * (b / 2.0 + np.sqrt(root))
    elif (n == 2).all() and (ss > s * s / 2.0).any():  # of two rewards both are known
        apart = np.sqrt(np.maximum(ss / 2.0 - s * s / 4.0, 0.0))
        low, high = (s / 2.0 - apart).min(), (s / 2.0 + apart).max()
    else:
        return None
    right = (s - n * low) / (high - low)
    whole = np.abs(right - np.rint(right)) < 1e-6
    exact = np.abs(ss - ((low + high) * s - low * high * n)) < 1e-6 * (n * (high - low) ** 2)
    inside = (np.rint(right) >= 0) & (np.rint(right) <= n)
    if not (whole & exact & inside).all():
        return None
    digits = 12 - math.floor(math.log10(high - low))
    return round(float(low), digits), round(float(high), digits)


def is_binary(groups: Groups) -> bool:
    """Say whether every reward is 0 or 1: z (1 - z) is 0 in every group, and no reward lies outside."""
    inside = (groups.s >= 0) & (groups.s <= groups.n)
    return bool((inside & (groups.ss == groups.s)).all())


def dead(groups: Groups, origin: float = 0.0) -> Dead | None:
    """Groups of several traces whose rewards are all equal; None without groups of several traces."""
    own = groups.take(groups.n > 1)
    if not len(own.n):
        return None
    equal = own.noise == 0
    values = (0.0, 1.0) if is_binary(groups) else two_values(groups)
    if values is None:
        return Dead(float(equal.mean()), None, None, None)
    low, high = ((equal & (np.abs(own.mean - end) < 1e-6 * (values[1] - values[0]))).mean() for end in values)
    return Dead(float(equal.mean()), float(low), float(high), (values[0] + origin, values[1] + origin))


def other_sizes(groups: Groups, noise: float, rloo: float) -> list[dict[str, Any]]:
    """What leave-one-out means of another number of traces a prompt would have given, at the same number of rollouts.

    Dead groups of fewer traces are counted over all choices of that many traces of a group, without bias; of more traces
    they are not known (None).
    """
    own = groups.take(groups.n > 1)
    usual = int(np.median(own.n))
    values = (0.0, 1.0) if is_binary(groups) else two_values(groups)
    rows = []
    for size in sorted({2, 4, 8, 16, 32, usual}):
        share = None
        if values is not None and size <= own.n.min():
            right = np.rint((own.s - own.n * values[0]) / (values[1] - values[0])).astype(np.int64)
            drawn = np.full(len(own.n), size)
            every = all_drawn(right, own.n, drawn) + all_drawn(own.n - right, own.n, drawn)
            share = float(every.mean())
        mse = noise / (size - 1)
        rows.append({"G": size, "dead": share, "mse": mse, "gradient_ratio": (noise + mse) / (noise + rloo)})
    return rows


def all_drawn(chosen: IntArray, total: IntArray, n: IntArray) -> FloatArray:
    """Probability that n draws without replacement from `total` things are all among the `chosen`."""
    probability = np.ones(len(n))
    for draw in range(int(n.max())):
        factor = np.maximum(chosen - draw, 0) / np.maximum(total - draw, 1)
        probability *= np.where(draw < n, factor, 1.0)
    return probability


class Strata(NamedTuple):
    """Groups by the pass rate of their prompts.

    Attributes
    ----------
    code : (M,) int64
        Stratum of each of the groups compared; S for one of a prompt without another group.
    bounds : list of float
        Ends of the S strata, ascending; empty: there are none.
    """

    code: IntArray
    bounds: list[float]

    def sums(self, part: AnyArray) -> FloatArray:
        """Sum over the groups of each stratum.  # (M,) -> (S,)"""
        return np.bincount(self.code, part, len(self.bounds))[:-1].astype(np.float64)


def strata(groups: Groups, used: BoolArray, origin: float = 0.0) -> Strata:
    """The stratum of each group compared.

    It comes from the prompt's other groups, so that the group's own noise does not choose it.
    """
    n, s = (np.bincount(groups.prompt, part)[groups.prompt] - part for part in (groups.n, groups.s))
    rate = np.where(n > 0, s / np.maximum(n, 1), np.nan)[used]
    unknown = np.isnan(rate)
    if unknown.all():
        return Strata(np.zeros(len(rate), np.int64), [])
    unit = not origin and groups.s.min() >= 0 and (groups.ss <= groups.n + 1e-9).all()
    edges = np.array(STRATA) if unit else np.unique(np.nanquantile(rate, (0.2, 0.4, 0.6, 0.8)))
    ends = (0.0, 1.0) if unit else (float(np.nanmin(rate)), float(np.nanmax(rate)))
    bounds = [end + origin for end in (ends[0], *edges.tolist(), ends[1])]
    return Strata(np.where(unknown, len(edges) + 1, np.digitize(rate, edges)), bounds)


def by_stratum(by: Strata, error: FloatArray, n: IntArray, names: list[str], grid: int) -> list[dict[str, Any]]:
    """Errors by pass rate, and the best bandwidth, of those from column `grid` on (None: there is none), in each stratum.

    Parameters
    ----------
    by : Strata
        Of M groups.
    error : (S, K) float64
        Errors of the baselines, summed over the traces of each stratum.
    n : (M,) int64
        Number of traces of each group.
    names : list of str, length K
    grid : int
    """
    rows = []
    for (low, high), sums, weight in zip(pairwise(by.bounds), error, by.sums(n), strict=True):
        if weight:
            mse = sums / weight
            best = names[grid + int(np.argmin(mse[grid:]))] if len(names) > grid else None
            mses = dict(zip(names, mse.tolist(), strict=True))
            rows.append({"low": low, "high": high, "rows": int(weight), "best": best, "mse": mses})
    return rows


def gaps(groups: Groups) -> list[dict[str, Any]]:
    """Histogram of the steps between consecutive visits of a prompt, by powers of two; empty if no prompt comes back."""
    power = np.floor(np.log2(_steps_between_visits(groups))).astype(np.int64)
    return [
        {"low": 2**p, "high": 2 ** (p + 1) - 1, "count": int(times)}
        for p, times in enumerate(np.bincount(power).tolist())
    ]


def median_gap(groups: Groups) -> float | None:
    """Median of the steps between consecutive visits of a prompt; None if no prompt comes back."""
    gap = _steps_between_visits(groups)
    return float(np.median(gap)) if len(gap) else None


def _steps_between_visits(groups: Groups) -> IntArray:
    return np.asarray(np.diff(groups.step)[np.diff(groups.prompt) == 0], np.int64)


def drift(groups: Groups, origin: float = 0.0, bins: int = 200) -> list[dict[str, float]]:
    """Mean reward by step, in at most `bins` stretches of steps."""
    clock, tick = np.unique(groups.step, return_inverse=True)
    stretch = tick * min(bins, len(clock)) // len(clock)
    n, s, step = (np.bincount(stretch, part) for part in (groups.n, groups.s, groups.step * groups.n))
    return [
        {"step": float(i), "mean": float(m) + origin, "rows": float(r)}
        for i, m, r in zip(step / n, s / n, n, strict=True)
    ]
