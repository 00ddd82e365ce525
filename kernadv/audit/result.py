"""What an audit finds: plain values, ready for a table, a page or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Interval(NamedTuple):
    """An estimate and its 95% bootstrap interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Finding:
    """One baseline on one log.

    Attributes
    ----------
    name, title : str
    clock : {"relative", "steps", "visits"} or None
        Clock of a bandwidth of the KAE grid; None for the other baselines.
    bandwidth : float or None
    mse : Interval or None
        Truth-free value MSE; None where the noise is unknown (one trace a group).
    excess : Interval
        Error against the rewards minus that of the batch mean: a difference of value MSEs, known even with one trace.
    vs_rloo, vs_batch : Interval or None
        Reduction of the value MSE, 1 - MSE / MSE of that baseline; None where that one is 0 or unknown.
    gradient_ratio : Interval or None
        Implied gradient variance over that of RLOO (of the batch mean where RLOO is undefined); None for values that
        contain their own reward: the group mean's gradient is RLOO's times 1 - 1/G.
    worth : float or None
        Group size at which RLOO would have the same value MSE, 1 + E s^2 / MSE; None where the interval of the MSE
        holds 0.
    true_mse : float or None
        The same from the true values, where the log has them.
    """

    name: str
    title: str
    clock: str | None
    bandwidth: float | None
    mse: Interval | None
    excess: Interval
    vs_rloo: Interval | None
    vs_batch: Interval | None
    gradient_ratio: Interval | None
    worth: float | None
    true_mse: float | None


@dataclass(frozen=True)
class Audit:
    """What `audit` found; `to_dict` gives plain numbers for JSON.

    Attributes
    ----------
    rows, groups, prompts, steps : int
    group_sizes : dict
        Group size -> number of groups.
    compared_rows : int
        Rows over which the errors are averaged.
    noise : float or None
        E s^2, which estimates E V(1-V) for 0/1 rewards; None with one trace a group.
    between : float or None
        Variance of V over the prompts of a step.
    findings : list of Finding
    best : str
        Name of the KAE bandwidth with the smallest error, in hindsight.
    as_good : list of str
        Bandwidths of the grid that the bootstrap cannot tell from the best.
    at_edge : bool
        True if the best is the narrowest or widest of its clock.
    strata : list of dict
        By pass rate of the prompt's other visits: rows, error of each baseline, best bandwidth of the grid.
    gaps : list of dict
        Steps between visits of a prompt, by powers of two.
    first_visits : float
        Share of the groups that are their prompt's first.
    drift : list of dict
        Mean reward over the steps.
    uniform_groups : float or None
        Share of the groups of several traces whose rewards are all equal.
    notes : list of str
    verdict : str
    """

    rows: int
    groups: int
    prompts: int
    steps: int
    group_sizes: dict[int, int]
    compared_rows: int
    noise: float | None
    between: float | None
    findings: list[Finding]
    best: str
    as_good: list[str]
    at_edge: bool
    strata: list[dict[str, Any]]
    gaps: list[dict[str, Any]]
    first_visits: float
    drift: list[dict[str, float]]
    uniform_groups: float | None
    notes: list[str]
    verdict: str

    def finding(self, name: str) -> Finding:
        """The finding of that name."""
        return next(finding for finding in self.findings if finding.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        plain = asdict(self)
        for finding in plain["findings"]:
            for key, value in finding.items():
                if isinstance(value, Interval):
                    finding[key] = value._asdict()
        return plain
