"""What the teacher of the warm-up gets wrong: each pair of unit digits has a fixed chance of a fixed mistake.

The skills are shared by all prompts of a task, so that a policy which imitates the teacher is good at some prompts and bad
at others, and learning one prompt helps others, held-out ones too.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Profile(NamedTuple):
    """Beta distribution of the error probabilities."""

    alpha: float
    beta: float


#: How the pass rates of the prompts are spread after the warm-up.
PROFILES = {
    "low": Profile(1.2, 0.8),  # many prompts near 0
    "middle": Profile(0.55, 1.1),
    "bimodal": Profile(0.25, 0.35),  # many near 0, many near 1
}


class Skills:
    """A table of errors.

    Parameters
    ----------
    profile : Profile, optional
        None: no errors.
    seed : int
        Draws the table.
    """

    def __init__(self, profile: Profile | None, seed: int) -> None:
        rng = random.Random(seed)
        pairs = [(d, e) for d in range(10) for e in range(10)]
        self._error = {pair: rng.betavariate(*profile) if profile else 0.0 for pair in pairs}
        self._shift = {pair: rng.randrange(1, 10) for pair in pairs}

    def shift(self, a: int, b: int, rng: random.Random) -> int:
        """What is added to the unit digit of a result of a and b: 0, or with the pair's probability its mistake."""
        pair = a % 10, b % 10
        return self._shift[pair] if rng.random() < self._error[pair] else 0
