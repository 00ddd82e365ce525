"""Value baselines, one file a family.

A family is a module with a tuple `BASELINES` of objects, and where it has a number to tune a dict `TUNED` of grids by name.
Those of this package are found by walking it; another distribution names its modules in the entry points of the group
`kernadv.baselines`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from kernadv._errors import ArgumentError
from kernadv.baselines._base import (
    NOTHING,
    Baseline,
    LinearBaseline,
    LinearValues,
    Offline,
    SideInformation,
    Traces,
    TraceValues,
    ValueEstimator,
    Values,
)
from kernadv.baselines._tuned import Tuned

__all__ = [
    "NOTHING",
    "Baseline",
    "LinearBaseline",
    "LinearValues",
    "Offline",
    "SideInformation",
    "TraceValues",
    "Traces",
    "Tuned",
    "ValueEstimator",
    "Values",
    "discover",
    "discover_tuned",
]


def __dir__() -> list[str]:
    return __all__


#: Group of the entry points by which other distributions add families.
GROUP = "kernadv.baselines"


def discover() -> dict[str, Baseline]:
    """Every baseline by name, with its default settings: those of the package, then those of other distributions.

    Raises
    ------
    ArgumentError
        If an entry point cannot be loaded, is no family, or takes a name that another family has.

    Examples
    --------
    >>> from kernadv.baselines import discover
    >>> discover()["rloo"].title
    'leave-one-out group mean (RLOO)'
    """
    found: dict[str, Baseline] = {}
    for source, family in _families():
        for baseline in family.BASELINES:
            found[_free(baseline.name, found, source)] = baseline
    return found


def discover_tuned() -> dict[str, Tuned]:
    """Every tunable family by name, tuned while running over its grid of settings.

    Raises
    ------
    ArgumentError
        As `discover`.

    Examples
    --------
    >>> from kernadv.baselines import discover_tuned
    >>> tuned = discover_tuned()
    >>> all(len(one.grid) > 1 for one in tuned.values())
    True
    """
    found: dict[str, Tuned] = {}
    for source, family in _families():
        for name, grid in getattr(family, "TUNED", {}).items():
            tuned = Tuned(name, grid)
            found[_free(tuned.name, found, source)] = tuned
    return found


def _families() -> Iterator[tuple[str, Any]]:
    """Where each family comes from, and its module."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            name = f"{__name__}.{module.name}"
            yield name, importlib.import_module(name)
    for entry in entry_points(group=GROUP):
        source = (
            f"entry point {entry.name} = {entry.value} of {entry.dist.name if entry.dist else 'an unknown package'}"
        )
        try:
            family = entry.load()
        except Exception as error:  # a foreign module, which may raise anything
            raise ArgumentError(f"{source} cannot be loaded: {error!r}; repair or uninstall the package") from error
        baselines = getattr(family, "BASELINES", None)
        if not isinstance(baselines, tuple) or not all(isinstance(one, Baseline) for one in baselines):
            raise ArgumentError(
                f"{source} must name a module with a tuple BASELINES of Baseline objects, got {baselines!r:.80}"
            )
        yield source, family


def _free(name: str, found: dict[str, Any], source: str) -> str:
    """Return a name that no other family has, or raise."""
    if name in found:
        raise ArgumentError(f"{source} has a baseline {name!r}, a name that is taken; rename it")
    return name
