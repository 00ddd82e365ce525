"""Reports of an audit: JSON, a table for the terminal, and a page of HTML.

Each form is a module of its own, imported when it is asked for: `terminal` needs rich, `page` needs jinja2 and matplotlib.
"""

from __future__ import annotations

from kernadv.report._report import Report, is_binary

__all__ = ["Report", "is_binary"]
