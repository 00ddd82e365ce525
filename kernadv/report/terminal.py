"""The report in a terminal: whether to trust the log, what training would gain, one table, and what it takes to read it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernadv._errors import check_count, printable
from kernadv.auditing import Audit, Finding, Interval
from kernadv.report import _wording as wording

#: Fewest characters a line.
NARROWEST = 40


class _Column(NamedTuple):
    """A column of numbers.

    Attributes
    ----------
    heading, short : str
        Two lines, or one above the word for the interval; and the same for the last level.
    field : str
        Of a finding.
    intervals, shown : int
        Levels of shortening at which the intervals, and the column, are still shown: those below this number.
    """

    heading: str
    short: str
    field: str
    intervals: int = 0
    shown: int = 99


#: Levels of shortening, tried in turn until the table fits.
_LEVELS = 8


def text(audit: Audit, width: int) -> str:
    """The report without colour, in lines of at most `width` characters."""
    return plain(partial(show, audit), width)


def plain(show: Callable[[Console], None], width: int) -> str:
    """What `show` prints, without colour, in lines of at most `width` characters; in a notebook too."""
    width = check_count(width, "width", NARROWEST, 10_000)
    file = io.StringIO()
    show(Console(file=file, width=width, highlight=False, color_system=None, force_terminal=False, force_jupyter=False))
    return file.getvalue().rstrip("\n")


def show(audit: Audit, console: Console) -> None:
    """Print the report; `console` decides width and colour."""
    console.print(_text(audit.source, "bold"), soft_wrap=True)
    lines = [", ".join(wording.sizes(audit)), ", ".join(wording.spread(audit))]
    joined = ", ".join(filter(None, lines))
    paragraphs(console, "", *([joined] if len(joined) <= console.width else lines))
    console.print()
    paragraphs(console, "yellow" if audit.failed() else "", wording.trust(audit))
    paragraphs(console, "yellow", *(f"- {wording.failure(check)}" for check in audit.failed("suspect")))
    paragraphs(console, "dim", *(f"Note: {note}." for note in audit.notes))
    console.print()
    paragraphs(console, "bold red" if audit.failed("broken") else "bold", audit.verdict)
    if audit.noise == 0:  # nothing is known of the errors
        return
    console.print()
    level = _fitting(audit, console)
    console.print(_table(audit, level))
    if remarks := wording.remarks(audit):
        console.print()
        paragraphs(console, "", *remarks)
    console.print()
    paragraphs(console, "dim", *_reading(audit, level))


def _text(content: str, style: str = "") -> Text:
    """The only way in which text of a log gets to the terminal."""
    return Text(printable(content), style=style)


def paragraphs(console: Console, style: str, *texts: str) -> None:
    """Print texts that may come from a log, each filled to the width of the console."""
    for content in filter(None, texts):
        lines = textwrap.fill(printable(content), console.width, break_on_hyphens=False)
        console.print(Text(lines, style=style))


def _fitting(audit: Audit, console: Console) -> int:
    """The level of the fullest table that is no wider than the console, or else of the shortest."""
    wide = console.options.update(width=1000)
    widths = (console.measure(_table(audit, level), options=wide).maximum for level in range(_LEVELS))
    return next((level for level, width in enumerate(widths) if width <= console.width), _LEVELS - 1)


def _table(audit: Audit, level: int) -> Table:
    last = level == _LEVELS - 1
    intervals = not math.isnan(wording.error(audit.finding("kernadv")).low)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text("baseline\n"), no_wrap=not last, overflow="fold")
    columns = _columns(audit, level)
    for column in columns:
        second = (
            "" if "\n" in column.heading else "\n[95% interval]" if intervals and level < column.intervals else "\n"
        )
        heading = column.short if last else column.heading + second
        table.add_column(Text(heading), justify="right", no_wrap=not last, overflow="fold")
    advised = "bold green" if wording.is_better(audit) else "bold"
    for finding in audit.findings:
        if finding.name == audit.best or finding.clock in (None, "relative"):
            cells = [Text(_cell(audit, column, finding, level)) for column in columns]
            style = advised if finding.name == audit.advised else None
            table.add_row(_text(_name(audit, finding, level)), *cells, style=style)
    return table


def _name(audit: Audit, finding: Finding, level: int) -> str:
    if finding.name == audit.best:
        return f"{wording.label(finding)} *"
    if finding.name == "kernadv":
        return "kernadv (default)" if level < 2 else "kernadv"
    return wording.label(finding) if level > 1 or finding.clock is not None else finding.title


def _columns(audit: Audit, level: int) -> list[_Column]:
    """The columns that are shown at a level, of those with numbers."""
    gradient = _Column(f"grad. var\nvs {wording.reference(audit)}", "grad.\nvar", "gradient_ratio", intervals=2)
    if audit.noise is None:
        columns = [
            _Column("value MSE less\nthat of batch mean", "MSE less\nbatch's", "excess", intervals=4),
            gradient._replace(intervals=3),
        ]
    else:
        columns = [
            _Column("value MSE", "value\nMSE", "mse", intervals=4),
            _Column("MSE cut\nvs RLOO", "MSE cut\nvs RLOO", "vs_rloo", intervals=3),
            _Column("MSE cut\nvs batch", "", "vs_batch", intervals=1, shown=4),
            gradient,
            _Column("worth\nG", "", "worth", shown=5),
        ]
    columns.append(_Column("true\nMSE", "", "true_mse", shown=6))
    return [
        column
        for column in columns
        if level < column.shown and any(getattr(finding, column.field) is not None for finding in audit.findings)
    ]


def _cell(audit: Audit, column: _Column, finding: Finding, level: int) -> str:
    value = getattr(finding, column.field)
    if (column.field, finding.name) in (("vs_rloo", "rloo"), ("vs_batch", "batch_mean")):
        value = None
    shown, low, high = wording.numbers(value, column.field, wording.places(audit))
    if isinstance(value, Interval) and level < column.intervals and len({shown, low, high} - {"-"}) > 1:
        shown += f" [{low}, {high}]"
    doubtful = column.field == "gradient_ratio" and finding.name in wording.DOUBTFUL_GRADIENT and value is not None
    return f"({shown})" if doubtful else shown


def _reading(audit: Audit, level: int) -> list[str]:
    """How to read the columns."""
    best = " *: best KAE window, in hindsight." if audit.best else ""
    names = f"{wording.VALUE} kernadv: this package's default, which chooses everything online.{best}"
    if audit.noise is None:
        return [names, wording.GRADIENT]
    worth = wording.WORTH if "worth" in {column.field for column in _columns(audit, level)} else ""
    return [names, wording.CUT, worth, wording.GROUP_MEAN, wording.GRADIENT]
