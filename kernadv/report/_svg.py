"""Figures of matplotlib as SVG that lives inside a page: colours and font are the page's, ids its own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Role of a colour -> what matplotlib draws it as; the page has a variable ``--<role>`` for light and for dark.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "zero": "#040404",
    "batch_mean": "#050505",
    "group_mean": "#060606",
    "rloo": "#070707",
    "kae": "#080808",
    "best": "#090909",
    "kernadv": "#0a0a0a",
}

#: The same in a figure without a page, which is light.
LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5b6470",
    "grid": "#e3e6ea",
    "zero": "#8b6a4f",
    "batch_mean": "#b4560a",
    "group_mean": "#b0378a",
    "rloo": "#6b46b8",
    "kae": "#1769b5",
    "best": "#08743b",
    "kernadv": "#b3261e",
}

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kernadv",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
}

_COLOURED = {
    "ink": ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"),
    "muted": ("axes.edgecolor", "xtick.color", "ytick.color"),
    "grid": ("grid.color",),
}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def style(colours: Mapping[str, str]) -> AbstractContextManager[None]:
    """The settings of matplotlib in which a plot of these colours is made."""
    coloured = {setting: colours[role] for role, settings in _COLOURED.items() for setting in settings}
    found: AbstractContextManager[None] = mpl.rc_context(_STYLE | coloured)
    return found


def svg(name: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float] = (5.0, 3.4)) -> str:
    """Draw one plot.

    Parameters
    ----------
    name : str
        Prefix of every id in the drawing; unique in the page.
    description : str
        What a screen reader says.
    draw : callable
        Draws on the axes that it gets.
    size : (float, float)
        Width and height in inches.

    Returns
    -------
    str
        An ``<svg>`` element without size, date or reference to anything outside; the same for the same input.
    """
    text = io.StringIO()
    with style(COLOURS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        FigureCanvasSVG(figure).print_svg(text, metadata=_NO_METADATA)  # savefig would lay it out twice
    return _embedded(text.getvalue(), name, description)


def _embedded(document: str, name: str, description: str) -> str:
    drawing = re.sub(r"<style.*?</style>", "", document[document.index("<svg") :], flags=re.DOTALL)
    drawing = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', drawing)
    drawing = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", drawing)
    drawing = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', drawing)
    for role, colour in COLOURS.items():
        drawing = drawing.replace(colour, f"var(--{role.replace('_', '-')})")
    drawing = re.sub(r'(?<=\s)(?:width|height)="[\d.]+pt"', "", drawing, count=2)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
