"""What an attack found: a row of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

#: A piece of an attack that runs in a process of its own; picklable.
Part = Callable[[], "Row"]


@dataclass
class Row:
    """One line of the table; the rows of an attack's parts are merged by `kind` and `done`.

    Attributes
    ----------
    kind : str
        Name of the attack.
    done : str
        What was done.
    count : int
        How often.
    failures : Counter of str
        What was wrong, and how often.
    examples : dict of str
        The first case of what was wrong.
    slowest : float
        CPU seconds of the slowest call; 0: not measured.
    memory : int
        Most bytes that one call took; 0: not measured.
    outcomes : Counter of str
        What came of it where that is no failure, e.g. how many calls were refused.
    """

    kind: str
    done: str
    count: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    memory: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def fail(self, what: str, example: str = "") -> None:
        """Count a failure."""
        self.failures[what] += 1
        self.examples.setdefault(what, example)

    def merge(self, other: Row) -> None:
        """Add what another part found."""
        self.count += other.count
        self.failures += other.failures
        self.examples = {**other.examples, **self.examples}
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)
        self.outcomes += other.outcomes
