"""Every public name, and every public method of a public class, has a place in the reference."""

from __future__ import annotations

from typing import Any

from public import expected, modules
from sphinx.application import Sphinx
from sphinx.util import logging

import kernadv

logger = logging.getLogger(__name__)


def check(app: Sphinx, env: Any) -> None:
    """Warn of every name that is missing."""
    there = set(env.domains["py"].objects)
    listed = modules((env.srcdir / "reference" / "index.md").read_text(encoding="utf-8"))
    wanted = [name for module in listed for name in expected(module)]
    wanted += [f"{home.removesuffix('._errors')}.{name}" for name, home in kernadv._HOME.items()]
    for name in sorted(set(wanted) - there):
        logger.warning("%s is not in the reference", name, type="reference", subtype="missing")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the check."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
