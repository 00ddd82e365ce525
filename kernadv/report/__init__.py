"""Forms of an audit: JSON, a table for the terminal, a page of HTML, a figure and a frame; of a comparison the first two.

Each form is a module of its own, imported when it is asked for: `terminal` and `comparison` need rich, `page` jinja2 and
matplotlib, `plots` matplotlib, `frame` polars.
"""

from __future__ import annotations

import json

from kernadv import __version__
from kernadv.auditing import Audit, Comparison

__all__ = ["to_json"]


def __dir__() -> list[str]:
    return __all__


def to_json(result: Audit | Comparison, indent: int | None = 2) -> str:
    """The numbers of an audit or a comparison, and the version of the package that found them, as text."""
    name = "audit" if isinstance(result, Audit) else "comparison"
    return json.dumps({"kernadv": __version__, name: result.to_dict()}, indent=indent, allow_nan=False)
