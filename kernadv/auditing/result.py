"""What an audit finds: plain values, and the forms in which they are shown."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kernadv._checkpoint import replacing
from kernadv._errors import MissingExtraError

if TYPE_CHECKING:
    import matplotlib.figure
    import polars as pl

#: Width of the text of an audit, where no terminal says another.
WIDTH = 100


class Interval(NamedTuple):
    """An estimate and its 95% bootstrap interval.

    Examples
    --------
    >>> from kernadv.auditing import Interval
    >>> estimate, low, high = Interval(0.25, 0.125, 0.5)
    >>> high - low
    0.375
    """

    estimate: float
    low: float
    high: float


class Dead(NamedTuple):
    """Groups of several traces whose rewards are all equal: their advantages are 0 under RLOO and GRPO.

    Attributes
    ----------
    share : float
        Among the groups of several traces.
    low, high : float or None
        Those whose rewards are all the lower, and all the higher, of the two values that rewards have; None if rewards have
        more values.
    values : (float, float) or None
        These two, such as 0 and 1.

    Examples
    --------
    >>> from kernadv import audit, simulate
    >>> dead = audit(simulate("rare", "epochs", 4).groups, draws=50).dead
    >>> dead.values, bool(dead.low > 0.7 > 0.1 > dead.high)  # most groups fail as a whole
    ((0.0, 1.0), True)
    """

    share: float
    low: float | None
    high: float | None
    values: tuple[float, float] | None


@dataclass(frozen=True)
class Check:
    """One answer to whether the log keeps to the assumptions of the audit.

    Attributes
    ----------
    name : str
    verdict : {"ok", "suspect", "broken"}
        "broken": the numbers do not mean what they say.
    evidence : str
        What was seen.
    advice : str
        What to do; empty if the verdict is "ok".

    Examples
    --------
    >>> from kernadv import audit, simulate
    >>> checks = audit(simulate("fast", "epochs", 4).groups, draws=50).checks
    >>> [check.name for check in checks if check.verdict == "ok"][:2]
    ['possible results', 'all groups logged']
    """

    name: str
    verdict: Literal["ok", "suspect", "broken"]
    evidence: str
    advice: str = ""


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

    Examples
    --------
    >>> from kernadv import audit, simulate
    >>> found = audit(simulate("fast", "epochs", 4).groups, draws=50).finding("kernadv")
    >>> found.title, bool(found.gradient_ratio.high < 1.0), bool(found.worth > 4.0)  # better than RLOO with four traces
    ('kernadv, pooled', True, True)
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
    """What `audit` found: a table when it is printed, a page in a notebook, and plain numbers.

    Attributes
    ----------
    source, format : str
        The log, and its format.
    kernel : str
        Kernel of the KAE grid.
    draws : int
        Bootstrap draws.
    checks : list of Check
        Whether the log keeps to the assumptions; a check that could not be made is left out.
    rows, groups, prompts, steps : int
    group_sizes : dict
        Group size -> number of groups.
    compared_rows : int
        Rows over which the errors are averaged.
    binary : bool
        Whether every reward is 0 or 1, so that E s^2 estimates E V(1-V).
    noise : float or None
        E s^2, which estimates E V(1-V) for 0/1 rewards; None with one trace a group.
    between : Interval or None
        Variance of V over the prompts of a step.
    dead : Dead or None
        Groups without a signal; None with one trace a group.
    bound : float or None
        If all rewards of the log are 0: the mean value of every prompt is below this, exactly and with 95% for all
        prompts at once.  If all are 1: the same of one minus the value.  Else None.
    gradient_floor : float or None
        The least `gradient_ratio` that any value can have, that of the true values; None with one trace a group.
    other_sizes : list of dict
        For other numbers of traces a prompt: share of dead groups, value MSE of RLOO, and its gradient variance at the same
        number of rollouts over that of this log.
    findings : list of Finding
        The default estimator first.
    best : str or None
        Name of the KAE bandwidth with the smallest error, in hindsight; None if no bandwidth reaches a past reward, or no
        group has unequal rewards.
    as_good : list of str
        Bandwidths of the grid that the bootstrap cannot tell from the best.
    at_edge : bool
        True if the best is the narrowest or widest of its clock, and the other end is worse.
    advised : str
        Name of the baseline to use: the default, or the best bandwidth where the default has the larger error in 95% of the
        draws.
    strata : list of dict
        By pass rate of the prompt's other visits: rows, error of each baseline, best bandwidth of the grid.
    gaps : list of dict
        Steps between visits of a prompt, by powers of two; empty if no prompt comes back.
    median_gap : float or None
    first_visits : float
        Share of the groups that are their prompt's first.
    drift : list of dict
        Mean reward over the steps.
    notes : list of str
    verdict : str
        What a person should know first.

    Examples
    --------
    >>> from kernadv import audit, simulate
    >>> found = audit(simulate("fast", "epochs", 4).groups, draws=50)
    >>> found.prompts, found.steps, found.group_sizes
    (1024, 200, {4: 12800})
    >>> bool(found.finding("kernadv").mse.estimate < found.finding("rloo").mse.estimate)
    True
    >>> [check.name for check in found.failed("broken")]
    []
    """

    source: str
    format: str
    kernel: str
    draws: int
    checks: list[Check]
    rows: int
    groups: int
    prompts: int
    steps: int
    group_sizes: dict[int, int]
    compared_rows: int
    binary: bool
    noise: float | None
    between: Interval | None
    dead: Dead | None
    bound: float | None
    gradient_floor: float | None
    other_sizes: list[dict[str, Any]]
    findings: list[Finding]
    best: str | None
    as_good: list[str]
    at_edge: bool
    advised: str
    strata: list[dict[str, Any]]
    gaps: list[dict[str, Any]]
    median_gap: float | None
    first_visits: float
    drift: list[dict[str, float]]
    notes: list[str]
    verdict: str

    def finding(self, name: str) -> Finding:
        """The finding of that name."""
        return next(finding for finding in self.findings if finding.name == name)

    def failed(self, *verdicts: str) -> list[Check]:
        """The checks with one of these verdicts; by default with any but "ok"."""
        return [check for check in self.checks if check.verdict in (verdicts or ("suspect", "broken"))]

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        text: str = form("page").fragment(self)
        return text

    def table(self, width: int = WIDTH) -> str:
        """The report as text.

        Parameters
        ----------
        width : int
            Characters a line, at least 40.

        Raises
        ------
        MissingExtraError
            If the extra ``kernadv[audit]`` is not installed, as in all the other forms but `to_dict`.

        Examples
        --------
        >>> from kernadv import audit, simulate
        >>> text = audit(simulate("fast", "epochs", 4).groups, draws=50).table(width=80)
        >>> max(map(len, text.splitlines())) <= 80
        True
        """
        text: str = form("terminal").text(self, width)
        return text

    def plot(self) -> matplotlib.figure.Figure:
        """All plots of the report in one figure of matplotlib.

        Examples
        --------
        >>> from kernadv import audit, simulate
        >>> figure = audit(simulate("fast", "epochs", 4).groups, draws=50).plot()
        >>> len(figure.axes) > 3
        True
        """
        figure: matplotlib.figure.Figure = form("plots").figure(self)
        return figure

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one page of HTML that needs nothing else; written to a file too if a path is given.

        Examples
        --------
        >>> from kernadv import audit, simulate
        >>> page = audit(simulate("fast", "epochs", 4).groups, draws=50).to_html()
        >>> "</html>" in page, 'src="http' in page, "<script src" in page  # it needs nothing else
        (True, False, False)
        """
        page: str = form("page").render(self)
        if path is not None:
            with replacing(path) as beside:
                beside.write_text(page, encoding="utf-8")
        return page

    def to_frame(self) -> pl.DataFrame:
        """A row for each baseline, with the ends of the intervals in columns of their own.

        Examples
        --------
        >>> from kernadv import audit, simulate
        >>> frame = audit(simulate("fast", "epochs", 4).groups, draws=50).to_frame()
        >>> frame["name"][0], {"mse", "mse_low", "mse_high"} <= set(frame.columns)
        ('kernadv', True)
        """
        frame: pl.DataFrame = form("frame").frame(self)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON.

        JSON has no number for infinity or NaN: the infinite bandwidth becomes the string ``"inf"``, every other number that
        is not finite becomes None (null).

        Examples
        --------
        >>> import json
        >>> from kernadv import audit, simulate
        >>> numbers = audit(simulate("fast", "epochs", 4).groups, draws=50).to_dict()
        >>> json.loads(json.dumps(numbers))["findings"][0]["name"]
        'kernadv'
        """
        numbers: dict[str, Any] = plain(self)
        return numbers


def form(name: str) -> Any:
    """A module of the package `kernadv.report`, which lies above this one and is imported when it is asked for."""
    try:
        return importlib.import_module(f"kernadv.report.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'this form of the report needs {error.name}, which is not installed; run: pip install "kernadv[audit]"'
        ) from None


def plain(value: Any, key: object = None) -> Any:
    """What JSON can hold of a result, see `Audit.to_dict`."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), field.name) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if key == "bandwidth" and value > 0 else None
    return value
