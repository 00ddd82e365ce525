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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernadv import kernels
from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, check_count
from kernadv.auditing.checks import CHECKS, FEWEST, checks_of, possible
from kernadv.auditing.description import (
    Strata,
    by_stratum,
    dead,
    drift,
    gaps,
    is_binary,
    median_gap,
    other_sizes,
    spread,
    strata,
)
from kernadv.auditing.further import check_groups_for, check_needs, further_baselines, own_weight
from kernadv.auditing.reading import as_log
from kernadv.auditing.result import Audit, Finding, Interval
from kernadv.auditing.verdict import verdict
from kernadv.baselines import NOTHING, Baseline, LinearValues, Offline, SideInformation
from kernadv.baselines._base import offline_of, per_step
from kernadv.baselines.batch_mean import BatchMean
from kernadv.baselines.constant import Zero
from kernadv.baselines.group_mean import GroupMean, LeaveOneOutMean
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.clock import Bandwidth, Relative, Steps, Visits
from kernadv.groups import Groups, check_groups
from kernadv.kernels import Kernel
from kernadv.resampling import bootstrap_ratios
from kernadv.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.logs import RewardLog

#: Relative bandwidths of the grid.
RELATIVE = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)

#: Prompts below which the bootstrap is rough.
FEW = 20

#: Called with the share of the work done and what is being done.
Progress = Callable[[float, str], None]


class _Replayed(NamedTuple):
    """K baselines on the groups compared: errors summed over the traces of each prompt, (P, K), and of each stratum, (S, K);
    and true MSEs, (K,)."""

    baselines: list[Baseline]
    by_prompt: FloatArray
    by_stratum: FloatArray
    true: list[float | None]
    own_reward: list[bool]
    grid: int  # the first column of the grid


def audit(
    log: RewardLog | Groups | Any = None,
    *,
    prompt_ids: Any = None,
    rewards: Any = None,
    step: Any = None,
    weights: Any = None,
    offline: Offline | None = None,
    on_repeat: str = "error",
    value: FloatArray | None = None,
    kernel: str | Kernel = "triangular",
    bandwidths: Sequence[Bandwidth] | None = None,
    baselines: Sequence[str | Baseline] = (),
    draws: int = 1000,
    seed: int = 0,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Compare the value baselines on a log of rewards, and check whether the log can be trusted.

    Parameters
    ----------
    log : RewardLog, DataFrame or Groups
        What `kernadv.logs.read_log` returned; a frame of polars or pandas with a row for each trace, whose columns are found
        by their names as those of a file; or groups, as `kernadv.groups.aggregate` makes them.
    prompt_ids, rewards, step : (R,) array_like, instead of `log`
        Prompt, reward and training step of each trace.
    weights : (R,) array_like, optional
        A positive weight of each of these traces, such as the length of its response, for the baselines that read them.
    offline : Offline, optional
        Rollouts of every prompt from before training, for the baselines that read them: a mapping from prompt id to the sum
        of their rewards, or of Groups an array of these sums, and the number of rollouts.
    on_repeat : {"error", "last", "offset", "merge"}
        Of a frame or arrays: what to do with steps that come again, as in `kernadv.logs.read_log`.
    value : (N,) float64, optional
        True value of each group, where known; by default that of the log.
    kernel : str or Kernel
        Kernel of the KAE grid.
    bandwidths : sequence of Bandwidth, optional
        Grid of KAE; default: `default_grid`.  A bandwidth that reaches no past reward of this log is left out.
    baselines : sequence of str or Baseline
        Further baselines to compare, names of `kernadv.baselines.discover` and `discover_tuned` or objects.  Some need more
        than the counts and sums of the groups: single traces (of arrays, a frame, or a log read with ``keep_traces=True``),
        `weights`, `offline` or true values.
    draws : int
        Bootstrap draws over prompts.
    seed : int
        Seed of the bootstrap.
    notes : sequence of str
        Remarks to carry along, after those of the log.
    progress : callable, optional

    Returns
    -------
    Audit
        Prints as a table; `Audit.checks` says whether the log can be trusted.

    Raises
    ------
    LogError
        If the log is empty, no step has two traces, or steps come again and `on_repeat` is "error".
    ArgumentError, ArgumentTypeError
        If an argument cannot be used.
    MissingExtraError
        If a frame or arrays are given without the extra ``kernadv[audit]``.

    Examples
    --------
    >>> from kernadv.simulation import simulate
    >>> run = simulate("fast", "epochs", 4)
    >>> found = audit(run.groups, draws=100)
    >>> [check.verdict for check in found.checks]
    ['ok', 'ok', 'ok', 'ok', 'ok']
    >>> found.finding("kernadv").mse.estimate < found.finding("rloo").mse.estimate
    True
    """
    chosen = kernels.get(kernel)
    if bandwidths is not None and (
        not isinstance(bandwidths, (list, tuple)) or not all(isinstance(b, Bandwidth) for b in bandwidths)
    ):
        raise ArgumentTypeError(f"bandwidths must be a list such as [Relative(0.5), Steps(20)], got {bandwidths!r:.80}")
    draws, seed = check_count(draws, "draws"), check_count(seed, "seed", 0)
    named = further_baselines(baselines)
    single = any(baseline.needs_traces for baseline in named)
    given = as_log(log, prompt_ids, rewards, step, weights, on_repeat, keep_traces=single)
    groups = check_groups(given if isinstance(given, Groups) else given.groups)
    order = None if isinstance(given, Groups) else given.order
    origin = 0.0 if isinstance(given, Groups) else given.origin
    carried = () if isinstance(given, Groups) else given.notes
    if value is None and not isinstance(given, Groups):
        value = given.value
    if not len(groups.n):
        raise LogError("the log is empty: it holds no trace with a reward")
    if value is not None:
        value = check_floats(value, "value", 1)
        if len(value) != len(groups.n):
            raise ArgumentError(f"value must have one number a group, {len(groups.n)}, got {len(value)}")
    side = _side(given, offline, value)
    check_needs(
        named,
        truth=value is not None,
        traces=side.traces is not None,
        weights=side.traces is not None and side.traces.weight is not None,
        offline=offline is not None,
    )
    tell = progress or (lambda share, what: None)
    identified = bool((groups.n > 1).any())
    used = _compared(groups, identified)
    kept = groups.take(used)
    means: list[Baseline] = [LeaveOneOutMean(), GroupMean()] if identified else []
    always = [PooledKernel(), *means, BatchMean(), Zero(origin)]
    grid = [(width, KAE(width, chosen)) for width in (default_grid(groups) if bandwidths is None else bandwidths)]
    by = strata(groups, used, origin)
    replayed, widths, idle = _replay(groups, used, by, side, always, named, grid, tell)
    tell(0.9, "bootstrap over prompts")
    start = _first_groups(kept)
    weight = np.add.reduceat(kept.n.astype(np.float64), start)
    noise = np.add.reduceat(kept.n * np.where(identified, kept.noise, 0.0), start)
    total = np.column_stack([replayed.by_prompt, noise])
    drawn = bootstrap_ratios(np.arange(len(start)), total, weight, draws, seed)
    if len(start) < FEWEST:
        drawn[:] = np.nan
    sums = np.vstack([total.sum(0) / weight.sum(), drawn])
    mse, floor = sums[:, :-1], sums[:, -1:]
    first = replayed.grid
    findings = [
        _finding(replayed, column, widths[column - first] if column >= first else None, mse, floor)
        for column in range(len(replayed.baselines))
    ]
    names = [finding.name for finding in findings]
    signal = not identified or bool(floor[0, 0] > 0)
    best, as_good, at_edge = _best(findings[first:] if signal else [], mse[:, first:])
    default = names.index("kernadv")
    advised = "kernadv"
    if best is not None and _worse(mse[1:, default] - mse[1:, names.index(best)]):
        advised = best
    parts = spread(groups) if identified else None
    rloo = float(mse[0, names.index("rloo")]) if identified else 0.0
    least = float(floor[0, 0])
    tests = [column for column, name in enumerate(names) if name != "batch_mean" and not replayed.own_reward[column]]
    labels = [names[column] for column in tests]
    made = [
        possible(kept, replayed.by_prompt[:, tests], labels, parts) if identified else None,
        *checks_of(groups, order),
    ]
    checks = sorted((check for check in made if check is not None), key=lambda check: CHECKS.index(check.name))
    result = Audit(
        source="groups" if isinstance(given, Groups) else str(given.source),
        format="groups" if isinstance(given, Groups) else given.format,
        kernel=chosen.name,
        draws=draws,
        checks=checks,
        rows=int(groups.n.sum()),
        groups=len(groups.n),
        prompts=len(np.unique(groups.prompt)),
        steps=len(np.unique(groups.step)),
        group_sizes={
            int(size): int(times) for size, times in zip(*np.unique(groups.n, return_counts=True), strict=True)
        },
        compared_rows=int(weight.sum()),
        binary=not origin and is_binary(groups),
        noise=least if identified else None,
        between=None if parts is None else _between(*parts, draws, seed),
        dead=dead(groups, origin),
        bound=None if origin else _bound(groups),
        gradient_floor=least / (least + rloo) if identified and least > 0 else None,
        other_sizes=other_sizes(groups, least, rloo) if identified and least > 0 else [],
        findings=findings,
        best=best,
        as_good=as_good,
        at_edge=at_edge,
        advised=advised,
        strata=by_stratum(by, replayed.by_stratum, kept.n, names, first),
        gaps=gaps(groups),
        median_gap=median_gap(groups),
        first_visits=float((np.diff(groups.prompt, prepend=-1) != 0).mean()),
        drift=drift(groups, origin),
        notes=[*carried, *notes, *_notes(groups, used, identified, idle)],
        verdict="",
    )
    tell(1.0, "done")
    return replace(result, verdict=verdict(result))


def default_grid(groups: Groups) -> list[Bandwidth]:
    """Six relative bandwidths; windows from two steps to the length of the run, log-spaced, with infinity; and numbers of
    visits from three to the most a prompt has, log-spaced.  Nothing if no prompt comes back.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.auditing import default_grid
    >>> grid = default_grid(simulate("fast", "epochs", 4).groups)
    >>> [bandwidth.label for bandwidth in grid[:7]]
    ['h=0.05', 'h=0.1', 'h=0.2', 'h=0.3', 'h=0.5', 'h=1', 'w=2']
    """
    most = int(np.bincount(groups.prompt).max())
    if most == 1:
        return []
    length = int(groups.step.max() - groups.step.min()) + 1
    windows = sorted({round(w) for w in np.geomspace(2, max(length, 3), 9)})
    visits = sorted({round(k) for k in np.geomspace(3, max(most, 4), 6)})
    return [*map(Relative, RELATIVE), *map(Steps, windows), Steps(math.inf), *map(Visits, visits)]


def _side(given: RewardLog | Groups, offline: Offline | None, value: FloatArray | None) -> SideInformation:
    """What named baselines may read beside the groups."""
    if offline is not None:
        Zero().check_offline(offline)
    if isinstance(given, Groups):
        return SideInformation(None, offline_of(offline, list(range(int(given.prompt.max()) + 1))), value=value)
    known = offline_of(offline, list(given.prompts))
    if known is not None:
        known = known._replace(total=np.asarray(known.total) - given.origin * known.rollouts)
    return SideInformation(given.traces, known, value=value)


def _compared(groups: Groups, identified: bool) -> BoolArray:
    """Groups whose errors are averaged: several traces (if any group has), and another trace in the step."""
    tick, n, _ = per_step(groups)
    used: BoolArray = (n[tick] > 1) & ((groups.n > 1) | (not identified))
    if not used.any():
        raise LogError(
            "no step of the log has two traces: even a batch mean is undefined; a step is that of the policy, such as an "
            "epoch, not a count of rollouts: name its column (--map step=COLUMN)"
        )
    return used


def _replay(
    groups: Groups,
    used: BoolArray,
    by: Strata,
    side: SideInformation,
    always: list[Baseline],
    named: list[Baseline],
    grid: list[tuple[Bandwidth, KAE]],
    tell: Progress,
) -> tuple[_Replayed, list[Bandwidth], list[str]]:
    """Replay all baselines, of which the named ones get the side information; the bandwidths that reach a past reward, and
    the labels of those that do not."""
    kept = groups.take(used)
    identified = bool((kept.n > 1).any())
    of_grid = {baseline.name for _, baseline in grid}
    fixed = {baseline.name for baseline in always}
    once = {baseline.name: baseline for baseline in named if baseline.name not in of_grid | fixed}
    plain = [*always, *once.values()]
    for baseline in plain:
        check_groups_for(baseline, kept, identified)
    noise = np.where(identified, kept.noise, 0.0)
    weight = kept.n.astype(np.float64)
    compared: list[Baseline] = [*plain, *(baseline for _, baseline in grid)]
    shown: list[Baseline] = []
    by_prompt, by_stratum, true, own_reward = [], [], [], []
    start = _first_groups(kept)
    for column, baseline in enumerate(compared):
        tell(0.9 * column / len(compared), f"replaying {baseline.title}")
        values = baseline.replay(groups, side if baseline.name in once else NOTHING)
        own = own_weight(baseline, values, groups)[used]
        if column < len(plain) or (isinstance(values, LinearValues) and _reaches(values.take(used), weight)):
            shown.append(baseline)
            error = values.squared_error(groups)[used] - weight * noise * (1.0 - 2.0 * own)
            by_prompt.append(np.add.reduceat(error, start))
            by_stratum.append(by.sums(error))
            own_reward.append(bool((own != 0).any()))
            exact = None if side.value is None else values.true_squared_error(groups, side.value)[used].sum()
            true.append(None if exact is None else float(exact / weight.sum()))
    found = _Replayed(shown, np.column_stack(by_prompt), np.column_stack(by_stratum), true, own_reward, len(plain))
    reached = [width for width, baseline in grid if baseline in shown]
    return found, reached, [width.label for width, baseline in grid if baseline not in shown]


def _first_groups(groups: Groups) -> IntArray:
    """Index of the first group of each prompt.  # (P,)"""
    return np.flatnonzero(np.diff(groups.prompt, prepend=-1))


def _reaches(values: LinearValues, n: FloatArray) -> bool:
    """Whether any of the values of a bandwidth gives a past reward weight: 1 / gain is the sum of the weights."""
    gain = np.where(values.gain > 0, values.gain, np.inf)
    return bool((1.0 / gain > (n - 1.0) * (1.0 + 1e-9)).any())


def _best(grid: list[Finding], mse: FloatArray) -> tuple[str | None, list[str], bool]:
    """The bandwidth of the smallest error, those that the draws cannot tell from it, and whether it is at the edge of its
    clock, with the other end worse."""
    if not grid:
        return None, [], False
    best = int(np.argmin(mse[0]))
    known = bool(np.isfinite(mse[1:]).all())
    worse = [known and _worse(mse[1:, column] - mse[1:, best]) for column in range(len(grid))]
    as_good = [finding.name for finding, far in zip(grid, worse, strict=True) if known and not far]
    clock = [column for column, finding in enumerate(grid) if finding.clock == grid[best].clock]
    clock.sort(key=lambda column: grid[column].bandwidth or 0.0)
    ends = {clock[0]: clock[-1], clock[-1]: clock[0]}
    return grid[best].name, as_good, best in ends and worse[ends[best]]


def _worse(difference: FloatArray) -> bool:
    """Whether a difference of errors is above 0 in at least 95% of the draws."""
    return bool(np.quantile(difference, 0.05) > 0)


def _between(part: FloatArray, prompt: IntArray, draws: int, seed: int) -> Interval:
    ones = np.ones(len(part))
    drawn = bootstrap_ratios(prompt, part[:, None], ones, draws, seed)[:, 0]
    if len(np.unique(prompt)) < FEWEST:
        drawn[:] = np.nan
    return interval(np.concatenate([[part.mean()], drawn]))


def _bound(groups: Groups) -> float | None:
    """Exact binomial bound of every prompt's mean value, or of one minus it, where all rewards are 0, or all 1.

    If the values V_i move, all rewards are 0 with probability prod (1 - V_i) <= (1 - mean V)^n.
    """
    if not is_binary(groups) or 0 < groups.s.sum() < groups.n.sum():
        return None
    rewards = np.bincount(groups.prompt, groups.n)
    rewards = rewards[rewards > 0]
    return float(1.0 - (0.05 / len(rewards)) ** (1.0 / rewards.min()))


def _finding(
    replayed: _Replayed, column: int, bandwidth: Bandwidth | None, mse: FloatArray, floor: FloatArray
) -> Finding:
    """Finding of one column of `mse` (draws + 1, K), whose first row is the estimate; of the grid if it has a bandwidth."""
    names = [baseline.name for baseline in replayed.baselines]
    baseline = replayed.baselines[column]
    identified = "rloo" in names
    own, batch = mse[:, column], mse[:, names.index("batch_mean")]
    rloo = mse[:, names.index("rloo")] if identified else None
    error = interval(own)
    gradient = None
    if not replayed.own_reward[column]:
        gradient = _quotient(floor[:, 0] + own, floor[:, 0] + (batch if rloo is None else rloo))
    width = next((getattr(bandwidth, name) for name in ("h", "width", "k") if hasattr(bandwidth, name)), None)
    return Finding(
        name=baseline.name,
        title=baseline.title,
        clock=None if bandwidth is None else type(bandwidth).__name__.lower(),
        bandwidth=width,
        mse=error if identified else None,
        excess=interval(own - batch),
        vs_rloo=None if rloo is None else _reduction(own, rloo),
        vs_batch=_reduction(own, batch) if identified else None,
        gradient_ratio=gradient,
        worth=float(1.0 + floor[0, 0] / own[0]) if identified and error.low > 0 and floor[0, 0] > 0 else None,
        true_mse=replayed.true[column],
    )


def _reduction(own: FloatArray, other: FloatArray) -> Interval | None:
    """1 - own / other, or None where other is 0."""
    quotient = _quotient(own, other)
    return None if quotient is None else Interval(1.0 - quotient.estimate, 1.0 - quotient.high, 1.0 - quotient.low)


def _quotient(a: FloatArray, b: FloatArray) -> Interval | None:
    """a / b, or None where b is 0 (up to rounding) in the log; without bounds where it is 0 in a draw."""
    zero = b <= 1e-12 * np.fmax.reduce(b, initial=0.0)  # too few prompts: the draws are NaN
    return None if zero[0] else interval(np.where(zero, np.nan, a / np.where(zero, 1.0, b)))


def interval(values: FloatArray) -> Interval:
    """The first entry, and the 2.5% and 97.5% points of the others; NaN if one of those is undefined."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))


def _notes(groups: Groups, used: BoolArray, identified: bool, idle: list[str]) -> list[str]:
    notes = []
    if not identified:
        notes.append(
            "every group has one trace: the noise of the rewards cannot be told from the error of a value, so only "
            "differences between baselines are identified; they are given against the batch mean"
        )
    prompts = len(np.unique(groups.prompt))
    if prompts < FEW:
        rough = "there are no intervals" if prompts < FEWEST else "the intervals are rough"
        few = "one prompt is" if prompts == 1 else f"{prompts} prompts are"
        notes.append(f"{few} few: {rough}, because they resample prompts")
    if idle:
        notes.append(f"bandwidths that reach no past reward, left out: {', '.join(idle)}")
    left_out = int(groups.n[~used].sum())
    if left_out:
        rows = "one row" if left_out == 1 else f"{left_out:,} rows"
        are = "is" if left_out == 1 else "are"
        notes.append(f"{rows} in groups of one trace, or alone in their step, {are} smoothed over but not compared")
    if identified and len(np.unique(groups.n)) > 1:
        notes.append("group sizes differ: errors are averaged over traces, so larger groups weigh more")
    return notes
