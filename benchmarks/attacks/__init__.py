"""Attacks on the package, one kind a file.

A kind is a module with its name, `KIND`; ``parts(short, seed)``, functions without arguments, each of which returns a `Row`;
and `warm_up`, which imports and compiles what all of them need.  Every part runs in a process of its own, so that one that
crashes or hangs is counted too.  What follows from `seed` is the same each time.  Of the package only public calls and
states are used, and the writer of checkpoints.
"""

from types import ModuleType

from benchmarks.attacks import (
    calls,
    checkpoints,
    disk,
    fits,
    interruptions,
    kills,
    memory,
    permutations,
    series,
    timers,
    weights,
)
from benchmarks.attacks._processes import in_processes, name_of
from benchmarks.attacks._row import Part, Row

#: Every kind by name.
KINDS: dict[str, ModuleType] = {
    module.KIND: module
    for module in (kills, disk, interruptions, timers, memory, checkpoints, calls, fits, permutations, weights, series)
}

__all__ = ["KINDS", "Part", "Row", "in_processes", "name_of"]
