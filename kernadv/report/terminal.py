"""The report in a terminal: one table, and what a person must know to read it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernadv.audit import Finding, Interval
from kernadv.report import Report
from kernadv.report import _wording as wording


class _Column(NamedTuple):
    """A column of numbers.

    Attributes
    ----------
    heading : str
        Two lines, or one above the word for the interval.
    of : callable
        Number or interval of a finding.
    write : callable
        Text of a number.
    intervals, shown : int
        Levels of shortening at which the intervals, and the column, are still shown: those below this number.
    """

    heading: str
    of: Callable[[Finding], Interval | float | None]
    write: Callable[[float | None], str]
    intervals: int = 0
    shown: int = 99


#: Levels of shortening, tried in turn until the table fits.
_LEVELS = 6


def show(report: Report, console: Console) -> None:
    """Print the report; `console` decides width and colour."""
    audit = report.audit
    console.print(Text(report.source, style="bold"), soft_wrap=True)
    lines = [", ".join(wording.sizes(audit)), ", ".join(wording.spread(report))]
    joined = ", ".join(filter(None, lines))
    console.print(Text(joined if len(joined) <= console.width else "\n".join(lines)))
    console.print()
    console.print(_fitting(report, console))
    console.print()
    _paragraphs(console, "bold", audit.verdict)
    _paragraphs(console, "", *wording.remarks(audit))
    console.print()
    _paragraphs(console, "dim", *_reading(report), *(f"Note: {note}." for note in audit.notes))


def _paragraphs(console: Console, style: str, *texts: str) -> None:
    for text in texts:
        console.print(Text(textwrap.fill(text, console.width, break_on_hyphens=False), style=style))


def _fitting(report: Report, console: Console) -> Table:
    """The fullest table that is no wider than the console, or else the shortest."""
    for level in range(_LEVELS):
        table = _table(report, level)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _table(report: Report, level: int) -> Table:
    audit = report.audit
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text("baseline\n"), no_wrap=True)
    columns = [column for column in _columns(report) if level < column.shown]
    for column in columns:
        second = "" if "\n" in column.heading else "\n[95% interval]" if level < column.intervals else "\n"
        table.add_column(Text(column.heading + second), justify="right", no_wrap=True)
    best = "bold green" if wording.is_better(audit) else "bold"
    for finding in audit.findings:
        is_best = finding.name == audit.best
        if is_best or finding.clock in (None, "relative"):
            name = wording.label(finding) if level > 1 or finding.clock is not None else finding.title
            cells = [Text(_cell(column, finding, level)) for column in columns]
            table.add_row(Text(f"{name} *" if is_best else name), *cells, style=best if is_best else None)
    return table


def _columns(report: Report) -> list[_Column]:
    audit = report.audit
    fixed = partial(wording.number, decimals=wording.places(audit))
    share = partial(wording.percent, decimals=0)
    ratio = partial(wording.number, decimals=2)
    gradient = f"gradient var\nvs {wording.reference(audit)}"
    if audit.noise is None:
        columns = [
            _Column("value MSE less\nthat of batch mean", lambda s: s.excess, fixed, intervals=4),
            _Column(gradient, lambda s: s.gradient_ratio, ratio, intervals=3),
        ]
    else:
        columns = [
            _Column("value MSE", lambda s: s.mse, fixed, intervals=4),
            _Column("MSE cut\nvs RLOO", lambda s: None if s.name == "rloo" else s.vs_rloo, share, intervals=3),
            _Column("MSE cut\nvs batch", lambda s: None if s.name == "batch_mean" else s.vs_batch, share, 1, shown=4),
            _Column(gradient, lambda s: s.gradient_ratio, ratio, intervals=2),
            _Column("worth\nG", lambda s: s.worth, partial(wording.number, decimals=1)),
        ]
    if any(finding.true_mse is not None for finding in audit.findings):
        columns.append(_Column("true\nMSE", lambda s: s.true_mse, fixed))
    return columns


def _cell(column: _Column, finding: Finding, level: int) -> str:
    value = column.of(finding)
    if not isinstance(value, Interval):
        return column.write(value)
    text, low, high = map(column.write, value)
    if level < column.intervals and (low, high) != (text, text):
        text += f" [{low}, {high}]"
    doubtful = value is finding.gradient_ratio and finding.name in wording.DOUBTFUL_GRADIENT
    return f"({text})" if doubtful else text


def _reading(report: Report) -> list[str]:
    """How to read the columns."""
    audit = report.audit
    best = "* smallest error of the whole grid, in hindsight."
    gradient = f"Gradient variance {wording.gradient_assumption()}"
    if audit.noise is None:
        return [best, gradient]
    return [f"{best} worth G: group size at which RLOO would do as well.", wording.GROUP_MEAN, gradient]
