"""Every public name, and every public method of a public class, has a place in the reference."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

import kernadv

logger = logging.getLogger(__name__)


def modules(text: str) -> list[str]:
    """The modules that the reference lists."""
    return re.findall(r"^ {3}(kernadv(?:\.\w+)*)$", text, re.MULTILINE)


def names(module: ModuleType) -> list[str]:
    """The public names of a module: those of `__all__`, or those it defines."""
    own = [name for name, x in vars(module).items() if getattr(x, "__module__", None) == module.__name__]
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


def expected(name: str) -> Iterator[str]:
    """The names of a module that have to be found."""
    module = importlib.import_module(name)
    for public in names(module):
        found = getattr(module, public)
        if inspect.isclass(found) or inspect.isfunction(found):
            yield f"{name}.{public}"
        if inspect.isclass(found):
            for attribute in dir(found):
                owner = next((c for c in found.__mro__ if attribute in vars(c)), object)
                value = inspect.getattr_static(found, attribute)
                routine = inspect.isroutine(value) or isinstance(value, (property, classmethod, staticmethod))
                if (
                    routine
                    and not re.match(r"_|set_\w+_request$", attribute)
                    and owner.__module__.startswith("kernadv")
                ):
                    yield f"{name}.{public}.{attribute}"


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
