"""The report as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kernadv import __version__
from kernadv._errors import printable
from kernadv.auditing import CHECKS, Audit, Finding, Interval
from kernadv.report import _wording as wording
from kernadv.report import to_json
from kernadv.report._svg import LIGHT, svg
from kernadv.report.plots import Plot, plots

#: Height of the page inside a notebook, in pixels.
HEIGHT = 720


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
    advised: bool
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


def render(audit: Audit) -> str:
    """The page, the same text for the same audit."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    environment.filters["squares"] = lambda text: text.replace("^2", "²")
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    fields = _fields(audit)
    return template.render(
        audit=audit,
        version=__version__,
        wording=wording,
        unknown=[name for name in CHECKS if name not in {check.name for check in audit.checks}],
        headings=[(field, _HEADINGS[field].format(reference=wording.reference(audit))) for field in fields],
        rows=[_row(audit, finding, fields) for finding in audit.findings],
        plots=[(plot, _drawing(plot)) for plot in plots(audit)],
        light={role.replace("_", "-"): colour for role, colour in LIGHT.items()},
        json=Markup(to_json(audit, indent=None).replace("<", "\\u003c")),
    )


def fragment(audit: Audit) -> str:
    """The page inside a notebook, in a frame of its own, so that neither changes the looks of the other."""
    return (
        f'<iframe srcdoc="{html.escape(render(audit))}" title="kernadv audit" sandbox="" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )


def _drawing(plot: Plot) -> Markup:
    return Markup(svg(plot.name, f"{plot.title}. {plot.caption} {plot.text}", plot.draw))


def _finalize(value: Any) -> Any:
    """The only way in which text of a log gets into the page; what is marked as HTML was made here."""
    return printable(value) if type(value) is str else value


def _fields(audit: Audit) -> list[str]:
    """The columns that this log has numbers for."""
    findings = audit.findings
    error = "excess" if audit.noise is None else "mse"
    others = ("vs_rloo", "vs_batch", "gradient_ratio", "worth", "true_mse")
    return [error, *(field for field in others if any(getattr(finding, field) is not None for finding in findings))]


def _row(audit: Audit, finding: Finding, fields: list[str]) -> Row:
    cells = [_cell(finding, field, wording.places(audit)) for field in fields]
    doubtful = finding.name in wording.DOUBTFUL_GRADIENT
    advised = finding.name == audit.advised and wording.is_better(audit)
    return Row(wording.label(finding), finding.title, wording.mark(audit, finding), advised, doubtful, cells)


def _cell(finding: Finding, field: str, decimals: int) -> Cell:
    value = getattr(finding, field)
    text, low, high = wording.numbers(value, field, decimals)
    if not isinstance(value, Interval):
        return Cell(Number(finding.name, field, text), None)
    ends = (Number(finding.name, f"{field}.low", low), Number(finding.name, f"{field}.high", high))
    return Cell(Number(finding.name, f"{field}.estimate", text), None if low == high == text or low == "-" else ends)
