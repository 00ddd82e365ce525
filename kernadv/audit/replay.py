"""The audit of a reward log: how good each value baseline was on that run, without the truth and without a new rollout.

For a value V^(g) that does not depend on the own reward Z^(g),

    E (V^(g) - V)^2 = E (V^(g) - Z^(g))^2 - E s^2,

with s^2 the unbiased within-group variance, because Z^(g) - V is noise of mean 0 given everything V^(g) is made of.  A
value that contains its own reward with weight c has 2 c E s^2 added (for the group mean this is E s^2 / G, exactly).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, check_count
from kernadv._typing import BoolArray, FloatArray
from kernadv.audit.description import between, drift, gaps, strata
from kernadv.audit.further import check_groups_for, further_baselines
from kernadv.audit.result import Audit, Finding, Interval
from kernadv.audit.verdict import verdict
from kernadv.baselines import Baseline, LinearValues
from kernadv.baselines._base import per_step
from kernadv.baselines.batch_mean import BatchMean
from kernadv.baselines.constant import Zero
from kernadv.baselines.group_mean import GroupMean, LeaveOneOutMean
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.clock import Bandwidth, Relative, Steps, Visits
from kernadv.groups import Groups, check_groups
from kernadv.kernels import Kernel
from kernadv.resampling import bootstrap_ratios

#: Relative bandwidths of the grid.
RELATIVE = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)

#: Prompts below which the bootstrap is rough, and below which there is none.
FEW, FEWEST = 20, 5
#: Squared mean over variance of the rewards above which sums of squares have lost their digits.
OFFSET = 1e10

#: Called with the share of the work done and what is being done.
Progress = Callable[[float, str], None]


def audit(
    groups: Groups,
    *,
    value: FloatArray | None = None,
    kernel: str | Kernel = "triangular",
    bandwidths: Sequence[Bandwidth] | None = None,
    baselines: Sequence[str | Baseline] = (),
    draws: int = 1000,
    seed: int = 0,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Compare the value baselines on the groups of a log.

    Parameters
    ----------
    groups : Groups
        Sorted by prompt and step, as `kernadv.groups.aggregate` makes them.
    value : (N,) float64, optional
        True value of each group, where known.
    kernel : str or Kernel
        Kernel of the KAE grid.
    bandwidths : sequence of Bandwidth, optional
        Grid of KAE; default: `default_grid`.
    baselines : sequence of str or Baseline
        Further baselines to compare, names of `kernadv.baselines.discover` and `discover_tuned` or objects.
    draws : int
        Bootstrap draws over prompts.
    seed : int
        Seed of the bootstrap.
    notes : sequence of str
        Remarks to carry along.
    progress : callable, optional

    Raises
    ------
    LogError
        If the log is empty, or no prompt is visited twice, or no step has two traces.
    ArgumentError, ArgumentTypeError
        If an argument cannot be used.
    """
    check_groups(groups)
    if bandwidths is not None and (
        not isinstance(bandwidths, (list, tuple)) or not all(isinstance(b, Bandwidth) for b in bandwidths)
    ):
        raise ArgumentTypeError(f"bandwidths must be a list such as [Relative(0.5), Steps(20)], got {bandwidths!r:.80}")
    draws, seed = check_count(draws, "draws"), check_count(seed, "seed", 0)
    _check(groups)
    if value is not None:
        value = check_floats(value, "value", 1)
        if len(value) != len(groups.n):
            raise ArgumentError(f"value must have one number a group, {len(groups.n)}, got {len(value)}")
    tell = progress or (lambda share, what: None)
    named = further_baselines(baselines)
    widths = bandwidths or default_grid(groups)
    grid = [KAE(bandwidth, kernel) for bandwidth in widths]
    identified = bool((groups.n > 1).any())
    means = [GroupMean(), LeaveOneOutMean()] if identified else []
    always: list[Baseline] = [Zero(), BatchMean(), *means, PooledKernel()]
    used = _compared(groups, identified)
    kept = groups.take(used)
    present = {baseline.name for baseline in (*always, *grid)}
    further = list({baseline.name: baseline for baseline in named if baseline.name not in present}.values())
    for baseline in further:
        check_groups_for(baseline, kept, identified)
    compared = [*always, *further, *grid]
    noise = np.where(identified, kept.noise, 0.0)
    weight = kept.n.astype(np.float64)
    error = np.empty((len(weight), len(compared)))  # sums over the traces of each group
    true = np.full(len(compared), np.nan)
    own_reward = np.zeros(len(compared), dtype=bool)
    for column, baseline in enumerate(compared):
        tell(0.9 * column / len(compared), f"replaying {baseline.title}")
        values = baseline.replay(groups)
        assert isinstance(values, LinearValues)  # without single traces there are no others
        values = values.take(used)
        own_reward[column] = bool((values.own != 0).any())
        error[:, column] = values.squared_error(kept) - weight * noise * (1.0 - 2.0 * values.own)
        if value is not None:
            true[column] = values.true_squared_error(kept, value[used]).sum() / weight.sum()
    tell(0.9, "bootstrap over prompts")
    total = np.column_stack([error, weight * noise])
    drawn = bootstrap_ratios(kept.prompt, total, weight, draws, seed)
    if len(np.unique(kept.prompt)) < FEWEST:
        drawn[:] = np.nan
    sums = np.vstack([total.sum(0) / weight.sum(), drawn])
    mse, floor = sums[:, :-1], sums[:, -1:]
    names = [baseline.name for baseline in compared]
    first = len(compared) - len(grid)
    findings = [
        _finding(
            baseline,
            widths[column - first] if column >= first else None,
            mse,
            floor,
            names,
            column,
            bool(own_reward[column]),
            None if value is None else float(true[column]),
        )
        for column, baseline in enumerate(compared)
    ]
    best = first + int(np.argmin(mse[0, first:]))
    worse = np.quantile(mse[1:, first:] - mse[1:, [best]], 0.05, axis=0) > 0
    chosen = findings[best]
    same_clock = [s.bandwidth for s in findings if s.clock == chosen.clock and s.bandwidth is not None]
    result = Audit(
        rows=int(groups.n.sum()),
        groups=len(groups.n),
        prompts=len(np.unique(groups.prompt)),
        steps=len(np.unique(groups.step)),
        group_sizes={
            int(size): int(times) for size, times in zip(*np.unique(groups.n, return_counts=True), strict=True)
        },
        compared_rows=int(weight.sum()),
        noise=float(floor[0, 0]) if identified else None,
        between=between(groups) if identified else None,
        findings=findings,
        best=chosen.name,
        as_good=[baseline.name for baseline, far in zip(grid, worse, strict=True) if not far],
        at_edge=chosen.bandwidth in (min(same_clock), max(same_clock)) and len(same_clock) > 1,
        strata=strata(groups, used, error, names, first),
        gaps=gaps(groups),
        first_visits=float((np.diff(groups.prompt, prepend=-1) != 0).mean()),
        drift=drift(groups),
        uniform_groups=float((groups.noise[groups.n > 1] == 0).mean()) if identified else None,
        notes=[*notes, *_notes(groups, used, identified)],
        verdict="",
    )
    tell(1.0, "done")
    return replace(result, verdict=verdict(result))


def default_grid(groups: Groups) -> list[Bandwidth]:
    """Six relative bandwidths; windows from two steps to the length of the run, log-spaced, with infinity; and numbers of
    visits from three to the most a prompt has, log-spaced."""
    length = int(groups.step.max() - groups.step.min()) + 1
    windows = sorted({round(w) for w in np.geomspace(2, max(length, 3), 9)})
    visits = sorted({round(k) for k in np.geomspace(3, max(int(np.bincount(groups.prompt).max()), 4), 6)})
    return [*map(Relative, RELATIVE), *map(Steps, windows), Steps(math.inf), *map(Visits, visits)]


def _check(groups: Groups) -> None:
    if not len(groups.n):
        raise LogError("the log is empty: it holds no trace with a reward")
    if len(np.unique(groups.prompt)) == len(groups.prompt):
        raise LogError(
            f"each of the {len(groups.prompt)} prompts was visited at one step only: there is no past reward of a prompt to "
            "smooth, and KAE equals the leave-one-out group mean on this log. Smoothing needs prompts that come back, "
            "e.g. the same prompts in 8 to 10 consecutive steps; if they did come back, the prompt column is not stable"
        )


def _compared(groups: Groups, identified: bool) -> BoolArray:
    """Groups whose errors are averaged: several traces (if any group has), and another trace in the step."""
    tick, n, _ = per_step(groups)
    used: BoolArray = (n[tick] > 1) & ((groups.n > 1) | (not identified))
    if not used.any():
        raise LogError("no step of the log has two traces: even a batch mean is undefined; check the step column")
    return used


def _finding(
    baseline: Baseline,
    bandwidth: Bandwidth | None,
    mse: FloatArray,
    floor: FloatArray,
    names: list[str],
    column: int,
    own_reward: bool,
    true_mse: float | None,
) -> Finding:
    """Finding of one column of `mse` (draws + 1, K), whose first row is the estimate; of the grid if it has a bandwidth."""
    identified = "rloo" in names
    own, batch = mse[:, column], mse[:, names.index("batch_mean")]
    rloo = mse[:, names.index("rloo")] if identified else None
    error = _interval(own)
    gradient = None if own_reward else _quotient(floor[:, 0] + own, floor[:, 0] + (batch if rloo is None else rloo))
    width = next((getattr(bandwidth, name) for name in ("h", "width", "k") if hasattr(bandwidth, name)), None)
    return Finding(
        name=baseline.name,
        title=baseline.title,
        clock=None if bandwidth is None else type(bandwidth).__name__.lower(),
        bandwidth=width,
        mse=error if identified else None,
        excess=_interval(own - batch),
        vs_rloo=None if rloo is None else _reduction(own, rloo),
        vs_batch=_reduction(own, batch) if identified else None,
        gradient_ratio=gradient,
        worth=float(1.0 + floor[0, 0] / own[0]) if identified and error.low > 0 and floor[0, 0] > 0 else None,
        true_mse=true_mse,
    )


def _reduction(own: FloatArray, other: FloatArray) -> Interval | None:
    """1 - own / other, or None where other is 0."""
    quotient = _quotient(own, other)
    return None if quotient is None else Interval(1.0 - quotient.estimate, 1.0 - quotient.high, 1.0 - quotient.low)


def _quotient(a: FloatArray, b: FloatArray) -> Interval | None:
    """a / b, or None where b is 0 (up to rounding) in the log; without bounds where it is 0 in a draw."""
    zero = b <= 1e-12 * np.fmax.reduce(b, initial=0.0)  # too few prompts: the draws are NaN
    return None if zero[0] else _interval(np.where(zero, np.nan, a / np.where(zero, 1.0, b)))


def _interval(values: FloatArray) -> Interval:
    """The first entry, and the 2.5% and 97.5% points of the others; NaN if one of those is undefined."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))


def _notes(groups: Groups, used: BoolArray, identified: bool) -> list[str]:
    notes = []
    if not identified:
        notes.append(
            "every group has one trace: the noise of the rewards cannot be told from the error of a value, so only "
            "differences between baselines are identified; they are given against the batch mean"
        )
    prompts = len(np.unique(groups.prompt))
    if prompts < FEW:
        rough = "there are no intervals" if prompts < FEWEST else "the intervals are rough"
        notes.append(f"{prompts} prompts are few: {rough}, because they resample prompts")
    mean = groups.s.sum() / groups.n.sum()
    variance = groups.ss.sum() / groups.n.sum() - mean**2
    if mean**2 > OFFSET * max(variance, 0.0) and (groups.ss * groups.n > groups.s**2).any():
        notes.append("the rewards vary little around a large mean: digits are lost, subtract a constant from them")
    left_out = int(groups.n[~used].sum())
    if left_out:
        notes.append(
            f"{left_out} rows in groups of one trace, or alone in their step, are smoothed over but not compared"
        )
    if identified and len(np.unique(groups.n)) > 1:
        notes.append("group sizes differ: errors are averaged over traces, so larger groups weigh more")
    return notes
