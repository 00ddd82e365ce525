"""Two runs on the prompts that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_count
from kernadv.auditing.checks import FEWEST
from kernadv.auditing.description import spread
from kernadv.auditing.reading import as_log
from kernadv.auditing.replay import FEW, Progress, audit, interval
from kernadv.auditing.result import WIDTH, Audit, Interval, form, plain
from kernadv.baselines import LinearBaseline
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.clock import Bandwidth, Relative, Steps, Visits
from kernadv.groups import Groups, check_groups
from kernadv.kernels import Kernel
from kernadv.resampling import bootstrap_ratios
from kernadv.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from kernadv.logs import RewardLog

#: Parts of the training that is matched.
PARTS = 4

_CLOCKS: dict[str, type[Any]] = {"relative": Relative, "steps": Steps, "visits": Visits}

#: What one run each cannot say.
LIMITS = (
    "One run each: the intervals resample prompts, and say nothing about how much another seed of the same settings would "
    "differ. A difference is one between these two runs, not yet one between their settings.",
    "Only prompts that both runs visited count, each alike; the others, and how prompts were chosen, are left out.",
    "Rewards are compared as they were logged: they must be scored alike, and step and rollout must mean the same in both.",
)


@dataclass(frozen=True)
class Difference:
    """One number of two runs on their shared prompts.

    Attributes
    ----------
    name : str
        ``"reward"`` and ``"growth"`` (the mean reward of the last part minus that of the first), ``"dead"``, ``"noise"``,
        ``"mse"`` or ``"between"`` (the variance of V over the prompts).
    at : {"steps", "rollouts"}
        What is equal in both runs.
    begin, end : int
        The steps, or the rollouts of the whole run, from (exclusive) and to.
    prompts : int
        Prompts that both runs have there.
    a, b, difference : Interval
        In A, in B, and B minus A; paired by prompt.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.auditing import compare
    >>> flat, fast = (simulate(name, "epochs", 4).groups for name in ("flat", "fast"))
    >>> growth = compare(flat, fast, draws=50).of("growth")[0]
    >>> growth.at, bool(growth.a.low < 0.0 < growth.a.high), bool(growth.b.low > 0.0)  # only the second run learns
    ('steps', True, True)
    """

    name: str
    at: str
    begin: int
    end: int
    prompts: int
    a: Interval
    b: Interval
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a table when it is printed, and plain numbers.

    Attributes
    ----------
    a, b : Audit
        Of the whole runs.
    shared, only_a, only_b : int
        Prompts of both runs, and of one of them only.
    share_a, share_b : float
        Share of each run's rollouts that are on shared prompts.
    draws : int
        Bootstrap draws over prompts.
    differences : list of Difference
    notes : list of str
    limits : list of str
        What such a comparison cannot say.
    verdict : str
        What a person should know first.

    Examples
    --------
    >>> from kernadv import simulate
    >>> from kernadv.auditing import compare
    >>> flat, fast = (simulate(name, "epochs", 4).groups for name in ("flat", "fast"))
    >>> found = compare(flat, fast, draws=50)
    >>> found.shared, found.share_a, len(found.of("reward"))
    (1024, 1.0, 4)
    >>> len(found.table(width=80).splitlines()) > 10, found.to_dict()["shared"]
    (True, 1024)
    """

    a: Audit
    b: Audit
    shared: int
    only_a: int
    only_b: int
    share_a: float
    share_b: float
    draws: int
    differences: list[Difference]
    notes: list[str]
    limits: list[str]
    verdict: str

    def of(self, name: str, at: str = "steps") -> list[Difference]:
        """The differences of that name, part by part."""
        return [one for one in self.differences if (one.name, one.at) == (name, at)]

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = WIDTH) -> str:
        """The comparison as text, in lines of at most `width` characters.

        Raises
        ------
        MissingExtraError
            If the extra ``kernadv[audit]`` is not installed.
        """
        text: str = form("comparison").text(self, width)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON, as `Audit.to_dict`."""
        numbers: dict[str, Any] = plain(self)
        return numbers


class _Run(NamedTuple):
    """A run on the shared prompts.

    Attributes
    ----------
    groups : Groups
        Prompts are numbered alike in both runs.
    done : (N,) int64
        Rollouts of the whole run up to the end of each group's step.
    error : (N,) float64
        Squared error of the advised baseline's values, less the noise, summed over each group; NaN of groups of one trace.
    origin : float
    """

    groups: Groups
    done: IntArray
    error: FloatArray
    origin: float


class _Sums(NamedTuple):
    """A number of both runs as ratios of sums over prompts.  # (P,) each"""

    name: str
    at: str
    begin: int
    end: int
    top_a: FloatArray
    under_a: FloatArray
    top_b: FloatArray
    under_b: FloatArray


def compare(
    a: RewardLog | Groups | Any,
    b: RewardLog | Groups | Any,
    *,
    kernel: str | Kernel = "triangular",
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two runs on the prompts that they share.

    Parameters
    ----------
    a, b : RewardLog, DataFrame or Groups
        As in `audit`.  Prompts are the same if their ids are, 7 and "7" too; of groups the ids are their numbers.
    kernel : str or Kernel
        Kernel of the KAE grid of the two audits.
    draws : int
        Bootstrap draws over prompts.
    seed : int
    progress : callable, optional

    Returns
    -------
    Comparison
        Mean rewards by quarters of what both runs trained: at equal steps, and at equal rollouts, counted over the whole
        runs.  In each part a prompt counts if both runs visited it there, and all these prompts count alike.  Dead groups,
        noise, value MSE of the advised baseline and variance of V are those of the shared prompts, over the equal steps.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, or no prompt is shared.
    LogError
        If a log cannot be audited.
    MissingExtraError
        If a frame is given without the extra ``kernadv[audit]``.

    Examples
    --------
    >>> from kernadv.simulation import simulate
    >>> found = compare(simulate("flat", "epochs", 4).groups, simulate("fast", "epochs", 4).groups, draws=100)
    >>> found.only_a, found.only_b
    (0, 0)
    """
    draws, seed = check_count(draws, "draws"), check_count(seed, "seed", 0)
    tell = progress or (lambda share, what: None)
    logs = [as_log(log) for log in (a, b)]
    ids = [_ids(log) for log in logs]
    shared = [key for key in ids[0] if key in ids[1]]
    if not shared:
        raise ArgumentError(
            f"the runs share no prompt: A has {len(ids[0]):,}, such as {_some(ids[0])}; B has {len(ids[1]):,}, such as "
            f"{_some(ids[1])}. Give both the same ids, e.g. the texts of the prompts (--map prompt=COLUMN)"
        )
    audits = []
    for number, log in enumerate(logs):

        def within(share: float, what: str, number: int = number) -> None:
            tell(0.45 * (number + share), f"{'AB'[number]}: {what}")

        audits.append(audit(log, kernel=kernel, draws=draws, seed=seed, progress=within))
    tell(0.9, "bootstrap over prompts")
    runs = [_run(log, own, shared, found) for log, own, found in zip(logs, ids, audits, strict=True)]
    sums = [one for one in _measures(runs, len(shared)) if one.under_a.any() and one.under_b.any()]
    differences = _differences(sums, draws, seed)
    share_a, share_b = (float(run.groups.n.sum() / found.rows) for run, found in zip(runs, audits, strict=True))
    result = Comparison(
        a=audits[0],
        b=audits[1],
        shared=len(shared),
        only_a=len(ids[0]) - len(shared),
        only_b=len(ids[1]) - len(shared),
        share_a=share_a,
        share_b=share_b,
        draws=draws,
        differences=differences,
        notes=_notes(audits, runs, len(shared)),
        limits=list(LIMITS),
        verdict=verdict(differences, len(shared)),
    )
    tell(1.0, "done")
    return result


def verdict(differences: Sequence[Difference], shared: int) -> str:
    """Which run has the higher reward at the end of what is matched, and which one grew more."""
    prompts = "the prompt" if shared == 1 else f"the {shared:,} prompts"
    parts = []
    for at in ("steps", "rollouts"):
        found = {one.name: one for one in differences if one.at == at and one.name in ("reward", "growth")}
        if "reward" not in found:
            parts.append(f"At equal {at}, no prompt was visited by both runs in the same part of the training.")
            continue
        last, growth = found["reward"], found.get("growth")
        where = f"{at} {last.begin + 1:,} to {last.end:,}"
        text = f"At equal {at}, the mean reward of B in {where} is {_against(last.difference)}"
        if growth is not None:
            text += f", and its growth since the first part of the training is {_against(growth.difference)}"
        parts.append(f"{text}.")
    return f"On {prompts} that both runs have: {' '.join(parts)}"


def _against(difference: Interval) -> str:
    at, low, high = difference
    if not low <= high:  # there is no interval
        return f"{abs(at):.3g} {'below' if at < 0 else 'above'} that of A (too few prompts for an interval)"
    ends = f"{at:+.3g}, 95% interval {low:+.3g} to {high:+.3g}"
    if low <= 0 <= high:
        return f"not distinguishable from that of A ({ends})"
    return f"{'higher' if at > 0 else 'lower'} than that of A ({ends})"


def _ids(log: RewardLog | Groups) -> dict[str, int]:
    """Number of each prompt with a group, by its id as a text."""
    groups = check_groups(log if isinstance(log, Groups) else log.groups)
    present = np.unique(groups.prompt[groups.n > 0]).tolist()
    return {str(row if isinstance(log, Groups) else log.prompts[row]): row for row in present}


def _some(ids: Sequence[str] | dict[str, int]) -> str:
    return ", ".join(f"{key!r:.40}" for key in list(ids)[:3]) or "none"


def _run(log: RewardLog | Groups, ids: dict[str, int], shared: Sequence[str], found: Audit) -> _Run:
    whole, origin = (log, 0.0) if isinstance(log, Groups) else (log.groups, log.origin)
    number = np.full(int(whole.prompt.max()) + 1, -1)
    number[[ids[key] for key in shared]] = np.arange(len(shared))
    _, tick = np.unique(whole.step, return_inverse=True)
    done = np.cumsum(np.bincount(tick, whole.n)).astype(np.int64)[tick]
    error = np.full(len(whole.n), np.nan)
    if found.noise is not None:
        values = _advised(found).replay(whole)
        error = values.squared_error(whole) - whole.n * whole.noise
    kept = (number[whole.prompt] >= 0) & (whole.n > 0)
    order = np.flatnonzero(kept)[np.argsort(number[whole.prompt[kept]], kind="stable")]
    groups = whole.take(order)
    return _Run(groups._replace(prompt=number[groups.prompt]), done[order], error[order], origin)


def _advised(found: Audit) -> LinearBaseline:
    """The baseline that an audit advises."""
    finding = found.finding(found.advised)
    if finding.clock is None:
        return PooledKernel()
    width: Bandwidth = _CLOCKS[finding.clock](finding.bandwidth)
    return KAE(width, found.kernel)


def _measures(runs: Sequence[_Run], prompts: int) -> list[_Sums]:
    found = []
    for at in ("steps", "rollouts"):
        clocks = [run.groups.step if at == "steps" else run.done for run in runs]
        end = int(min(clock.max() for clock in clocks))
        edges = np.unique(np.linspace(0, end, PARTS + 1).astype(np.int64)).tolist()
        rewards = np.array(
            [
                [_reward(run, (clock > begin) & (clock <= until), prompts) for begin, until in pairwise(edges)]
                for run, clock in zip(runs, clocks, strict=True)
            ]
        )  # (2, parts, P)
        for part, (begin, until) in enumerate(pairwise(edges)):
            found.append(_paired("reward", at, begin, until, rewards[:, part]))
        if len(edges) > 2:
            found.append(_paired("growth", at, 0, end, rewards[:, -1] - rewards[:, 0]))
    end = int(min(run.groups.step.max() for run in runs))
    for name in ("dead", "noise", "mse", "between"):
        a, b = (_ratio(name, run, end, prompts) for run in runs)
        found.append(_Sums(name, "steps", 0, end, *a, *b))
    return found


def _reward(run: _Run, rows: BoolArray, prompts: int) -> FloatArray:
    """Mean reward of each prompt in some rows, NaN where it has none."""
    groups = run.groups.take(rows)
    n, s = (np.bincount(groups.prompt, part, prompts) for part in (groups.n, groups.s))
    return np.where(n > 0, s / np.maximum(n, 1.0), np.nan) + run.origin


def _paired(name: str, at: str, begin: int, end: int, of_runs: FloatArray) -> _Sums:
    """Means over the prompts that have a number in both runs.  # of_runs: (2, P)"""
    there: BoolArray = np.asarray(np.isfinite(of_runs).all(axis=0))
    filled, count = np.where(there, of_runs, 0.0), there.astype(np.float64)
    return _Sums(name, at, begin, end, filled[0], count, filled[1], count)


def _ratio(name: str, run: _Run, end: int, prompts: int) -> tuple[FloatArray, FloatArray]:
    """Sums over the groups of several traces of each prompt, up to a step: of what is averaged, and of its weight."""
    rows = (run.groups.n > 1) & (run.groups.step <= end)
    own = run.groups.take(rows)
    weight, prompt = own.n.astype(np.float64), own.prompt
    if name == "between":
        found = spread(own) if len(own.n) else None
        if found is None:
            return np.zeros(prompts), np.zeros(prompts)
        part, prompt = found
        weight = np.ones(len(part))
    elif name == "dead":
        part, weight = (own.noise == 0).astype(np.float64), np.ones(len(own.n))
    else:
        part = weight * own.noise if name == "noise" else run.error[rows]
    top, under = (np.bincount(prompt, x, prompts).astype(np.float64) for x in (part, weight))
    return top, under


def _differences(sums: Sequence[_Sums], draws: int, seed: int) -> list[Difference]:
    if not sums:
        return []
    total = np.concatenate([np.column_stack(one[4:]) for one in sums], axis=1)  # (P, 4 K)
    ones = np.ones(len(total))
    drawn = bootstrap_ratios(np.arange(len(total)), total, ones, draws, seed)
    table = np.vstack([total.mean(axis=0), drawn]).reshape(len(drawn) + 1, len(sums), 4)
    found = []
    for column, one in enumerate(sums):
        top_a, under_a, top_b, under_b = table[:, column].T
        there = int(((one.under_a > 0) & (one.under_b > 0)).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = top_a / under_a, top_b / under_b
        if there < FEWEST:
            a[1:] = b[1:] = np.nan
        found.append(Difference(*one[:4], there, interval(a), interval(b), interval(b - a)))
    return found


def _notes(audits: Sequence[Audit], runs: Sequence[_Run], shared: int) -> list[str]:
    notes = [
        f"{name}: {check.evidence} {check.advice}".removesuffix(".")
        for name, found in zip("AB", audits, strict=True)
        for check in found.failed()
    ]
    sizes = [sorted(set(run.groups.n.tolist())) for run in runs]
    if sizes[0] != sizes[1]:
        notes.append("the group sizes differ: of more traces fewer groups are dead, and value errors are smaller")
    if audits[0].advised != audits[1].advised:
        notes.append(f"the value MSE is that of {audits[0].advised} in A and of {audits[1].advised} in B")
    if shared < FEW:
        notes.append(
            f"{shared} shared prompt{'s are' if shared > 1 else ' is'} few: the intervals are rough, or missing"
        )
    return notes
