"""Attacks on the package, one kind a file.

A kind is a module with its name, `KIND`, and ``parts(short, seed)``: functions without arguments, each of which returns a
`Row`.  Every part runs in a process of its own, so that one that crashes or hangs is counted too.  What follows from `seed`
is the same each time.  Of the package only public calls and states are used.
"""

from types import ModuleType

from attacks import checkpoints, interruptions, kills, memory, timers
from attacks._estimators import warm_up
from attacks._row import Part, Row

#: Every kind by name.
KINDS: dict[str, ModuleType] = {module.KIND: module for module in (kills, interruptions, timers, memory, checkpoints)}

__all__ = ["KINDS", "Part", "Row", "warm_up"]
