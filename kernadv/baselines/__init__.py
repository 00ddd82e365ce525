"""Value baselines, one file a family.

A new family is a new file with a tuple `BASELINES` of objects; it is found by walking this package.
"""

from __future__ import annotations

import importlib
import pkgutil

from kernadv.baselines._base import Baseline, LinearValues, ValueEstimator

__all__ = ["Baseline", "LinearValues", "ValueEstimator", "discover"]


def discover() -> dict[str, Baseline]:
    """Every baseline of the package by name, with its default settings."""
    found: dict[str, Baseline] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            for baseline in importlib.import_module(f"{__name__}.{module.name}").BASELINES:
                found[baseline.name] = baseline
    return found
