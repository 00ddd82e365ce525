"""Weights are counted in a unit of their own: only their ratios matter, and their products must fit, whatever their size."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Weights up to that many units are counted as they are; larger ones get a new unit, in which those before are small.
MOST_UNITS = 2.0**100
#: Weights below that many units count as 0.
LEAST_UNITS = 2.0**-200


def unit_for(largest: Any, unit: Any, xp: Any = np) -> Any:
    """The power of two in which a batch is counted: the `unit` of those before (0: none), unless it outgrows it."""
    outgrown = (largest > 0) & (largest / MOST_UNITS > unit)
    return xp.where((unit <= 0) & (largest > 0) | outgrown, near_power(largest, xp), unit)


def in_units(weights: Any, unit: Any, xp: Any = np) -> Any:
    """Weights in a unit; 0 where they are as good as that."""
    share = weights / (unit + (unit <= 0))
    return xp.where(share >= LEAST_UNITS, share, 0.0)


def near_power(x: Any, xp: Any) -> Any:
    """The power of two nearest on a logarithmic scale, of x > 0."""
    share = xp.frexp(x + (x <= 0))[0]  # from .5 to 1
    return (x + (x <= 0)) / share * xp.where(share < 0.5**0.5, 0.5, 1.0)
