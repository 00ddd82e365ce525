"""The comparison of two runs in a terminal: who learned faster, one table, and what it cannot say."""

from __future__ import annotations

from functools import partial
from itertools import compress

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernadv._errors import printable
from kernadv.auditing import Comparison, Difference, Interval
from kernadv.auditing.verdict import share
from kernadv.report import _wording as wording
from kernadv.report.terminal import paragraphs, plain

_TITLES = {
    "growth": "growth, last less first",
    "dead": "dead groups",
    "noise": "noise E s^2",
    "mse": "value MSE, advised",
    "between": "Var V",
}
#: Levels of shortening, tried in turn until the table fits: without the intervals of A and B; those of the differences below
#: them; without the numbers of prompts; without A and B.
_LEVELS = 5


def text(comparison: Comparison, width: int) -> str:
    """The comparison without colour, in lines of at most `width` characters."""
    return plain(partial(show, comparison), width)


def show(comparison: Comparison, console: Console) -> None:
    """Print the comparison; `console` decides width and colour."""
    runs = (
        ("A", comparison.a, comparison.only_a, comparison.share_a),
        ("B", comparison.b, comparison.only_b, comparison.share_b),
    )
    for name, audit, only, part in runs:
        console.print(Text(printable(f"{name}: {audit.source}"), style="bold"), soft_wrap=True)
        shares = f"{share(part)} of the rollouts on shared prompts, {only:,} prompts of its own"
        paragraphs(console, "", f"   {', '.join(wording.sizes(audit))}; {shares}")
    console.print()
    paragraphs(console, "yellow", *(f"Note: {note}." for note in comparison.notes))
    paragraphs(console, "bold", comparison.verdict)
    console.print()
    console.print(_fitting(comparison, console))
    console.print()
    paragraphs(
        console,
        "dim",
        f"Shared: {comparison.shared:,} prompts. Mean rewards: each prompt that both runs visited in a part counts alike. "
        "Equal rollouts: counted over the whole runs. The other rows: shared prompts, groups of several traces. "
        "[95% intervals], paired by prompt.",
        *(f"- {limit}" for limit in comparison.limits),
    )


def _fitting(comparison: Comparison, console: Console) -> Table:
    """The fullest table that is no wider than the console, or else the shortest."""
    for level in range(_LEVELS):
        table = _table(comparison, level)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _table(comparison: Comparison, level: int) -> Table:
    """The table at a level of shortening."""
    shown = (level < 3, level < 4, level < 4, True)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text("on shared prompts\n"))
    for heading in compress(("prompts\n", "A\n", "B\n", "B minus A\n[95% interval]"), shown):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    above = ""
    for one in comparison.differences:
        if above != (above := _heading(one)):
            table.add_section()
            table.add_row(Text(above, style="bold"))
        cells = (f"{one.prompts:,}", _cell(one.a, level < 1), _cell(one.b, level < 1), _cell(one.difference, True, "+"))
        if level > 1:
            cells = (*cells[:3], cells[3].replace(" ", "\n", 1))
        table.add_row(Text(f"  {_TITLES.get(one.name, _range(one))}"), *map(Text, compress(cells, shown)))
    return table


def _heading(one: Difference) -> str:
    return f"mean reward, equal {one.at}" if one.name in ("reward", "growth") else _range(one)


def _range(one: Difference) -> str:
    return f"{one.at} {one.begin + 1:,} to {one.end:,}"


def _cell(value: Interval, with_ends: bool, sign: str = "") -> str:
    decimals = 4 if abs(value.estimate) < 0.1 else 3
    at, low, high = (wording.number(part, decimals) for part in value)
    at = at if at.startswith("-") else f"{sign}{at}"
    return f"{at} [{low}, {high}]" if with_ends and low != "-" else at
