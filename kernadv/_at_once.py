"""Several changes that nothing can interrupt: how a prepared batch becomes part of the state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import starmap
from operator import call
from typing import Any

#: A function and its arguments.
Call = tuple[Any, ...]


def at_once(*calls: Call) -> None:
    """Make the calls, one after the other, in one call of C.

    Python handles a signal between two of its own instructions, never inside a function written in C (documentation of
    `signal`, "Execution of Python signal handlers").  So a handler, and an exception that it raises, comes before all of
    the calls or after them, if each is of a C function: `dict.update`, `operator.setitem`.  What can fail comes first.
    """
    deque(starmap(call, calls), maxlen=0)


def each(function: Callable[..., Any], *arguments: Any) -> Call:
    """One call for all of the arguments, as `map` has them."""
    return (deque, map(function, *arguments), 0)
