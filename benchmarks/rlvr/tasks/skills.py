"""What the teacher of the warm-up gets wrong: each skill, a pair of digits, has a fixed chance of a fixed mistake.

The skills are shared by all prompts of a task, so that a policy which imitates the teacher is good at some prompts and bad
at others, and learning one prompt helps others, held-out ones too.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from itertools import product
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


#: The skills of the study's tasks: the unit digits of the two numbers of a calculation.
UNIT_DIGITS = tuple(product(range(10), repeat=2))


class Skills:
    """A table of errors.

    Parameters
    ----------
    profile : Profile, optional
        None: no errors.
    rng : random.Random
        Draws the table.
    skills : iterable of hashable
    """

    def __init__(self, profile: Profile | None, rng: random.Random, skills: Iterable[Hashable] = UNIT_DIGITS) -> None:
        skills = list(skills)
        self._error = {skill: rng.betavariate(*profile) if profile else 0.0 for skill in skills}
        self._shift = {skill: rng.randrange(1, 10) for skill in skills}

    def mistake(self, skill: Hashable, rng: random.Random) -> int:
        """What is added to a digit of the result: 0, or with the skill's probability its mistake, 1 to 9."""
        return self._shift[skill] if rng.random() < self._error[skill] else 0

    def shift(self, a: int, b: int, rng: random.Random) -> int:
        """The mistake in the unit digit of a result of a and b."""
        return self.mistake((a % 10, b % 10), rng)
