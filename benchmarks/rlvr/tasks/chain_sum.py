"""Sums of two to four numbers with two digits, with every running total written down; unit digits first.

A prompt is ``"73+84+91="`` (37 + 48 + 19) and a trace ``"c73;a73+84=58;f91+58=401?91+58=401;#401."``.
"""

from __future__ import annotations

import random

from benchmarks.rlvr.tasks.base import RECHECK, Problem, Task, backwards, written_step
from benchmarks.rlvr.tasks.skills import Skills

SWAPPED = 0.3  # chance that the operands of a step change places


class ChainSum(Task):
    """Running totals; a mistake in a step carries on to the answer."""

    name = "chain_sum"
    prompt_length = 12
    trace_length = 56
    problems = 3768

    def draw(self, count: int, seed: int) -> list[Problem]:
        """Different problems, two to four terms equally likely."""
        rng = random.Random(seed)
        found: dict[tuple[int, ...], None] = {}
        while len(found) < count:
            found[tuple(rng.randrange(10, 100) for _ in range(rng.randrange(2, 5)))] = None
        return [Problem("+".join(map(backwards, terms)) + "=", terms, backwards(sum(terms))) for terms in found]

    def write(self, problem: Problem, skills: Skills, rng: random.Random) -> str:
        """Start, one line a term, answer; at most one line is written twice."""
        total, *terms = problem.numbers
        trace = written_step(backwards(total), rng, False)
        rechecked = False
        for term in terms:
            result = total + term
            result += (result + skills.shift(total, term, rng)) % 10 - result % 10
            left, right = (term, total) if rng.random() < SWAPPED else (total, term)
            recheck = not rechecked and rng.random() < RECHECK
            rechecked |= recheck
            calculation = f"{backwards(left)}+{backwards(right)}={backwards(result)}"
            trace += written_step(calculation, rng, recheck)
            total = result
        return f"{trace}#{backwards(total)}."
