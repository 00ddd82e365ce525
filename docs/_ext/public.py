"""The public names: what the reference lists, so what has to be in it and to show an example."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType


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
