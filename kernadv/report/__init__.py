"""Forms of an audit: JSON, a table for the terminal, a page of HTML, a figure and a frame.

Each form is a module of its own, imported when it is asked for: `terminal` needs rich, `page` jinja2 and matplotlib, `plots`
matplotlib, `frame` polars.
"""

from __future__ import annotations

import json

from kernadv import __version__
from kernadv.audit import Audit

__all__ = ["to_json"]


def to_json(audit: Audit, indent: int | None = 2) -> str:
    """The numbers of an audit, and the version of the package that found them, as text."""
    return json.dumps({"kernadv": __version__, "audit": audit.to_dict()}, indent=indent, allow_nan=False)
