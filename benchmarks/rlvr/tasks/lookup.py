"""Chains of one to three look-ups in a table of digits that was drawn at random.

A prompt is ``"374="`` and a trace ``"37=9c;94=2a,#2."``: f(3, 7) is 9, f(9, 4) is 2, and a filler stands behind each.
"""

from __future__ import annotations

import random

from benchmarks.rlvr.tasks.alphabet import FILLERS
from benchmarks.rlvr.tasks.base import Problem, Task
from benchmarks.rlvr.tasks.skills import UNIT_DIGITS, Skills

_rng = random.Random(11)
TABLE = {pair: _rng.randrange(10) for pair in UNIT_DIGITS}
ENDS = ";,?"  # of the first, second and third look-up


class Lookup(Task):
    """Look-ups, each of the last result and the next digit; a mistake carries on.

    Nothing but the table says what is right, and the start learns it from a teacher with errors only.
    """

    name = "lookup"
    prompt_length = 5
    trace_length = 24
    problems = 2000
    latent = False

    def draw(self, count: int, seed: int) -> list[Problem]:
        """Different problems of two to four digits."""
        rng = random.Random(seed)
        found: dict[tuple[int, ...], None] = {}
        while len(found) < count:
            found[tuple(rng.randrange(10) for _ in range(rng.randrange(2, 5)))] = None
        return [self._problem(digits) for digits in found]

    @staticmethod
    def _problem(digits: tuple[int, ...]) -> Problem:
        result, *rest = digits
        for digit in rest:
            result = TABLE[result, digit]
        return Problem("".join(map(str, digits)) + "=", digits, str(result))

    def write(self, problem: Problem, skills: Skills, rng: random.Random) -> str:
        """One look-up after the other, then the answer."""
        result, *rest = problem.numbers
        trace = ""
        for digit, end in zip(rest, ENDS, strict=False):
            found = (TABLE[result, digit] + skills.shift(result, digit, rng)) % 10
            trace += f"{result}{digit}={found}{rng.choice(FILLERS)}{end}"
            result = found
        return f"{trace}#{result}."
