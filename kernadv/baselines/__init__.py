"""Value baselines, one file a family.

A new family is a new file with a tuple `BASELINES` of objects, and where it has a number to tune a dict `TUNED` of grids
by name; both are found by walking this package.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

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


def discover() -> dict[str, Baseline]:
    """Every baseline of the package by name, with its default settings."""
    return {baseline.name: baseline for module in _families() for baseline in module.BASELINES}


def discover_tuned() -> dict[str, Tuned]:
    """Every tunable family by name, tuned while running over its grid of settings."""
    grids = {name: grid for module in _families() for name, grid in getattr(module, "TUNED", {}).items()}
    return {tuned.name: tuned for tuned in (Tuned(name, grid) for name, grid in grids.items())}


def _families() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            yield importlib.import_module(f"{__name__}.{module.name}")
