"""Every page is read again at every build, since it is executed; links to the notebooks lead to their copies."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def all_pages(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Call every page outdated: what it prints may have changed with the package."""
    return sorted(env.found_docs)


def to_copies(app: Sphinx, page: str, source: list[str]) -> None:
    """``../notebooks/`` is right for readers of the repository, ``generated/notebooks/`` for the site."""
    source[0] = source[0].replace("](../notebooks/", "](generated/notebooks/")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("env-get-outdated", all_pages)
    app.connect("source-read", to_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
