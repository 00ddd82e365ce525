"""Small corrections between the docstrings and reStructuredText; they come before numpydoc's."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

#: |u| and |E u| are absolute values here, never substitutions.
ABSOLUTE = re.compile(r"(?<![`\\|\w])\|(\w(?:[\w ]*\w)?)\|(?![`|\w])")

#: A line of a list of names and their meanings.
ENTRY = re.compile(r"[a-z]\w*(, [a-z]\w*)* : ")


def escape_absolute(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write |u| outside of literals as text."""
    for row, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`.*?`)", line)
        lines[row] = "".join(part if part.startswith("`") else ABSOLUTE.sub(r"\\|\1\\|", part) for part in parts)


def list_names(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make bullets of a paragraph above the sections whose every line is ``name : meaning``."""
    end = next((row for row, line in enumerate(lines) if re.fullmatch(r"-{3,}", line.strip())), len(lines) + 1) - 1
    new: list[str] = []
    for blank, paragraph in groupby(lines[:end], key=lambda line: not line.strip()):
        rows = list(paragraph)
        names = not blank and all(ENTRY.match(row) for row in rows)
        new += [re.sub(r"^([\w, ]+?) : ", r"- **\1**: ", row) for row in rows] if names else rows
    lines[:end] = new


def list_tables(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write tables of Markdown as list tables."""
    new: list[str] = []
    for table, rows in groupby(lines, key=lambda line: line.startswith(("| ", "|--"))):
        if not table:
            new += rows
            continue
        new += [".. list-table::", "   :header-rows: 1", ""]
        for row in rows:
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            if not row.startswith("|--"):
                new += [("   * - " if not k else "     - ") + cell for k, cell in enumerate(cells)]
    lines[:] = new


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the class describes, and scikit-learn's metadata requests."""
    return True if type(obj).__name__ == "_tuplegetter" or re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the corrections."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", list_tables)
    app.connect("autodoc-process-docstring", list_names)
    app.connect("autodoc-process-docstring", escape_absolute)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
