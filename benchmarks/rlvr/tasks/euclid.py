"""reasoning-gym's greatest common divisors, with Euclid's algorithm written down.

A prompt is ``"84,36="`` and a trace ``"b84%36=12;a36%12=0;#12."``.  Problems and rewards are reasoning-gym's.
"""

from __future__ import annotations

import random
from typing import Any

from benchmarks.rlvr.tasks.base import RECHECK, Problem, Task, written_step
from benchmarks.rlvr.tasks.skills import Skills

LEAST, MOST = 2, 5  # divisions of a problem, if all are right


class Euclid(Task):
    """Greatest common divisor of two numbers with two digits; needs the package reasoning-gym."""

    name = "euclid"
    prompt_length = 6
    trace_length = 60
    problems = 3000

    def __init__(self) -> None:
        # Imported here: the other task does without the package.
        from reasoning_gym import create_dataset

        self._create = create_dataset
        self._entries: dict[str, Any] = {}
        self._scorer = create_dataset("gcd", size=1, seed=0)

    def draw(self, count: int, seed: int) -> list[Problem]:
        """Different problems of two to five divisions, larger number first; there are 3,469."""
        found: dict[str, Problem] = {}
        entries = self._create("gcd", size=100 * count, seed=seed, min_value=10, max_value=99)
        for entry in entries:
            a, b = sorted(entry["metadata"]["numbers"], reverse=True)
            if a > b and LEAST <= _divisions(a, b) <= MOST:
                problem = Problem(f"{a},{b}=", (a, b), entry["answer"])
                self._entries[problem.prompt] = entry
                found[problem.prompt] = problem
            if len(found) == count:
                break
        return list(found.values())

    def write(self, problem: Problem, skills: Skills, rng: random.Random) -> str:
        """One division a line, at most one written twice; a trace that mistakes make too long is written anew."""
        while True:
            a, b = problem.numbers
            trace, rechecked = "", False
            while b:
                rest = (a % b + skills.shift(a, b, rng)) % b
                recheck = not rechecked and rng.random() < RECHECK
                rechecked |= recheck
                trace += written_step(f"{a}%{b}={rest}", rng, recheck)
                a, b = b, rest
            trace += f"#{a}."
            if len(trace) <= self.trace_length:
                return trace

    def reward(self, problem: Problem, trace: str) -> float:
        """1 where reasoning-gym's own scorer gives full marks to what stands between the last "#" and the end mark."""
        answer = trace.rpartition("#")[2][:-1] if trace.endswith(".") else None
        return float(self._scorer.score_answer(answer, self._entries[problem.prompt]) == 1.0)


def _divisions(a: int, b: int) -> int:
    count = 0
    while b:
        a, b, count = b, a % b, count + 1
    return count
