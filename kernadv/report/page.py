"""The report as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from kernadv import __version__
from kernadv.audit import Finding, Interval
from kernadv.report import Report
from kernadv.report import _wording as wording
from kernadv.report.plots import plots


class Number(NamedTuple):
    """A number of the table: its place in the JSON, and how it is written."""

    name: str
    field: str
    text: str


class Cell(NamedTuple):
    """A cell of the table: a number, and the ends of its interval if it has one."""

    number: Number
    interval: tuple[Number, Number] | None


class Row(NamedTuple):
    """A row of the table."""

    label: str
    title: str
    mark: str
    doubtful_gradient: bool
    cells: list[Cell]


_HEADINGS = {
    "mse": "value MSE",
    "excess": "value MSE less that of batch mean",
    "vs_rloo": "MSE cut against RLOO",
    "vs_batch": "MSE cut against batch mean",
    "gradient_ratio": "gradient variance against {reference}",
    "worth": "worth G",
    "true_mse": "true MSE",
}


def render(report: Report) -> str:
    """The page, the same text for the same report."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["squares"] = lambda text: text.replace("^2", "²")
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    fields = _fields(report)
    audit = report.audit
    return template.render(
        report=report,
        audit=audit,
        version=__version__,
        wording=wording,
        headings=[(field, _HEADINGS[field].format(reference=wording.reference(audit))) for field in fields],
        rows=[_row(report, finding, fields) for finding in audit.findings],
        plots=plots(report),
        json=report.to_json(indent=None).replace("<", "\\u003c"),
    )


def _fields(report: Report) -> list[str]:
    """The columns that this log has numbers for."""
    findings = report.audit.findings
    error = "excess" if report.audit.noise is None else "mse"
    others = ("vs_rloo", "vs_batch", "gradient_ratio", "worth", "true_mse")
    return [error, *(field for field in others if any(getattr(finding, field) is not None for finding in findings))]


def _row(report: Report, finding: Finding, fields: list[str]) -> Row:
    audit = report.audit
    mark = "best" if finding.name == audit.best else "as good" if finding.name in audit.as_good else ""
    cells = [_cell(finding, field, wording.places(audit)) for field in fields]
    return Row(wording.label(finding), finding.title, mark, finding.name in wording.DOUBTFUL_GRADIENT, cells)


def _cell(finding: Finding, field: str, decimals: int) -> Cell:
    write: Callable[[float | None], str] = {
        "vs_rloo": partial(wording.percent, decimals=0),
        "vs_batch": partial(wording.percent, decimals=0),
        "gradient_ratio": partial(wording.number, decimals=3),
        "worth": partial(wording.number, decimals=1),
    }.get(field, partial(wording.number, decimals=decimals))
    value = getattr(finding, field)
    if not isinstance(value, Interval):
        return Cell(Number(finding.name, field, write(value)), None)
    estimate, low, high = (
        Number(finding.name, f"{field}.{part}", write(number)) for part, number in value._asdict().items()
    )
    return Cell(estimate, None if low.text == high.text == estimate.text else (low, high))
